"""What only Google's ADK has: agents that it hands over to, that are tools, or that work side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drivers.google_adk import USAGE, GoogleADK, tool
from google.adk.agents import LlmAgent, ParallelAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmResponse
from google.adk.runners import InMemoryRunner
from google.adk.tools.agent_tool import AgentTool
from google.genai import types
from harness import Account
from pikarc.adapters.google_adk import PikarcPlugin
from trial import MODEL, Denied, Given, Trial


class Scripted(BaseLlm):
    calls: list[tuple[str, dict[str, Any]]]

    async def generate_content_async(self, llm_request: Any, stream: bool = False) -> Any:
        part = types.Part(text="done")
        if self.calls:
            name, args = self.calls.pop(0)
            part = types.Part(function_call=types.FunctionCall(name=name, args=args))
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=USAGE)


def scripted(name: str, calls: list[tuple[str, dict[str, Any]]], **options: Any) -> LlmAgent:
    return LlmAgent(name=name, description=name, model=Scripted(model=MODEL, calls=calls), **options)


def inner(given: Given, name: str = "inner") -> LlmAgent:
    return scripted(name, [("t", {})], tools=[tool("t", given.tools["t"])])


def as_tool(given: Given) -> Any:
    return scripted("outer", [("inner", {"request": "go"})], tools=[AgentTool(inner(given))])


def transfer(given: Given) -> Any:
    return scripted("outer", [("transfer_to_agent", {"agent_name": "inner"})], sub_agents=[inner(given)])


def side_by_side(given: Given) -> Any:
    return ParallelAgent(name="outer", sub_agents=[inner(given, "a"), inner(given, "b")])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("deny", ["", "t"])
@pytest.mark.parametrize(("make", "times", "models"), [(as_tool, 1, 4), (transfer, 1, 3), (side_by_side, 2, 4)])
def test_agents_within_agents_are_guarded(
    account: Account, tmp_path: Path, make: Any, times: int, models: int, deny: str
) -> None:
    class Nested(GoogleADK):
        async def run(self, given: Given) -> None:
            runner = InMemoryRunner(app=App(name="nested", root_agent=make(given), plugins=[PikarcPlugin(given.guard)]))
            session = await runner.session_service.create_session(app_name="nested", user_id="ada")
            content = types.Content(role="user", parts=[types.Part(text="go")])
            async for _ in runner.run_async(user_id="ada", session_id=session.id, new_message=content):
                pass

    trial = Trial(Nested(), account, tmp_path, fault=Denied(account, deny) if deny else None).run()
    assert (trial.error, trial.called) == (None, [] if deny else ["t"] * times)
    settled = [step for step in trial.steps if step["type"] == "MODEL_CALL"]
    assert [step["status"] for step in settled] == ["COMPLETED"] * models
    assert sum(step["prompt_tokens"] for step in settled) == 10 * models

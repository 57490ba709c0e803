"""What only the Claude Agent SDK has: a program that goes on when hooks are slow or fail, and sub-agents within it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from claude_agent_sdk import AgentDefinition
from drivers import claude_agent
from harness import Account
from pikarc.adapters.claude_agent import query
from trial import Denied, Elsewhere, Fault, Framework, Given, Trial, silent_port


class Driver(Framework):
    name, package = "Claude Agent SDK", "claude-agent-sdk"

    def __init__(self, run: Callable[[Given], Any]) -> None:
        self._run = run

    async def run(self, given: Given) -> None:
        await self._run(given)


@pytest.fixture
def trial(account: Account, tmp_path: Path) -> Callable[..., Trial]:
    def make(run: Callable[[Given], Any], fault: Fault | None = None, **options: Any) -> Trial:
        return Trial(Driver(run), account, tmp_path, fault=fault, **options).run()

    return make


def test_a_hook_that_is_slower_than_its_time_out_does_not_let_the_tool_run(trial: Callable[..., Trial]) -> None:
    async def run(given: Given) -> None:
        with claude_agent.stand_in(given) as url, tempfile.TemporaryDirectory() as directory:
            options = claude_agent.options(given, url, directory)
            async for _ in query(given.guard, prompt="go", options=options, hook_timeout=1):
                pass

    asked: list[str] = []

    class Silent(Elsewhere):
        def before(self, request: httpx.Request) -> httpx.Response | None:
            asked.append(request.url.path)
            return super().before(request)

    with silent_port() as port:
        done = trial(run, Silent(port), timeout=30)
    # The program has told the model, or has ended with an error of its own.
    assert asked and done.called == []


def test_a_hook_that_raises_does_not_let_the_tool_run(trial: Callable[..., Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(*args: Any) -> Any:
        raise ZeroDivisionError("a bug of the adapter")

    monkeypatch.setattr("pikarc.adapters.claude_agent._Session._before_tool", crash)
    done = trial(claude_agent.ClaudeAgent().run)
    assert done.called == [] and len(done.given.turns) == 2


@pytest.mark.parametrize("deny", ["", "t"])
def test_tools_and_usage_of_the_programs_own_sub_agents_are_counted(
    trial: Callable[..., Trial], account: Account, monkeypatch: pytest.MonkeyPatch, deny: str
) -> None:
    answer = claude_agent.answer
    asked: list[str] = []

    def answers(given: Given, messages: list[Any]) -> list[dict[str, Any]]:
        """The agent hands on to its helper at its first turn, and the helper calls the tool at its first."""
        said = str(messages)
        helper = "please help" in str(messages[0])
        asked.append("helper" if helper else "agent")
        turn = Given(given.guard, given.tools, turns=[] if "tool_result" not in said else ["before"])
        if helper or turn.turns:
            return answer(turn, messages)
        events = answer(Given(given.guard, {"Task": None}), messages)  # type: ignore[dict-item]
        call = {"description": "help", "prompt": "please help", "subagent_type": "helper"}
        events[1]["content_block"]["name"] = "Task"
        events[2]["delta"]["partial_json"] = claude_agent.json.dumps(call)
        return events

    async def run(given: Given) -> None:
        with claude_agent.stand_in(given) as url, tempfile.TemporaryDirectory() as directory:
            helper = AgentDefinition(description="helps", prompt="You help.", tools=["mcp__tools__t"])
            options = claude_agent.options(given, url, directory, agents={"helper": helper})
            options = replace(options, tools=["Task"], allowed_tools=[*options.allowed_tools, "Task"])
            async for _ in query(given.guard, prompt="go", options=options):
                pass

    monkeypatch.setattr(claude_agent, "answer", answers)
    done = trial(run, Denied(account, deny) if deny else None)
    assert (done.error, done.called) == (None, [] if deny else ["t"])
    assert asked.count("helper") == 2  # it works beside the agent, which hears of it in a turn of its own
    (run,) = done.runs
    assert (run["prompt_tokens"], run["completion_tokens"]) == (len(asked) * 10, len(asked) * 5), done.steps

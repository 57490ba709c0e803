"""What only CrewAI has: hooks of the whole process, agents without a crew, and hooks that are not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from crewai import Agent, Crew, Task
from crewai.hooks.dispatch import HookAborted, InterceptionPoint, register, unregister
from drivers.crewai import CrewAI, FakeLLM, tool
from harness import Account
from pikarc import Pikarc
from pikarc.adapters.crewai import PikarcHooks
from trial import MODEL, Denied, Given, Trial


def agent(given: Given) -> Agent:
    tools = [tool(name, fn) for name, fn in given.tools.items()]
    return Agent(role="agent", goal="go", backstory="none", llm=FakeLLM(model=MODEL, given=given), tools=tools, cache=False)


class Alone(CrewAI):
    """An agent without a crew."""

    def run(self, given: Given) -> None:
        hooks = PikarcHooks(given.guard).register()
        try:
            agent(given).kickoff("go")
        finally:
            hooks.unregister()


@pytest.mark.parametrize("deny", [False, True])
def test_an_agent_without_a_crew_is_guarded(account: Account, tmp_path: Path, deny: bool) -> None:
    trial = Trial(Alone(), account, tmp_path, fault=Denied(account) if deny else None).run()
    assert (trial.error, trial.called) == (None, [] if deny else ["t"])
    assert [step["status"] for step in trial.steps] == ["COMPLETED", "BLOCKED" if deny else "COMPLETED", "COMPLETED"]
    assert trial.runs[0]["prompt_tokens"] == 20


def test_outside_of_a_run_all_is_refused(account: Account, tmp_path: Path) -> None:
    with Pikarc(account.api_key, account.server.url, journal_dir=str(tmp_path)) as guard:
        given = Given(guard, {"t": lambda: pytest.fail("it was called")})
        hooks = PikarcHooks(guard).register()
        try:
            crew = Crew(agents=[one := agent(given)], tasks=[Task(description="go", expected_output="done", agent=one)])
            with pytest.raises(HookAborted, match="outside of a run"):
                crew.kickoff()
        finally:
            hooks.unregister()
    assert given.turns == []


def test_a_tool_that_another_hook_blocks_is_not_asked_about(account: Account, tmp_path: Path) -> None:
    def block(context: Any) -> bool:
        return False

    register(InterceptionPoint.PRE_TOOL_CALL, block)
    try:
        trial = Trial(CrewAI(), account, tmp_path).run()
    finally:
        unregister(InterceptionPoint.PRE_TOOL_CALL, block)
    assert (trial.error, trial.called, [s["type"] for s in trial.steps]) == (None, [], ["MODEL_CALL", "MODEL_CALL"])


def test_denials_are_raised_where_one_says_so(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.crewai.PikarcHooks", lambda guard: PikarcHooks(guard, on_denied="raise"))
    trial = Trial(CrewAI(), account, tmp_path, fault=Denied(account)).run()
    assert (type(trial.error).__name__, trial.called, trial.runs[0]["status"]) == ("HookAborted", [], "BLOCKED")

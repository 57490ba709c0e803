"""What only Pydantic AI has: toolsets, and other capabilities beside ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from drivers.pydantic_ai import PydanticAI, agent
from harness import Account
from pikarc.adapters.pydantic_ai import PikarcCapability
from pydantic_ai import Agent, FunctionToolset
from pydantic_ai.capabilities import AbstractCapability
from trial import Denied, Given, Trial


class Toolset(PydanticAI):
    async def run(self, given: Given) -> None:
        toolset: FunctionToolset[Any] = FunctionToolset()
        for name, fn in given.tools.items():
            toolset.add_function(fn, name=name)
        model = agent(Given(given.guard, given.tools, given.turns)).model
        await Agent(model, toolsets=[toolset], capabilities=[PikarcCapability(given.guard)]).run("go")


@pytest.mark.parametrize("deny", [False, True])
def test_tools_of_a_toolset_are_guarded(account: Account, tmp_path: Path, deny: bool) -> None:
    trial = Trial(Toolset(), account, tmp_path, fault=Denied(account) if deny else None).run()
    assert (trial.error, trial.called, len(trial.steps)) == (None, [] if deny else ["t"], 3)


class Answers(AbstractCapability[Any]):
    """Answers in a tool's place."""

    async def wrap_tool_execute(self, ctx: Any, **options: Any) -> Any:
        return "it was not needed"


class Beside(PydanticAI):
    async def run(self, given: Given) -> None:
        guarded = agent(given)
        await guarded.run("go", capabilities=[Answers()])


def test_what_another_capability_answers_is_not_asked_about(account: Account, tmp_path: Path) -> None:
    trial = Trial(Beside(), account, tmp_path).run()
    assert (trial.error, trial.called) == (None, [])
    assert [step["type"] for step in trial.steps] == ["MODEL_CALL", "MODEL_CALL"]


def test_denials_are_raised_where_one_says_so(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.pydantic_ai.PikarcCapability", lambda guard: PikarcCapability(guard, on_denied="raise"))
    trial = Trial(PydanticAI(), account, tmp_path, fault=Denied(account)).run()
    assert (type(trial.error).__name__, trial.called, trial.runs[0]["status"]) == ("PikarcBlockedError", [], "BLOCKED")

"""Holds the adapters to one list of properties, with the real frameworks, their fake models, and the real server."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RESULTS
from harness import Account
from trial import PER_CALL, Answers, Denied, Elsewhere, Fault, Framework, Reviewed, Trial, break_tools, silent_port

DRIVERS = os.environ["PIKARC_DRIVERS"].split(",")
FRAMEWORKS: list[Framework] = [f for name in DRIVERS for f in importlib.import_module(f"drivers.{name}").FRAMEWORKS]

Make = Callable[..., Trial]


def allowed(make: Make) -> None:
    trial = make().run()
    assert trial.error is None
    assert (trial.called, len(trial.given.turns), [run["status"] for run in trial.runs]) == (["t"], 2, ["COMPLETED"])
    assert "t was done" in trial.told
    assert [step["status"] for step in trial.steps] == ["COMPLETED"] * 3
    assert [step["type"] for step in trial.steps] == ["MODEL_CALL", "TOOL_CALL", "MODEL_CALL"]


def denied(make: Make) -> None:
    trial = make(fault="denied").run()
    assert trial.called == []
    assert_told(trial, "not executed")


def assert_told(trial: Trial, words: str) -> None:
    if trial.framework.tells_the_model:
        assert type(trial.error).__name__.startswith(("Pikarc", "Review")), trial.error
    else:
        assert words in trial.told, trial.given.turns
        assert trial.error is None


def stops(trial: Trial) -> None:
    """The tool is not called, the agent is stopped, and its run has ended."""
    trial.run()
    assert (trial.called, len(trial.given.turns)) == ([], 1)
    assert trial.error is not None
    assert [run["status"] for run in trial.runs] == ["FAILED"]


def crash(make: Make) -> None:
    trial = make()
    break_tools(trial.guard)
    stops(trial)


def timed_out(make: Make) -> None:
    with silent_port() as port:
        stops(make(fault=Elsewhere(port), timeout=0.3))


def server_error(make: Make) -> None:
    stops(make(fault=Answers(500)))


def unauthorized(make: Make) -> None:
    stops(make(fault=Answers(401)))


def stopped(make: Make) -> None:
    stops(make(fault=Elsewhere(1)))


def parallel(make: Make) -> None:
    trial = make(names=("a", "b", "c")).run()
    assert (sorted(trial.called), len(trial.steps)) == (["a", "b", "c"], 5)
    trial = make(names=("a", "b", "c"), fault="denied b").run()
    assert "b" not in trial.called
    if not trial.framework.tells_the_model:
        assert sorted(trial.called) == ["a", "c"]


def sub_agents(make: Make) -> None:
    def nested(**options: Any) -> Trial:
        trial = make(**options)
        inner = type(trial.given)(trial.guard, {"inner": trial.tool("inner")}, nested=True)

        async def agent() -> str:
            await trial.framework.run(inner)
            return "it has ended"

        def agent_sync() -> str:
            trial.framework.run(inner)
            return "it has ended"

        trial.given.tools = {"agent": agent_sync if trial.framework.sync else agent}
        return trial.run()

    trial = nested()
    assert (trial.error, trial.called, len(trial.steps)) == (None, ["inner"], 6)
    assert nested(fault="denied inner").called == []


def usage(make: Make) -> None:
    trial = make().run()
    models = [step for step in trial.steps if step["type"] == "MODEL_CALL"]
    kinds = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens")
    assert [tuple(step[kind] for kind in kinds) for step in models] == [PER_CALL, PER_CALL]
    assert sum(run["prompt_tokens"] + run["completion_tokens"] for run in trial.runs) == 2 * (PER_CALL[0] + PER_CALL[1])


def aborted(make: Make) -> None:
    trial = make(on_call=lambda: trial.cancel())
    trial.run()
    assert trial.error is not None
    assert [run["status"] for run in trial.runs] == ["FAILED"]
    assert sorted(step["status"] for step in trial.steps) == ["COMPLETED", "FAILED"]


def kill_switch(make: Make) -> None:
    trial = make(on_call=lambda: trial.account.set_kill_switch(True))
    try:
        trial.run()
    finally:
        trial.account.set_kill_switch(False)
    assert (len(trial.given.turns), trial.called) == (1, ["t"])
    assert trial.error is not None
    assert [run["status"] for run in trial.runs] == ["BLOCKED"]


def review(make: Make) -> None:
    assert make(fault=Reviewed({"status": "approved"})).run().called == ["t"]
    trial = make(fault=Reviewed({"status": "denied", "resolution": "denied", "note": "ask Ann first"})).run()
    assert trial.called == []
    assert_told(trial, "ask Ann first")


PROPERTIES: dict[str, Callable[[Make], None]] = {
    "an allowed tool is executed": allowed,
    "a denied tool is not executed": denied,
    "a crash of the guard blocks": crash,
    "a time-out of the guard blocks": timed_out,
    "a 500 blocks": server_error,
    "a 401 blocks": unauthorized,
    "a stopped server blocks": stopped,
    "parallel tools are each asked for": parallel,
    "tools of sub-agents are covered": sub_agents,
    "usage is booked once, with cached and reasoning tokens": usage,
    "an abort settles": aborted,
    "the kill switch stops a running agent at its next step": kill_switch,
    "a review blocks until approved, and its refusal reaches the model as words": review,
}


@pytest.fixture
def make(framework: Framework, account: Account, tmp_path: Path) -> Make:

    def make(*, fault: Fault | str | None = None, **options: Any) -> Trial:
        if isinstance(fault, str):  # "denied", or "denied NAME"
            fault = Denied(account, fault.removeprefix("denied").strip() or None)
        return Trial(framework, account, tmp_path, fault=fault, **options)

    return make


@pytest.mark.parametrize("name", PROPERTIES)
@pytest.mark.parametrize("framework", FRAMEWORKS, ids=lambda framework: framework.name)
def test_property(framework: Framework, name: str, make: Make) -> None:
    result: dict[str, Any] = {"framework": framework.name, "version": framework.version, "property": name}
    result |= {"holds": False, "reason": framework.impossible.get(name, "")}
    RESULTS.append(result)
    if name in framework.impossible:  # said in the table, and no less true: the property must indeed not hold
        with pytest.raises(AssertionError):
            PROPERTIES[name](make)
        return
    PROPERTIES[name](make)
    result["holds"] = True
    if "denied" in name or "review" in name:
        result["reason"] = framework.tells_the_model

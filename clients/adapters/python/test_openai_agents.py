"""What only OpenAI's Agents SDK has: agents reached by handoffs and as tools, MCP servers, and agents run without the guard."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Account
from trial import Denied, Framework, Trial

from agents import Agent, ComputerTool, RunConfig, Runner, handoff
from agents.mcp import MCPServerStdio
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from drivers.openai_agents import USAGE, tool
from pikarc.adapters.openai_agents import PikarcRunner

QUIET = RunConfig(tracing_disabled=True)
SERVER = """
from mcp.server import MCPServer
server = MCPServer("files")
@server.tool()
def t() -> str:
    open({path!r}, "a").write("t")
    return "t was done"
server.run()
"""


def calls(name: str) -> ModelStep:
    return ModelStep([function_call(name, {}, call_id=f"call-{name}")], usage=USAGE)


DONE = ModelStep([assistant_message("done")], usage=USAGE)


class Driver(Framework):
    name, package = "OpenAI Agents SDK", "openai-agents"

    def __init__(self, run: Callable[[Trial], Any]) -> None:
        self.run_trial, self.trial = run, None

    async def run(self, given: Any) -> None:
        await self.run_trial(self.trial)


@pytest.fixture
def trial(account: Account, tmp_path: Path) -> Callable[..., Trial]:
    def make(run: Callable[[Trial], Any], *, deny: str = "") -> Trial:
        driver = Driver(run)
        driver.trial = Trial(driver, account, tmp_path, fault=Denied(account, deny) if deny else None)
        return driver.trial.run()

    return make


def inner(trial: Trial) -> Agent[Any]:
    return Agent(name="inner", model=ScriptedModel([calls("t"), DONE]), tools=[tool("t", trial.tool("t"))])


@pytest.mark.parametrize("wrap", [lambda agent: agent, handoff], ids=["agent", "handoff"])
@pytest.mark.parametrize("deny", ["", "t"])
def test_an_agent_that_is_handed_off_to_is_guarded(trial: Callable[..., Trial], wrap: Any, deny: str) -> None:
    async def run(trial: Trial) -> None:
        outer = Agent(name="outer", model=ScriptedModel([calls("transfer_to_inner")]), handoffs=[wrap(inner(trial))])
        await PikarcRunner(trial.guard).run(outer, "go", run_config=QUIET)

    done = trial(run, deny=deny)
    assert (done.error, done.called) == (None, [] if deny else ["t"])
    assert [step["type"] for step in done.steps] == ["MODEL_CALL", "MODEL_CALL", "TOOL_CALL", "MODEL_CALL"]


@pytest.mark.parametrize("deny", ["", "t"])
def test_an_agent_that_is_a_tool_is_guarded(trial: Callable[..., Trial], deny: str) -> None:
    async def run(trial: Trial) -> None:
        as_tool = inner(trial).as_tool(tool_name="inner", tool_description="inner")
        outer = Agent(name="outer", model=ScriptedModel([calls_with("inner"), DONE]), tools=[as_tool])
        await PikarcRunner(trial.guard).run(outer, "go", run_config=QUIET)

    def calls_with(name: str) -> ModelStep:
        return ModelStep([function_call(name, {"input": "go"}, call_id="call-inner")], usage=USAGE)

    done = trial(run, deny=deny)
    assert (done.error, done.called) == (None, [] if deny else ["t"])
    assert len(done.steps) == 6


@pytest.mark.parametrize("deny", ["", "t"])
def test_tools_of_an_mcp_server_are_guarded(trial: Callable[..., Trial], tmp_path: Path, deny: str) -> None:
    path = tmp_path / "done"

    async def run(trial: Trial) -> None:
        program = {"command": sys.executable, "args": ["-c", SERVER.format(path=str(path))]}
        async with MCPServerStdio(program, client_session_timeout_seconds=30) as server:
            agent = Agent(name="outer", model=ScriptedModel([calls("t"), DONE]), mcp_servers=[server])
            await PikarcRunner(trial.guard).run(agent, "go", run_config=QUIET)

    done = trial(run, deny=deny)
    assert (done.error, path.exists()) == (None, not deny)
    assert [step["status"] for step in done.steps] == ["COMPLETED", "BLOCKED" if deny else "COMPLETED", "COMPLETED"]


def test_an_agent_under_guard_does_not_run_without(trial: Callable[..., Trial]) -> None:
    async def run(trial: Trial) -> None:
        agent = Agent(name="agent", model=ScriptedModel([DONE, calls("t"), DONE]), tools=[tool("t", trial.tool("t"))])
        await PikarcRunner(trial.guard).run(agent, "go", run_config=QUIET)
        await Runner.run(agent, "go", run_config=QUIET)

    done = trial(run)
    assert done.called == []
    assert "run it by PikarcRunner" in str(done.error)


def test_a_model_of_the_run_is_guarded_too(trial: Callable[..., Trial]) -> None:
    async def run(trial: Trial) -> None:
        config = RunConfig(model=ScriptedModel([DONE]), tracing_disabled=True)
        await PikarcRunner(trial.guard).run(Agent(name="agent"), "go", run_config=config)

    assert [step["type"] for step in trial(run).steps] == ["MODEL_CALL"]


def test_a_tool_that_cannot_be_guarded_is_refused(trial: Callable[..., Trial]) -> None:
    async def run(trial: Trial) -> None:
        agent = Agent(name="agent", model=ScriptedModel([DONE]), tools=[ComputerTool(computer=None)])  # type: ignore[arg-type]
        await PikarcRunner(trial.guard).run(agent, "go", run_config=QUIET)

    done = trial(run)
    assert isinstance(done.error, TypeError) and done.steps == []


def test_denials_are_raised_where_one_says_so(trial: Callable[..., Trial]) -> None:
    async def run(trial: Trial) -> None:
        await PikarcRunner(trial.guard, on_denied="raise").run(inner(trial), "go", run_config=QUIET)

    done = trial(run, deny="t")
    assert (type(done.error).__name__, done.called, done.runs[0]["status"]) == ("PikarcBlockedError", [], "BLOCKED")

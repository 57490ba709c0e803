"""What only LangChain has: graphs of one's own, and agents called with the wrong kind of client."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from drivers.langchain import INPUT, FakeChat, LangChain, agent
from harness import Account
from langchain_core.messages import AIMessage
from langchain_core.tools import StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from pikarc.adapters.langchain import PikarcMiddleware
from trial import Answers, Denied, Fault, Framework, Given, Trial, break_tools


class Graph(LangChain):
    """A graph of one's own, whose tools are guarded."""

    async def run(self, given: Given) -> None:
        tools = [StructuredTool.from_function(name=name, description=name, coroutine=fn) for name, fn in given.tools.items()]
        middleware = PikarcMiddleware(given.guard)
        graph = StateGraph(MessagesState)

        async def calls(state: MessagesState) -> Any:
            return {"messages": [AIMessage("", tool_calls=[{"name": name, "args": {}, "id": name} for name in given.tools])]}

        async def reads(state: MessagesState) -> Any:
            given.turns.append(str(state["messages"][-1].content))
            return {}

        graph.add_node("calls", calls)
        graph.add_node("tools", ToolNode(tools, awrap_tool_call=middleware.awrap_tool_call))
        graph.add_node("reads", reads)
        for before, after in ((START, "calls"), ("calls", "tools"), ("tools", "reads"), ("reads", END)):
            graph.add_edge(before, after)
        await graph.compile().ainvoke({"messages": []})


@pytest.mark.parametrize("fault", ["", "denied", "500", "crash"])
def test_tools_of_a_graph_of_ones_own_are_guarded(account: Account, tmp_path: Path, fault: str) -> None:
    faults: dict[str, Fault] = {"denied": Denied(account), "500": Answers(500)}
    trial = Trial(Graph(), account, tmp_path, fault=faults.get(fault))
    if fault == "crash":
        break_tools(trial.guard)
    trial.run()
    assert trial.called == ([] if fault else ["t"])
    assert (trial.error is not None) == (fault in ("500", "crash"))
    if fault == "denied":
        assert "not executed" in trial.told


@pytest.mark.parametrize("sync", [False, True])
def test_an_agent_that_is_called_the_other_way_is_refused(account: Account, tmp_path: Path, sync: bool) -> None:
    class Other(Framework):
        name, package = "LangChain", "langchain"

        def run(self, given: Given) -> Any:
            chain = agent(given, sync=True)
            if not sync:

                async def within() -> None:
                    chain.invoke(INPUT)

                return within()
            asyncio.run(chain.ainvoke(INPUT))

    Other.sync = sync
    trial = Trial(Other(), account, tmp_path).run()
    assert isinstance(trial.error, TypeError) and (trial.called, trial.given.turns) == ([], [])


def test_denials_are_raised_where_one_says_so(account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Raises(PikarcMiddleware):
        def __init__(self, guard: Any) -> None:
            super().__init__(guard, on_denied="raise")

    monkeypatch.setattr("drivers.langchain.PikarcMiddleware", Raises)
    trial = Trial(LangChain(), account, tmp_path, fault=Denied(account)).run()
    assert (type(trial.error).__name__, trial.called, trial.runs[0]["status"]) == ("PikarcBlockedError", [], "BLOCKED")


def test_a_model_is_named_as_it_is_priced() -> None:
    from pikarc.adapters.langchain import _name

    assert _name(FakeChat(given=None)) == "conformance-model"
    assert _name(object()) == "unknown"

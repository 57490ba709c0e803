"""For LangChain 1.x and LangGraph: middleware of `create_agent`. (Callbacks would not do: LangChain swallows their errors.)"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from langchain.agents.middleware import AgentMiddleware, AgentState, ModelRequest, ModelResponse
from langchain_core.messages import AIMessage, ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from pikarc._client import AsyncPikarc, Pikarc
from pikarc.adapters._calls import Answer, OnDenied, call_tool, call_tool_sync

ToolResult = ToolMessage | Command[Any]


class PikarcMiddleware(AgentMiddleware[AgentState[Any], Any, Any]):
    """Guards an agent: `create_agent(model, tools, middleware=[PikarcMiddleware(guard)])`, invoked within a run of the guard's.

    Put it last, next to the calls themselves. With AsyncPikarc the agent is called by `ainvoke` or `astream`, with Pikarc by
    `invoke` or `stream`. A graph of your own guards its tools by `ToolNode(tools, awrap_tool_call=middleware.awrap_tool_call)`,
    and its models by `guard.wrap` or `run.model_call`.

    Args:
        guard: the client.
        on_denied: "tell" the model in words that a tool was not called, or "raise" PikarcBlockedError.
    """

    def __init__(self, guard: AsyncPikarc | Pikarc, *, on_denied: OnDenied = "tell") -> None:
        super().__init__()
        self._guard = guard
        self._on_denied: OnDenied = on_denied

    async def awrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], Awaitable[ModelResponse[Any]]]
    ) -> ModelResponse[Any]:
        if not isinstance(self._guard, AsyncPikarc):
            _wrong_kind("AsyncPikarc", "ainvoke")

        async def call() -> Answer:
            return _answer(await handler(request))

        run = self._guard.current_run()
        return (await run.model_call(call, model=_name(request.model), input_data={"messages": request.messages})).value

    def wrap_model_call(
        self, request: ModelRequest[Any], handler: Callable[[ModelRequest[Any]], ModelResponse[Any]]
    ) -> ModelResponse[Any]:
        if not isinstance(self._guard, Pikarc):
            _wrong_kind("Pikarc", "invoke")
        run = self._guard.current_run()
        return run.model_call(
            lambda: _answer(handler(request)), model=_name(request.model), input_data={"messages": request.messages}
        ).value

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolResult]]
    ) -> ToolResult:
        if not isinstance(self._guard, AsyncPikarc):
            _wrong_kind("AsyncPikarc", "ainvoke")
        name, args = request.tool_call["name"], request.tool_call["args"]
        return await call_tool(self._guard, name, args, lambda: handler(request), _tell(request), self._on_denied)

    def wrap_tool_call(self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolResult]) -> ToolResult:
        if not isinstance(self._guard, Pikarc):
            _wrong_kind("Pikarc", "invoke")
        name, args = request.tool_call["name"], request.tool_call["args"]
        return call_tool_sync(self._guard, name, args, lambda: handler(request), _tell(request), self._on_denied)


def _wrong_kind(wanted: str, how: str) -> NoReturn:
    raise TypeError(f"an agent that is called by `{how}` is guarded by {wanted}: give PikarcMiddleware one")


def _tell(request: ToolCallRequest) -> Callable[[str], ToolResult]:
    call = request.tool_call
    return lambda sentence: ToolMessage(sentence, name=call["name"], tool_call_id=call["id"] or "", status="error")


def _answer(response: ModelResponse[Any]) -> Answer:
    for message in reversed(response.result):
        if isinstance(message, AIMessage):
            used = message.usage_metadata
            return Answer(response, dict(used) if used else None)
    return Answer(response, None)


def _name(model: Any) -> str:
    """Chat models have their name in one of these."""
    for attribute in ("model_name", "model", "model_id"):
        if isinstance(name := getattr(model, attribute, None), str) and name:
            return name
    return str(getattr(model, "_llm_type", "unknown"))

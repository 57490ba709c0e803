"""For Pydantic AI: a capability that asks before each request to a model and each tool, those of toolsets and MCP included."""

from __future__ import annotations

from typing import Any

from pydantic_ai.capabilities import (
    AbstractCapability,
    CapabilityOrdering,
    ValidatedToolArgs,
    WrapModelRequestHandler,
    WrapToolExecuteHandler,
)
from pydantic_ai.messages import ModelResponse, ToolCallPart
from pydantic_ai.models import ModelRequestContext
from pydantic_ai.tools import RunContext, ToolDefinition

from pikarc._client import AsyncPikarc
from pikarc.adapters._calls import Answer, OnDenied, call_tool, usage


class PikarcCapability(AbstractCapability[Any]):
    """Guards an agent: `Agent(model, tools=[...], capabilities=[PikarcCapability(guard)])`, run within a run of the guard's.

    An agent that a tool calls needs one of its own. Tools that the provider runs are part of the model's request.

    Args:
        guard: the client.
        on_denied: "tell" the model in words that a tool was not called, or "raise" PikarcBlockedError.
    """

    def __init__(self, guard: AsyncPikarc, *, on_denied: OnDenied = "tell") -> None:
        self._guard = guard
        self._on_denied: OnDenied = on_denied

    def get_ordering(self) -> CapabilityOrdering:
        """Next to the calls themselves, so that what other capabilities answer themselves is not asked about."""
        return CapabilityOrdering(position="innermost")

    async def wrap_model_request(
        self, ctx: RunContext[Any], *, request_context: ModelRequestContext, handler: WrapModelRequestHandler
    ) -> ModelResponse:
        async def request() -> Answer:
            response = await handler(request_context)
            return Answer(response, _usage(response), response.model_name)

        answer = await self._guard.current_run().model_call(
            request, model=request_context.model.model_name, input_data={"messages": request_context.messages}
        )
        return answer.value

    async def wrap_tool_execute(
        self,
        ctx: RunContext[Any],
        *,
        call: ToolCallPart,
        tool_def: ToolDefinition,
        args: ValidatedToolArgs,
        handler: WrapToolExecuteHandler,
    ) -> Any:
        def tell(sentence: str) -> Any:
            return sentence

        return await call_tool(self._guard, call.tool_name, args, lambda: handler(args), tell, self._on_denied)


def _usage(response: ModelResponse) -> dict[str, Any] | None:
    u = response.usage
    if not u.has_values():
        return None
    return usage(
        u.input_tokens, u.output_tokens, cached=u.cache_read_tokens, reasoning=u.output_reasoning_tokens, written=u.cache_write_tokens
    )

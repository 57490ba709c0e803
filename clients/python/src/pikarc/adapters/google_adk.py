"""For Google's Agent Development Kit: a plugin, which covers all agents of its runner, and the agents that they have as tools."""

from __future__ import annotations

from typing import Any

from google.adk.agents.callback_context import CallbackContext
from google.adk.models.llm_request import LlmRequest
from google.adk.models.llm_response import LlmResponse
from google.adk.plugins.base_plugin import BasePlugin
from google.adk.tools.base_tool import BaseTool
from google.adk.tools.tool_context import ToolContext

from pikarc._client import AsyncPikarc
from pikarc._errors import PikarcBlockedError
from pikarc._open import OpenAsyncStep
from pikarc.adapters._calls import OnDenied


class PikarcPlugin(BasePlugin):
    """Guards an app: `App(name=..., root_agent=agent, plugins=[PikarcPlugin(guard)])`, run by `run_async` within a run.

    Put it first, so that it hears how each call ended. What it raises arrives as ADK's RuntimeError, whose cause it is. (ADK's
    `run` has a thread of its own, which is outside of the run: every call is refused there.)

    Args:
        guard: the client.
        on_denied: "tell" the model in words that a tool was not called, or "raise" PikarcBlockedError.
    """

    def __init__(self, guard: AsyncPikarc, *, on_denied: OnDenied = "tell") -> None:
        super().__init__(name="pikarc")
        self._guard = guard
        self._on_denied: OnDenied = on_denied
        # The steps under way, by the object that ADK passes before and after a call; kept with it, as ids are used again.
        self._open: dict[int, tuple[object, OpenAsyncStep]] = {}

    def _take(self, call: object) -> OpenAsyncStep | None:
        return self._open.pop(id(call), (None, None))[1]

    async def before_model_callback(self, *, callback_context: CallbackContext, llm_request: LlmRequest) -> LlmResponse | None:
        what = {"contents": llm_request.contents}
        step = await self._guard.current_run().begin_model_call(llm_request.model or "unknown", what)
        self._open[id(callback_context.actions)] = (callback_context.actions, step)
        return None

    async def after_model_callback(self, *, callback_context: CallbackContext, llm_response: LlmResponse) -> LlmResponse | None:
        _, step = self._open.get(id(callback_context.actions), (None, None))
        if step is not None:
            step.see(llm_response)
            if not llm_response.partial:
                self._take(callback_context.actions)
                await step.complete()
        return None

    async def on_model_error_callback(
        self, *, callback_context: CallbackContext, llm_request: LlmRequest, error: Exception
    ) -> LlmResponse | None:
        if (step := self._take(callback_context.actions)) is not None:
            await step.fail(error)
        return None

    async def before_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext
    ) -> dict[str, Any] | None:
        try:
            step = await self._guard.current_run().begin_tool_call(tool.name, tool_args)
        except PikarcBlockedError as blocked:
            if self._on_denied == "raise":
                raise
            return {"error": blocked.for_model()}
        self._open[id(tool_context)] = (tool_context, step)
        return None

    async def after_tool_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext, result: Any
    ) -> dict[str, Any] | None:
        if (step := self._take(tool_context)) is not None:
            await step.complete()
        return None

    async def on_tool_error_callback(
        self, *, tool: BaseTool, tool_args: dict[str, Any], tool_context: ToolContext, error: BaseException
    ) -> dict[str, Any] | None:
        """Also called for a call that is cancelled."""
        if (step := self._take(tool_context)) is not None:
            await step.fail(error)
        return None

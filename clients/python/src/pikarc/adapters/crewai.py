"""For CrewAI: hooks around all models and tools of the process. CrewAI swallows what hooks raise but for HookAborted: all
that goes wrong here is one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from crewai.events import LLMCallCompletedEvent, LLMCallFailedEvent, crewai_event_bus
from crewai.hooks import LLMCallHookContext, ToolCallHookContext
from crewai.hooks.dispatch import HookAborted, InterceptionPoint, register, unregister
from crewai.types.usage_metrics import UsageMetrics

from pikarc._client import Pikarc
from pikarc._errors import PikarcBlockedError
from pikarc._open import OpenStep
from pikarc.adapters._calls import Answer, OnDenied, usage

# Of the call under way, by CrewAI's thread or task. CrewAI hands its context on to what it starts.
_model: ContextVar[OpenStep | None] = ContextVar("pikarc_crewai_model", default=None)
_tool: ContextVar[OpenStep | Exception | None] = ContextVar("pikarc_crewai_tool", default=None)

_FLUSH_SECONDS = 10.0


class PikarcHooks:
    """Guards all crews and agents of the process: `PikarcHooks(guard).register()`, before they are made.

    From then on `crew.kickoff()` is called within a run of the guard's; outside of one, all is refused. What stops a crew arrives
    as CrewAI's HookAborted, whose cause says why. While a hook asks, an event loop waits (`akickoff`).

    Args:
        guard: the client.
        on_denied: "tell" the model in words that a tool was not called, or "raise".
    """

    def __init__(self, guard: Pikarc, *, on_denied: OnDenied = "tell") -> None:
        self._guard = guard
        self._on_denied: OnDenied = on_denied
        self._hooks = {
            InterceptionPoint.PRE_MODEL_CALL: self._before_model,
            InterceptionPoint.POST_MODEL_CALL: self._flush,
            InterceptionPoint.PRE_TOOL_CALL: self._before_tool,
            InterceptionPoint.POST_TOOL_CALL: self._after_tool,
            InterceptionPoint.EXECUTION_END: self._flush,
        }

    def register(self) -> PikarcHooks:
        """Registers the hooks, once for a process, and returns itself."""
        for point, hook in self._hooks.items():
            register(point, hook)
        crewai_event_bus.on(LLMCallCompletedEvent)(self._completed)
        crewai_event_bus.on(LLMCallFailedEvent)(self._failed)
        return self

    def unregister(self) -> None:
        """Takes the hooks back: from then on, crews are not under guard."""
        for point, hook in self._hooks.items():
            unregister(point, hook)
        crewai_event_bus.off(LLMCallCompletedEvent, self._completed)
        crewai_event_bus.off(LLMCallFailedEvent, self._failed)

    def _before_model(self, context: LLMCallHookContext) -> None:
        try:
            name = str(getattr(context.llm, "model", None) or context.llm or "unknown")
            _model.set(self._guard.current_run().begin_model_call(name, {"messages": list(context.messages)}))
        except Exception as exc:
            raise _aborted(exc) from exc

    def _completed(self, source: Any, event: LLMCallCompletedEvent) -> None:
        if (step := _model.get()) is not None:  # in the context of the call, on a thread of the bus
            used = UsageMetrics.from_provider_dict(event.usage)
            step.complete(Answer(None, None if used is None else _usage(used), event.model))

    def _failed(self, source: Any, event: LLMCallFailedEvent) -> None:
        if (step := _model.get()) is not None:
            step.fail(RuntimeError(event.error))

    def _flush(self, context: Any) -> None:
        """Waits for the events that tell usage, which CrewAI carries on threads."""
        crewai_event_bus.flush(_FLUSH_SECONDS)

    def _before_tool(self, context: ToolCallHookContext) -> None:
        _tool.set(None)
        try:
            _tool.set(self._guard.current_run().begin_tool_call(context.tool_name, dict(context.tool_input)))
        except Exception as exc:
            _tool.set(exc)
            raise _aborted(exc) from exc  # CrewAI does not call the tool, but goes on to the hook after it

    def _after_tool(self, context: ToolCallHookContext) -> str | None:
        outcome = _tool.get()
        _tool.set(None)
        if isinstance(outcome, OpenStep):
            outcome.complete()
        elif isinstance(outcome, PikarcBlockedError) and self._on_denied == "tell":
            return outcome.for_model()
        elif outcome is not None:
            raise _aborted(outcome) from outcome
        return None


def _aborted(exc: Exception) -> HookAborted:
    return HookAborted(f"{type(exc).__name__}: {exc}", source="pikarc")


def _usage(used: UsageMetrics) -> dict[str, Any]:
    return usage(
        used.prompt_tokens,
        used.completion_tokens,
        cached=used.cached_prompt_tokens,
        reasoning=used.reasoning_tokens,
        written=used.cache_creation_tokens,
    )

"""For the Claude Agent SDK: `query` under guard. Its program lets a tool run whose hook fails, unless told otherwise: here it is."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import replace
from typing import Any, cast

import claude_agent_sdk as sdk
from claude_agent_sdk.types import HookEvent, HookJSONOutput, StreamEvent

from pikarc._client import AsyncPikarc
from pikarc._errors import PikarcBlockedError
from pikarc._open import OpenAsyncStep

# What the program counts of a model in the end, and what it is called in an answer of the API.
_COUNTS = {
    "inputTokens": "input_tokens",
    "outputTokens": "output_tokens",
    "cacheReadInputTokens": "cache_read_input_tokens",
    "cacheCreationInputTokens": "cache_creation_input_tokens",
}


async def query(
    guard: AsyncPikarc,
    *,
    prompt: str | AsyncIterable[dict[str, Any]],
    options: sdk.ClaudeAgentOptions | None = None,
    hook_timeout: float = 600,
) -> AsyncIterator[sdk.Message]:
    """As the SDK's own, under guard: `async for message in query(guard, prompt="Hello")`, within a run of the guard's.

    Each tool is asked about, those of sub-agents too, and each call of a model that the agent itself makes. What sub-agents
    and the program's own errands use is booked with the agent's last call, or by the model where it is another.

    Args:
        guard: the client.
        prompt, options: as the SDK's.
        hook_timeout: seconds that the program waits for a decision, such as a person's. After that the tool does not run.

    Raises:
        PikarcBlockedError: a model may not be called. (Of a tool, the model is told.)
        APIError: the server could not be asked; the agent has been stopped.
    """
    options = options or sdk.ClaudeAgentOptions()
    session = _Session(guard, options.model or "claude")
    wants_events = options.include_partial_messages
    guarded = replace(options, hooks=session.hooks(options.hooks, hook_timeout), include_partial_messages=True)
    try:
        async for message in sdk.query(prompt=prompt, options=guarded):
            await session.see(message)
            if wants_events or not isinstance(message, StreamEvent):
                yield message
    finally:
        await session.settle_rest()
    if session.stopped_by is not None:
        raise session.stopped_by


class _Session:
    def __init__(self, guard: AsyncPikarc, model: str) -> None:
        self._run = guard.current_run()  # hooks are called from the SDK's own reader, outside of the run
        self._model = model
        self._models: deque[OpenAsyncStep] = deque()  # asked about, and not yet settled
        self._tools: dict[str, OpenAsyncStep] = {}
        self._call: dict[str, Any] = {}  # of the answer that comes in: its model, and its usage so far
        self._booked: Counter[tuple[str, str]] = Counter()
        self.stopped_by: Exception | None = None

    def hooks(self, own: dict[HookEvent, list[sdk.HookMatcher]] | None, timeout: float) -> dict[HookEvent, list[sdk.HookMatcher]]:
        hooks: dict[HookEvent, list[sdk.HookMatcher]] = {}
        for event, matchers in (own or {}).items():
            hooks[event] = list(matchers)
        ours = {"UserPromptSubmit": self._before_model, "PostToolBatch": self._before_model, "PreToolUse": self._before_tool,
                "PostToolUse": self._after_tool, "PostToolUseFailure": self._after_tool}  # fmt: skip
        for event, hook in ours.items():
            matcher = sdk.HookMatcher(hooks=[cast(Any, hook)], timeout=timeout, on_failure="block")
            hooks.setdefault(cast(HookEvent, event), []).append(matcher)
        return hooks

    async def _before_model(self, data: dict[str, Any], id: str | None, context: Any) -> HookJSONOutput:
        if data.get("agent_id"):  # a sub-agent's
            return {}
        try:
            self._models.append(await self._run.begin_model_call(self._model, {"prompt": data.get("prompt")}))
        except Exception as exc:
            return self._stop(exc)
        return {}

    async def _before_tool(self, data: dict[str, Any], id: str | None, context: Any) -> HookJSONOutput:
        output: HookJSONOutput = {}
        try:
            step = await self._run.begin_tool_call(data["tool_name"], data["tool_input"])
            self._tools[data["tool_use_id"]] = step
            return output
        except PikarcBlockedError as blocked:
            reason = blocked.for_model()
        except Exception as exc:
            output, reason = self._stop(exc), f"This call was not executed: the guard cannot be asked. {exc}"
        denial = {"hookEventName": "PreToolUse", "permissionDecision": "deny", "permissionDecisionReason": reason}
        return cast(HookJSONOutput, {**output, "hookSpecificOutput": denial})

    def _stop(self, exc: Exception) -> HookJSONOutput:
        self.stopped_by = self.stopped_by or exc
        return {"continue_": False, "stopReason": f"{type(exc).__name__}: {exc}"}

    async def _after_tool(self, data: dict[str, Any], id: str | None, context: Any) -> HookJSONOutput:
        if (step := self._tools.pop(data["tool_use_id"], None)) is not None:
            failed = data["hook_event_name"] == "PostToolUseFailure"
            await (step.fail(RuntimeError(data.get("error", "it failed"))) if failed else step.complete())
        return {}

    async def see(self, message: sdk.Message) -> None:
        """Reads what each call used from its events, and what else was used from the result."""
        if isinstance(message, sdk.ResultMessage):
            await self._book_rest(cast(dict[str, dict[str, Any]], message.model_usage or {}))
        elif isinstance(message, StreamEvent) and message.parent_tool_use_id is None:
            event = message.event
            if event["type"] == "message_start":
                self._call = {"model": event["message"]["model"], "usage": {**(event["message"].get("usage") or {})}}
            elif event["type"] == "message_delta" and self._call:
                told = cast(dict[str, Any], event.get("usage") or {})
                self._call["usage"] |= {name: count for name, count in told.items() if count is not None}
                self._call["is_last"] = event["delta"].get("stop_reason") != "tool_use"
            elif event["type"] == "message_stop" and self._call and self._models:
                for name in _COUNTS.values():
                    self._booked[self._call["model"], name] += self._call["usage"].get(name) or 0
                if not self._call.get("is_last"):  # the last one waits for the result
                    await self._models.popleft().complete(self._call)
                    self._call = {}

    async def _book_rest(self, total: dict[str, dict[str, Any]]) -> None:
        last, self._call = self._call, {}
        for model, counts in total.items():
            rest = {name: int(counts.get(theirs) or 0) - self._booked[model, name] for theirs, name in _COUNTS.items()}
            if not any(count > 0 for count in rest.values()):
                continue
            for name, count in rest.items():
                self._booked[model, name] += count
            if model == last.get("model") or not await self._book(model, rest):
                used = last.setdefault("usage", {})
                last["usage"] = {**used, **{name: (used.get(name) or 0) + count for name, count in rest.items()}}
        if last and self._models:
            await self._models.popleft().complete(last)

    async def _book(self, model: str, used: dict[str, int]) -> bool:
        """Books what was used of another model, and reports whether that is allowed."""
        try:
            await (await self._run.begin_model_call(model)).complete({"model": model, "usage": used})
        except Exception:
            return False
        return True

    async def settle_rest(self) -> None:
        """Settles what nobody has told the end of: a model that failed, a tool that was not permitted in the end."""
        for step in [*self._models, *self._tools.values()]:
            await step.fail(RuntimeError("the call was not made, or its end was not told"))
        self._models.clear()
        self._tools.clear()

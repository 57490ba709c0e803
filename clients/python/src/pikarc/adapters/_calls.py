"""What adapters share: a guarded call of a tool, and usage in a shape that the server reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from pikarc._client import AsyncPikarc, Pikarc
from pikarc._errors import PikarcBlockedError

T = TypeVar("T")

# Of a call that may not be made: "tell" the model so, in a sentence, or "raise" PikarcBlockedError.
OnDenied = Literal["tell", "raise"]


@dataclass(slots=True)
class Answer:
    """A model's answer with its usage where the client looks for it."""

    value: Any
    usage: dict[str, Any] | None
    model: str | None = None


def usage(input_tokens: int, output_tokens: int, *, cached: int = 0, reasoning: int = 0, written: int = 0) -> dict[str, Any]:
    """Returns usage as OpenAI tells it: cached tokens are part of the input, reasoning tokens of the output."""
    details = {"cached_tokens": cached, **({"cache_write_tokens": written} if written else {})}
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "input_tokens_details": details,
        "output_tokens_details": {"reasoning_tokens": reasoning},
    }


async def call_tool(
    guard: AsyncPikarc, name: str, data: Any, fn: Callable[[], Awaitable[T]], tell: Callable[[str], T], on_denied: OnDenied
) -> T:
    """Calls a tool within the run around it. `tell` makes of the sentence for the model what the framework takes for a result."""
    called = False

    async def call() -> T:
        nonlocal called
        called = True
        return await fn()

    try:
        return await guard.current_run().tool_call(call, tool_name=name, input_data=data)
    except PikarcBlockedError as blocked:
        if called or on_denied == "raise":  # one from within the tool, as of an agent that is a tool, is that call's own
            raise
        return tell(blocked.for_model())


def call_tool_sync(guard: Pikarc, name: str, data: Any, fn: Callable[[], T], tell: Callable[[str], T], on_denied: OnDenied) -> T:
    """As `call_tool`, without asyncio."""
    called = False

    def call() -> T:
        nonlocal called
        called = True
        return fn()

    try:
        return guard.current_run().tool_call(call, tool_name=name, input_data=data)
    except PikarcBlockedError as blocked:
        if called or on_denied == "raise":
            raise
        return tell(blocked.for_model())

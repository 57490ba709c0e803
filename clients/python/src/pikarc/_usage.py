"""Finds what a provider says that a call used, by the shape of what the call returned.

The object goes to the server as it is, which knows what cached, reasoning and other tokens cost. Beside it go the
two counts that every server knows: all input and all output.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard, cast

from pikarc._json import members, payload

if TYPE_CHECKING:
    from pikarc._wire import UpdateStepRequest

logger = logging.getLogger("pikarc")

TokenExtractor = Callable[[Any], Any]

# Where providers' answers and frameworks' messages keep their usage.
_PLACES = ("usage", "usage_metadata", "usageMetadata", "response_metadata", "token_usage")
# The last events of streams, which hold an answer or message that holds the usage.
_INSIDE = ("response", "message", "metadata", "delta")


def find(result: Any, depth: int = 0) -> dict[str, Any] | None:
    """Returns the usage object of an answer or of a stream's event, or None."""
    if result is None or depth > 2 or isinstance(result, str | bytes | int | float):
        return None
    if _may_be_usage(result) and _is_usage(itself := as_mapping(result)):
        return itself
    for name in _PLACES:
        usage = as_mapping(_member(result, name))
        if _is_usage(usage):
            return usage
        if name == "response_metadata" and usage and (inner := find(usage, depth + 1)):
            return inner
    for name in _INSIDE:
        if (inside := _member(result, name)) is not None and (found := find(inside, depth + 1)):
            return found
    return None


def report(result: Any, extractor: TokenExtractor | None) -> UpdateStepRequest:
    """Returns the fields of a report that say what a call used. Never raises: the call has been paid."""
    fields: UpdateStepRequest = {}
    try:
        fields |= _found(result)
    except Exception:
        logger.warning("The usage of a call could not be read; it is reported without", exc_info=True)
    if extractor is not None:
        try:
            prompt, completion = extractor(result)
            fields |= {"prompt_tokens": _said(prompt), "completion_tokens": _said(completion)}
        except Exception:
            logger.warning("token_extractor failed; the call is reported with the usage that was found without it", exc_info=True)
    return fields


def _found(result: Any) -> UpdateStepRequest:
    usage = find(result)
    if usage is None:
        return {}
    usage = _as_openai_tells(usage)
    fields: UpdateStepRequest = {"usage": payload(_nested(usage))}
    prompt, completion = totals(usage)
    if prompt is not None:
        fields["prompt_tokens"] = prompt
    if completion is not None:
        fields["completion_tokens"] = completion
    if named := model(result):
        fields["model"] = named
    return fields


def _as_openai_tells(u: dict[str, Any]) -> dict[str, Any]:
    """Returns LangChain's usage, whose details have names of its own, as one that the server reads."""
    into, out = as_mapping(u.get("input_token_details")), as_mapping(u.get("output_token_details"))
    if into is None and out is None:
        return u
    into, out = into or {}, out or {}
    details = {"cached_tokens": _number(into, "cache_read"), "cache_write_tokens": _number(into, "cache_creation")}
    return {
        "input_tokens": u.get("input_tokens"),
        "input_tokens_details": {name: count for name, count in details.items() if count is not None},
        "output_tokens": u.get("output_tokens"),
        "output_tokens_details": {"reasoning_tokens": _number(out, "reasoning") or 0},
    }


def _nested(value: Any, depth: int = 0) -> Any:
    """Returns a usage object of whatever objects as one of mappings, which is what the server reads."""
    inner = as_mapping(value) if depth < 4 else None
    return value if inner is None else {name: _nested(member, depth + 1) for name, member in inner.items()}


def model(result: Any) -> str | None:
    """Returns the model that an answer or an event of a stream says it is of."""
    for place in (result, _member(result, "message"), _member(result, "response")):
        for name in ("model", "model_version", "modelVersion"):
            if isinstance(named := _member(place, name), str) and named:
                return named
    return None


def totals(u: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Returns all input and all output of a usage object, cached and reasoning tokens included."""
    if "prompt_tokens" in u or "completion_tokens" in u:
        return _number(u, "prompt_tokens"), _number(u, "completion_tokens")
    if "input_tokens" in u or "output_tokens" in u:
        beside = 0
        if not as_mapping(u.get("input_tokens_details")) and not as_mapping(u.get("input_token_details")):
            beside = (_number(u, "cache_read_input_tokens") or 0) + (_number(u, "cache_creation_input_tokens") or 0)
        prompt = _number(u, "input_tokens")
        return (prompt or 0) + beside if prompt is not None or beside else None, _number(u, "output_tokens")
    if "inputTokens" in u or "outputTokens" in u:
        beside = (_number(u, "cacheReadInputTokens") or 0) + (_number(u, "cacheWriteInputTokens") or 0)
        return (_number(u, "inputTokens") or 0) + beside, _number(u, "outputTokens")
    if units := as_mapping(u.get("billed_units")) or as_mapping(u.get("tokens")):
        return _number(units, "input_tokens"), _number(units, "output_tokens")
    if any(name in u for name in _GEMINI):
        def both(api: str, python: str) -> int:
            return _number(u, api) or _number(u, python) or 0
        return (
            both("promptTokenCount", "prompt_token_count") + both("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
            both("candidatesTokenCount", "candidates_token_count") + both("thoughtsTokenCount", "thoughts_token_count"),
        )
    return None, None


_GEMINI = ("promptTokenCount", "candidatesTokenCount", "prompt_token_count", "candidates_token_count")
_KEYS = frozenset(
    ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "inputTokens", "outputTokens", "billed_units")
    + _GEMINI
)


def _may_be_usage(value: Any) -> bool:
    """Reports whether a value has a count, before all of a large answer is turned into a mapping."""
    return any(_member(value, key) is not None for key in _KEYS)


def _is_usage(u: dict[str, Any] | None) -> TypeGuard[dict[str, Any]]:
    return u is not None and not _KEYS.isdisjoint(u)


def as_mapping(value: Any) -> dict[str, Any] | None:
    """Returns an object's members: of a mapping, a pydantic model or a plain object; None for anything else."""
    if isinstance(value, Mapping):
        return members(cast(Any, value))
    if value is None or isinstance(value, str | bytes | int | float | list | tuple):
        return None
    for name in ("model_dump", "to_dict", "dict"):
        if callable(dump := getattr(cast(Any, type(value)), name, None)):
            try:
                made = dump(value)
            except Exception:
                continue
            if isinstance(made, Mapping):
                return members(cast(Any, made))
    return {k: v for k, v in members(getattr(value, "__dict__", None)).items() if not k.startswith("_")} or None


def _member(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return cast(Mapping[Any, Any], value).get(name)
    try:
        return getattr(value, name, None)
    except Exception:
        return None


def _number(u: Mapping[str, Any], name: str) -> int | None:
    try:
        return _count(u.get(name))
    except (TypeError, ValueError, OverflowError):
        return None


def _said(value: Any) -> Any:
    """Returns a count of a token_extractor. What is no count goes to the server as it is, which names it on the step."""
    if isinstance(value, float) and math.isfinite(value) and value >= 0:
        return _count(value)
    return value if value is None or isinstance(value, str | int) else str(value)[:100]


def _count(value: Any) -> int | None:
    """Reads a count; a float is rounded up, for half a token is charged too."""
    if value is None or isinstance(value, bool):
        return None
    whole = int(value)
    return max(0, whole if whole >= value else whole + 1) if isinstance(value, float) else max(0, whole)

"""Makes JSON of whatever an agent hands over. What is no JSON becomes its text: describing a call never fails it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, cast

# Larger payloads are described instead of sent. The server has a bound of its own, which may be lower.
MAX_PAYLOAD = 4 << 20
_MAX_DEPTH = 60
_PREVIEW = 1_000


def encode(body: Mapping[str, Any]) -> bytes:
    """Encodes a request's body."""
    try:
        text = json.dumps(body, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        text = json.dumps(_plain(body, 0, set()), allow_nan=False, separators=(",", ":"))
    return text.encode("ascii")  # json.dumps escapes everything else


def members(value: Any) -> dict[str, Any]:
    """Returns an object's members, or none of what is no object."""
    if not isinstance(value, Mapping):
        return {}
    return {str(k): v for k, v in cast(Mapping[Any, Any], value).items()}


def payload(value: Any) -> Any:
    """Returns a payload as it is sent: itself, or what describes it where it is too large."""
    if value is None:
        return None
    raw = encode({"v": value})[5:-1]
    if len(raw) <= MAX_PAYLOAD:
        return json.loads(raw)
    return {
        "omitted_bytes": len(raw),
        "sha256": hashlib.sha256(raw).hexdigest(),
        "preview": raw[:_PREVIEW].decode("ascii", "replace"),
    }


def _plain(value: Any, depth: int, around: set[int]) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < 1 << 64 else f"(an integer of {value.bit_length()} bits)"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes | bytearray):
        return bytes(value).decode("utf-8", "replace")
    if depth >= _MAX_DEPTH or id(value) in around:
        return _text(value) if depth >= _MAX_DEPTH else "(itself)"
    if isinstance(value, dict):
        inside = around | {id(cast(Any, value))}
        return {_text(k): _plain(v, depth + 1, inside) for k, v in cast(dict[Any, Any], value).items()}
    if isinstance(value, list | tuple | set | frozenset):
        inside = around | {id(cast(Any, value))}
        return [_plain(v, depth + 1, inside) for v in cast(Iterable[Any], value)]
    for name in ("model_dump", "to_dict"):  # pydantic's models, and what follows their example
        if callable(dump := getattr(value, name, None)):
            try:
                return _plain(dump(), depth + 1, around | {id(value)})
            except Exception:
                break
    return _text(value)


def _text(value: Any) -> str:
    try:
        return str(value)[:10_000]
    except Exception:
        return f"({type(value).__name__})"


def describe(error: BaseException) -> str:
    """Returns what is reported of an exception that ended a call."""
    return f"{type(error).__name__}: {_text(error)}"[:10_000]

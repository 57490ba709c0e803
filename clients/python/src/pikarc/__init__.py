"""Puts AI agents under the guard of a Pikarc server.

    async with AsyncPikarc() as guard, guard.run(user_id="ada") as run:
        answer = await run.model_call(ask_the_model, model="gpt-4o")

Before each call the server is asked; after it, what it used is reported. A server that is down, slow or broken stops the
agent, unless one says otherwise (`on_unavailable`). Importing this package is quick; what needs httpx comes at first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pikarc._errors import (
    PikarcBlockedError,
    PikarcError,
    PikarcReviewDeniedError,
    PikarcReviewTimeoutError,
    ReviewDenied,
    ReviewExpired,
    ReviewPending,
)
from pikarc._version import __version__

if TYPE_CHECKING:
    from pikarc._api_errors import (
        APIError,
        Authentication,
        BadRequest,
        ConnectionFailed,
        InvalidRequest,
        NotFound,
        PlanError,
        RateLimited,
        Unavailable,
    )
    from pikarc._client import AsyncPikarc, GuardedRun, GuardedSyncRun, Pikarc

_LATER = {
    **dict.fromkeys(("AsyncPikarc", "GuardedRun", "GuardedSyncRun", "Pikarc"), "pikarc._client"),
    **dict.fromkeys(
        ("APIError", "Authentication", "BadRequest", "ConnectionFailed", "InvalidRequest", "NotFound", "PlanError",
         "RateLimited", "Unavailable"),
        "pikarc._api_errors",
    ),
}  # fmt: skip

__all__ = [
    "APIError",
    "AsyncPikarc",
    "Authentication",
    "BadRequest",
    "ConnectionFailed",
    "GuardedRun",
    "GuardedSyncRun",
    "InvalidRequest",
    "NotFound",
    "Pikarc",
    "PikarcBlockedError",
    "PikarcError",
    "PikarcReviewDeniedError",
    "PikarcReviewTimeoutError",
    "PlanError",
    "RateLimited",
    "ReviewDenied",
    "ReviewExpired",
    "ReviewPending",
    "Unavailable",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name in _LATER:
        value = getattr(importlib.import_module(_LATER[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

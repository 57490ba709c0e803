"""Exceptions for answers that are no decision. Apart, because they need httpx, whose import is slow."""

from __future__ import annotations

from typing import Any, cast

import httpx

from pikarc._errors import PikarcError
from pikarc._json import members


class APIError(PikarcError):
    """The server could not be asked, or did not accept what it was asked.

    Attributes:
        status: the HTTP status, or None where there was no answer.
        detail: what the server says, a text or a list of problems; None without an answer.
        request_id: the server's name for the request, to be found in its log; or None.
    """

    def __init__(
        self, message: str, *, status: int | None = None, detail: Any = None, request_id: str | None = None
    ) -> None:
        self.status = status
        self.detail = detail
        self.request_id = request_id
        super().__init__(message)


class _StatusError(APIError, httpx.HTTPStatusError):
    """An answer with a status of 300 or more, which callers of the published client catch as httpx's error."""

    def __init__(self, message: str, *, request: httpx.Request, response: httpx.Response, detail: Any) -> None:
        # httpx's own initialiser would go on to ours, by the order of the bases.
        Exception.__init__(self, message)
        self.status = response.status_code
        self.detail = detail
        self.request_id = response.headers.get("x-request-id")
        self._request = request
        self.response = response


class BadRequest(_StatusError):
    """400: understood, but not possible."""


class Authentication(_StatusError):
    """401: the API key is missing, unknown, revoked, expired, or may not do this."""


class PlanError(_StatusError):
    """403: the workspace's plan does not have this."""


class NotFound(_StatusError):
    """404: there is no such thing in this workspace."""


class InvalidRequest(_StatusError):
    """422, 413 and other refusals of what was sent. `detail` lists the problems."""


class RateLimited(_StatusError):
    """429, after all attempts."""


class Unavailable(APIError):
    """The server could not decide, after all attempts. The guarded function was not called."""


class _UnavailableStatus(_StatusError, Unavailable):
    """5xx, after all attempts."""


class ConnectionFailed(Unavailable, httpx.TransportError):
    """No answer, or no whole one, after all attempts."""

    def __init__(self, message: str, *, request: httpx.Request | None = None) -> None:
        Exception.__init__(self, message)
        self.status, self.detail, self.request_id = None, None, None
        self._request = request


def for_answer(response: httpx.Response) -> APIError:
    """Makes the exception for an answer that is no success. It repeats neither the key nor the request's body."""
    status = response.status_code
    detail: Any = None
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        pass
    kinds: dict[int, type[_StatusError]] = {
        400: BadRequest, 401: Authentication, 403: PlanError, 404: NotFound, 429: RateLimited,
    }
    kind = kinds.get(status, _UnavailableStatus if status >= 500 or status == 408 else InvalidRequest)
    said = f": {_shorten(detail)}" if detail else ""
    return kind(f"Pikarc API error: {status}{said}", request=response.request, response=response, detail=detail)


def _shorten(detail: Any) -> str:
    if isinstance(detail, list):
        problems = [members(problem) for problem in cast(list[Any], detail)]
        return "; ".join(f"{'.'.join(map(str, p.get('loc', ())))}: {p.get('msg')}" for p in problems)[:500]
    return str(detail)[:500]

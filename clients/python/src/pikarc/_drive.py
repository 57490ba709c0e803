"""Carries the client's logic out, asynchronously or not."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from typing import Any, TypeVar

import httpx

from pikarc._logic import Call, Logic, Send, Sleep
from pikarc._settings import Settings
from pikarc._version import __version__

T = TypeVar("T")

# Tells the server that this client waits for a person where it answers REVIEW.
CLIENT = f"python/{__version__}; review"


def _options(settings: Settings) -> dict[str, Any]:
    return {
        "timeout": httpx.Timeout(settings.timeout, connect=min(settings.connect_timeout, settings.timeout)),
        "limits": httpx.Limits(max_connections=200, max_keepalive_connections=50, keepalive_expiry=60),
        "headers": {"user-agent": f"pikarc-python/{__version__}"},
    }


def _headers(settings: Settings, effect: Send) -> dict[str, str]:
    headers = {"authorization": f"Bearer {settings.api_key}", "pikarc-client": CLIENT, **effect.headers}
    if effect.content is not None:
        headers["content-type"] = "application/json"
    return headers


def _arguments(settings: Settings, effect: Send) -> dict[str, Any]:
    timeout = settings.timeout if effect.timeout is None else effect.timeout
    return {
        "method": effect.method,
        "url": settings.base_url + effect.path,
        "content": effect.content,
        "headers": _headers(settings, effect),
        "timeout": httpx.Timeout(timeout, connect=min(settings.connect_timeout, timeout)),
    }


class AsyncDriver:
    """One pool of connections, for one event loop at a time."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient | None) -> None:
        self._settings, self._given = settings, client
        self._own: httpx.AsyncClient | None = None
        self._of: tuple[int, int] | None = None  # the process and the event loop that the pool belongs to

    def _client(self) -> httpx.AsyncClient:
        if self._given is not None:
            return self._given
        of = (os.getpid(), id(asyncio.get_running_loop()))
        if self._own is None or self._of != of:
            self._own, self._of = httpx.AsyncClient(**_options(self._settings)), of
        return self._own

    async def _perform(self, settings: Settings, effect: Send | Sleep | Call) -> Any:
        if isinstance(effect, Call):
            result = effect.function()
            return await result if inspect.isawaitable(result) else result
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        arguments = _arguments(settings, effect)
        try:
            # httpx bounds each wait, and this the whole: a server that sends a byte now and then is no answer.
            async with asyncio.timeout(effect.timeout or settings.timeout):
                return await self._client().request(**arguments)
        except TimeoutError:
            raise httpx.ReadTimeout("no whole answer in time") from None

    async def run(self, settings: Settings, logic: Logic[T]) -> T:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = logic.send(value) if error is None else logic.throw(error)
            except StopIteration as end:
                return end.value
            value = error = None
            try:
                value = await self._perform(settings, effect)
            except BaseException as exc:  # the logic decides what becomes of it, also of a cancellation
                error = exc

    async def close(self) -> None:
        if self._own is not None and self._of == (os.getpid(), id(asyncio.get_running_loop())):
            await self._own.aclose()
        self._own = None


class SyncDriver:
    """One pool of connections, for all threads of a process."""

    def __init__(self, settings: Settings, client: httpx.Client | None) -> None:
        self._settings, self._given = settings, client
        self._own: httpx.Client | None = None
        self._of: int | None = None  # the process that the pool belongs to
        self._lock = threading.Lock()

    def _client(self) -> httpx.Client:
        if self._given is not None:
            return self._given
        with self._lock:
            if self._own is None or self._of != os.getpid():
                self._own, self._of = httpx.Client(**_options(self._settings)), os.getpid()
            return self._own

    def _perform(self, settings: Settings, effect: Send | Sleep | Call) -> Any:
        if isinstance(effect, Call):
            return effect.function()
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        return self._send(settings, effect)

    def _send(self, settings: Settings, effect: Send) -> httpx.Response:
        arguments = _arguments(settings, effect)
        deadline = time.monotonic() + (effect.timeout or settings.timeout)
        request = self._client().build_request(**arguments)
        response = self._client().send(request, stream=True)
        try:
            # httpx bounds each wait, and this the whole: a server that sends a byte now and then is no answer.
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("no whole answer in time", request=request)
        finally:
            response.close()
        return httpx.Response(
            response.status_code, headers=response.headers, content=bytes(body), request=request
        )

    def run(self, settings: Settings, logic: Logic[T]) -> T:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = logic.send(value) if error is None else logic.throw(error)
            except StopIteration as end:
                return end.value
            value = error = None
            try:
                value = self._perform(settings, effect)
            except BaseException as exc:  # the logic decides what becomes of it
                error = exc

    def close(self) -> None:
        if self._own is not None and self._of == os.getpid():
            self._own.close()
        self._own = None

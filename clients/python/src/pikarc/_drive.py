"""Carries the client's logic out, asynchronously or not."""

from __future__ import annotations

import asyncio
import inspect
import os
import ssl
import threading
import time
import weakref
from typing import Any, TypeVar

import httpx

from pikarc._logic import Call, Finish, Logic, Send, Sleep
from pikarc._settings import Settings
from pikarc._version import __version__

T = TypeVar("T")

# Tells the server that this client waits for a person where it answers REVIEW.
CLIENT = f"python/{__version__}; review"


# Requests under way at once, of an event loop. More wait their turn, which does not count as the server's time.
AT_ONCE = 64

# An answer that is longer is none of Pikarc's. Runs with many steps come in pages.
MAX_ANSWER = 32 << 20


def _options(settings: Settings, tls: ssl.SSLContext) -> dict[str, Any]:
    return {
        "verify": tls,
        "timeout": httpx.Timeout(settings.timeout, connect=min(settings.connect_timeout, settings.timeout)),
        "limits": httpx.Limits(max_connections=None, max_keepalive_connections=AT_ONCE, keepalive_expiry=60),
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


def _answer(response: httpx.Response, body: bytearray) -> httpx.Response:
    return httpx.Response(
        response.status_code, headers=response.headers, content=bytes(body), request=response.request
    )


def _too_long(request: httpx.Request) -> httpx.HTTPError:
    return httpx.RemoteProtocolError(f"the answer is longer than {MAX_ANSWER} bytes", request=request)


class AsyncDriver:
    """One pool of connections for each event loop."""

    def __init__(self, settings: Settings, client: httpx.AsyncClient | None) -> None:
        self._settings, self._given = settings, client
        self._lock = threading.Lock()
        self._tls: ssl.SSLContext | None = None
        self._pid = os.getpid()
        self._pools: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, httpx.AsyncClient] = weakref.WeakKeyDictionary()
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore] = weakref.WeakKeyDictionary()
        self._unfinished: dict[asyncio.Task[None], object] = {}  # and the run that each is of

    def _client(self) -> httpx.AsyncClient:
        if self._given is not None:
            return self._given
        loop = asyncio.get_running_loop()
        if (own := self._pools.get(loop)) is None or self._pid != os.getpid():
            if self._pid != os.getpid():  # connections are the parent's
                self._pid, self._lock, self._pools = os.getpid(), threading.Lock(), weakref.WeakKeyDictionary()
            with self._lock:
                self._tls = self._tls or httpx.create_ssl_context()
                own = self._pools[loop] = httpx.AsyncClient(**_options(self._settings, self._tls))
        return own

    async def _perform(self, settings: Settings, effect: Send | Sleep | Call | Finish) -> Any:
        if isinstance(effect, Call):
            result = effect.function()
            return await result if inspect.isawaitable(result) else result
        if isinstance(effect, Sleep):
            return await asyncio.sleep(effect.seconds)
        if isinstance(effect, Finish):
            return await self._finish(settings, effect)
        if effect.timeout is not None and effect.timeout > settings.timeout:  # a long poll would take up a turn
            return await self._send_in_time(settings, effect)
        loop = asyncio.get_running_loop()
        if (turns := self._turns.get(loop)) is None:
            turns = self._turns[loop] = asyncio.Semaphore(AT_ONCE)
        async with turns:
            return await self._send_in_time(settings, effect)

    async def _send_in_time(self, settings: Settings, effect: Send) -> httpx.Response:
        try:
            # httpx bounds each wait, and this the whole: a server that sends a byte now and then is no answer.
            async with asyncio.timeout(effect.timeout or settings.timeout):
                return await self._send(settings, effect)
        except TimeoutError:
            raise httpx.ReadTimeout("no whole answer in time") from None

    async def _send(self, settings: Settings, effect: Send) -> httpx.Response:
        client = self._client()
        request = client.build_request(**_arguments(settings, effect))
        response = await client.send(request, stream=True)
        if response.is_stream_consumed:  # a client that was given may have read it all
            return response
        try:
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise _too_long(request)
        finally:
            await response.aclose()
        return _answer(response, body)

    async def _finish(self, settings: Settings, effect: Finish) -> None:
        """Carries logic out in a task of its own, which a cancellation of the caller does not reach.

        The caller waits for it all the same, unless it is cancelled again and again, as in a cancelled scope of anyio.
        """
        task = asyncio.get_running_loop().create_task(self._carry_out(settings, effect))
        self._unfinished[task] = effect.run
        task.add_done_callback(self._unfinished.pop)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if not task.done():
                await asyncio.wait((task,), timeout=settings.grace)
            raise

    async def _carry_out(self, settings: Settings, effect: Finish) -> None:
        itself = asyncio.current_task()
        if effect.last and (before := [t for t, run in self._unfinished.items() if run is effect.run and t is not itself]):
            await asyncio.wait(before)
        await self.run(settings, effect.logic)

    async def run(self, settings: Settings, logic: Logic[T]) -> T:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = logic.send(value) if error is None else logic.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                value = error = None  # an exception that its own frame holds is a cycle
            try:
                value = await self._perform(settings, effect)
            except GeneratorExit:  # the event loop is gone, and nothing can be awaited any more
                logic.close()
                raise
            except BaseException as exc:  # the logic decides what becomes of it, also of a cancellation
                error = exc

    async def close(self) -> None:
        loop = asyncio.get_running_loop()
        if unfinished := [task for task in self._unfinished if task.get_loop() is loop]:
            await asyncio.wait(unfinished, timeout=self._settings.grace)
        if self._pid == os.getpid() and (own := self._pools.pop(loop, None)) is not None:
            await own.aclose()


class SyncDriver:
    """One pool of connections, for all threads of a process."""

    def __init__(self, settings: Settings, client: httpx.Client | None) -> None:
        self._settings, self._given = settings, client
        self._own: httpx.Client | None = None
        self._pid = os.getpid()  # the process that the pool belongs to
        self._lock = threading.Lock()

    def _client(self) -> httpx.Client:
        if self._given is not None:
            return self._given
        if self._pid != os.getpid():  # connections are the parent's, and so is the lock, which may have been held
            self._pid, self._own, self._lock = os.getpid(), None, threading.Lock()
        with self._lock:
            if self._own is None:
                self._own = httpx.Client(**_options(self._settings, httpx.create_ssl_context()))
            return self._own

    def _perform(self, settings: Settings, effect: Send | Sleep | Call | Finish) -> Any:
        if isinstance(effect, Call):
            return effect.function()
        if isinstance(effect, Sleep):
            return time.sleep(effect.seconds)
        if isinstance(effect, Finish):
            return self.run(settings, effect.logic)
        return self._send(settings, effect)

    def _send(self, settings: Settings, effect: Send) -> httpx.Response:
        deadline = time.monotonic() + (effect.timeout or settings.timeout)
        client = self._client()
        request = client.build_request(**_arguments(settings, effect))
        response = client.send(request, stream=True)
        if response.is_stream_consumed:  # a client that was given may have read it all
            return response
        try:
            # httpx bounds each wait, and this the whole: a server that sends a byte now and then is no answer.
            body = bytearray()
            for chunk in response.iter_raw():
                body += chunk
                if time.monotonic() > deadline:
                    raise httpx.ReadTimeout("no whole answer in time", request=request)
                if len(body) > MAX_ANSWER:
                    raise _too_long(request)
        finally:
            response.close()
        return _answer(response, body)

    def run(self, settings: Settings, logic: Logic[T]) -> T:
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                effect = logic.send(value) if error is None else logic.throw(error)
            except StopIteration as end:
                return end.value
            finally:
                value = error = None  # an exception that its own frame holds is a cycle
            try:
                value = self._perform(settings, effect)
            except BaseException as exc:  # the logic decides what becomes of it
                error = exc

    def close(self) -> None:
        if self._own is not None and self._pid == os.getpid():
            self._own.close()
        self._own = None

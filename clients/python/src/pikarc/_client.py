"""The clients: AsyncPikarc for asyncio, Pikarc for everything else. They behave alike."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import httpx

from pikarc import _logic, _settings, _wrap
from pikarc._drive import AsyncDriver, SyncDriver
from pikarc._journal import shared
from pikarc._logic import Core, RunState, current_run
from pikarc._open import OpenAsyncStep, OpenStep
from pikarc._settings import ReviewRule, Settings, UnavailableRule
from pikarc._stream import GuardedAsyncStream, GuardedStream, Meter
from pikarc._usage import TokenExtractor

if TYPE_CHECKING:
    from pikarc._wire import CreateStepRequest

T = TypeVar("T")
C = TypeVar("C")
P = ParamSpec("P")
logger = logging.getLogger("pikarc")


# What is asked for. It is counted when it is.
def _model(model: str, input_data: Any) -> CreateStepRequest:
    what: CreateStepRequest = {"type": "MODEL_CALL", "sequence": 0, "model": model}
    return what if input_data is None else {**what, "input_data": input_data}


def _tool(tool_name: str, input_data: Any) -> CreateStepRequest:
    what: CreateStepRequest = {"type": "TOOL_CALL", "sequence": 0, "tool_name": tool_name}
    return what if input_data is None else {**what, "input_data": input_data}


class _Client:
    """What both clients share."""

    _core: Core

    def __init__(self, settings: Settings) -> None:
        self._core = Core(settings, shared(settings.journal_dir, settings.owner()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.settings.base_url}>"

    @property
    def journal_length(self) -> int:
        """The number of reports that wait on disk for the server, of all processes with the same key."""
        return len(self._core.journal)


class AsyncPikarc(_Client):
    """The client for asyncio.

    Args:
        api_key: the key; PIKARC_API_KEY unless given.
        base_url: the server's address; PIKARC_BASE_URL unless given, else http://localhost:8000.
        timeout: seconds for an answer, of which connect_timeout (2) to connect.
        max_retries: attempts after the first one, for trouble that may pass.
        on_unavailable: what becomes of a call that the server cannot be asked about: "closed" (it is not made, and
            Unavailable is raised), "open" (it is made, and reported later), or a function of the exception: True goes on.
        on_review: "wait" for a person, "raise" ReviewPending, or a function of the review's id: True waits.
        review_timeout: seconds to wait for a person.
        journal_dir: where reports are kept that could not be delivered; PIKARC_JOURNAL_DIR unless given, else a
            directory of the user's.
        http_client: an httpx.AsyncClient to send requests with. It is the caller's to close.

    Raises:
        ValueError: for a setting that cannot be right. The key is never in its text.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        max_retries: int | None = None,
        on_unavailable: UnavailableRule | None = None,
        on_review: ReviewRule | None = None,
        review_timeout: float | None = None,
        grace: float | None = None,
        heartbeat: float | None = None,
        journal_dir: str | None = None,
        http_client: httpx.AsyncClient | None = None,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "api_key", "base_url", "http_client", "__class__")}
        super().__init__(_settings.make(api_key, base_url, options))
        self._driver = AsyncDriver(self._core.settings, http_client)

    def with_options(self, **changes: Any) -> AsyncPikarc:
        """Returns a client with other settings and the same connections."""
        twin = object.__new__(AsyncPikarc)
        twin._core = self._core.changed(_settings.changed(self._core.settings, changes))
        twin._driver = self._driver
        return twin

    async def _run(self, logic: _logic.Logic[T]) -> T:
        return await self._driver.run(self._core.settings, logic)

    @asynccontextmanager
    async def run(self, user_id: str, metadata: dict[str, Any] | None = None) -> AsyncGenerator[GuardedRun, None]:
        """Starts a run, which ends with the block: COMPLETED, FAILED on an exception, BLOCKED on a denial.

        Raises:
            PikarcBlockedError: the run may not start.
            APIError: the server could not be asked, or does not accept the request.
        """
        state = await self._run(_logic.start_run(self._core, user_id, metadata))
        run = GuardedRun(self._core, self._run, state)
        token = current_run.set(state)
        beats = asyncio.ensure_future(run.keep_alive())
        failed: BaseException | None = None
        try:
            yield run
        except BaseException as exc:
            failed = exc
            raise
        finally:
            try:
                current_run.reset(token)
            except ValueError:  # left in another context than entered in, as some frameworks do
                pass
            if _loop_is_gone():
                _logic.keep_end(self._core, state)
            else:
                beats.cancel()
                await self._run(_logic.finish(_logic.end_run(self._core, state, failed), state, last=True))

    def tool(self, tool_name: str) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """Makes a decorator that guards each call of a coroutine function within the run that encloses it."""
        return self._decorator(lambda call: _tool(tool_name, call))

    def model(self, model: str) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        """As `tool`, for a function that calls a model."""
        return self._decorator(lambda call: _model(model, call))

    def _decorator(self, what: Callable[[Any], CreateStepRequest]) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
        def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
            @functools.wraps(function)
            async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
                state = _enclosing(self._core)
                call = functools.partial(function, *args, **kwargs)
                return await self._run(_logic.guard(self._core, state, what(_arguments(function, args, kwargs)), call, None))

            return guarded

        return decorate

    def current_run(self) -> GuardedRun:
        """Returns the run around the code that runs now. Raises RuntimeError outside of one."""
        return GuardedRun(self._core, self._run, _enclosing(self._core))

    def wrap(self, client: C, run: GuardedRun | None = None) -> C:
        """Returns a copy of an AsyncOpenAI, an AsyncAnthropic or one of their kin whose calls of models are guarded.

        Chat, responses, messages, embeddings and all else that makes a model work: each is asked about, also in streams and
        as raw responses, within the run around the call, or within `run`. With the copy's `with_options` it stays so.

        Raises:
            TypeError: it is no such client.
        """
        return _wrap.asynchronous(client, (lambda: run) if run is not None else self.current_run)

    async def flush(self) -> int:
        """Delivers the reports that wait on disk, and returns how many were."""
        return await self._run(_logic.deliver(self._core, look=True))

    async def close(self) -> None:
        """Closes the connections. Reports that wait on disk are left to the next client."""
        self._core.journal.close()
        await self._driver.close()

    aclose = close

    async def __aenter__(self) -> AsyncPikarc:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class GuardedRun:
    """A run, within `AsyncPikarc.run`."""

    def __init__(self, core: Core, carry_out: Callable[[_logic.Logic[Any]], Awaitable[Any]], state: RunState) -> None:
        self._core, self._carry_out, self._state = core, carry_out, state

    @property
    def run_id(self) -> str:
        """The run's id; "" for one that the server could not be asked about."""
        return self._state.run_id or ""

    async def model_call(
        self,
        fn: Callable[[], T | Awaitable[T]],
        model: str,
        input_data: dict[str, Any] | None = None,
        token_extractor: TokenExtractor | None = None,
    ) -> T:
        """Asks whether a model may be called, calls `fn`, and reports what it used.

        Args:
            fn: calls the model; without arguments, awaited where it returns an awaitable.
            model: its name, by which it is priced.
            input_data: what is recorded as its input.
            token_extractor: of what `fn` returned, the tokens of the prompt and of the completion. Without it, usage is
                found by the shape of what OpenAI, Anthropic, Gemini, Bedrock, LiteLLM and LangChain return.

        Raises:
            PikarcBlockedError: it may not; `fn` was not called.
            APIError: the server could not be asked; `fn` was not called.
        """
        return await self._guard(_model(model, input_data), fn, token_extractor)

    async def tool_call(
        self, fn: Callable[[], T | Awaitable[T]], tool_name: str, input_data: dict[str, Any] | None = None
    ) -> T:
        """Asks whether a tool may be called, calls `fn`, and reports that it was. Raises as `model_call`."""
        return await self._guard(_tool(tool_name, input_data), fn, None)

    async def model_stream(
        self,
        fn: Callable[[], Any],
        model: str,
        input_data: dict[str, Any] | None = None,
        token_extractor: TokenExtractor | None = None,
    ) -> GuardedAsyncStream[Any]:
        """As `model_call`, where `fn` returns (or is awaited for) an asynchronous iterator of chunks.

        The chunks are passed on untouched. Usage is what the stream says; of one that is broken off, what came is counted.
        """
        what = _model(model, input_data)
        step: _logic.Step = await self._carry_out(_logic.ask(self._core, self._state, what))
        started = time.monotonic()
        try:
            chunks = fn()
            if inspect.isawaitable(chunks):
                chunks = await chunks
            return GuardedAsyncStream(self._carry_out, chunks, self._core, self._state, step, Meter(token_extractor))
        except BaseException as exc:
            cancelled = not isinstance(exc, Exception)
            report = _logic.failed(exc)
            settle = _logic.settle(self._core, self._state, step, started, report, cancelled=cancelled)
            await self._carry_out(_logic.finish(settle, self._state))
            raise

    async def begin_model_call(self, model: str, input_data: Any = None) -> OpenAsyncStep:
        """Asks whether a model may be called, where the call itself is another's to make, as in a framework's callbacks.

        What it comes to must be told: `complete`, `fail` or `leave`. Raises as `model_call`.
        """
        return await self._begin(_model(model, input_data))

    async def begin_tool_call(self, tool_name: str, input_data: Any = None) -> OpenAsyncStep:
        """As `begin_model_call`, for a tool."""
        return await self._begin(_tool(tool_name, input_data))

    async def _begin(self, what: CreateStepRequest) -> OpenAsyncStep:
        step: _logic.Step = await self._carry_out(_logic.ask(self._core, self._state, what))
        return OpenAsyncStep(self._carry_out, self._core, self._state, step, Meter(None))

    async def _guard(self, what: CreateStepRequest, fn: Callable[[], Any], extractor: TokenExtractor | None) -> Any:
        return await self._carry_out(_logic.guard(self._core, self._state, what, fn, extractor))

    async def keep_alive(self) -> None:
        """Gives signs of life while a guarded call is under way; the client runs it beside the block."""
        while self._state.run_id is not None:
            await asyncio.sleep(self._core.settings.heartbeat)
            if self._state.calls:
                await self._carry_out(_logic.heartbeat(self._core, self._state))


class Pikarc(_Client):
    """The client without asyncio; thread-safe. Its arguments are AsyncPikarc's, but for `http_client`, an httpx.Client."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        timeout: float | None = None,
        connect_timeout: float | None = None,
        max_retries: int | None = None,
        on_unavailable: UnavailableRule | None = None,
        on_review: ReviewRule | None = None,
        review_timeout: float | None = None,
        grace: float | None = None,
        heartbeat: float | None = None,
        journal_dir: str | None = None,
        http_client: httpx.Client | None = None,
    ) -> None:
        options = {k: v for k, v in locals().items() if k not in ("self", "api_key", "base_url", "http_client", "__class__")}
        super().__init__(_settings.make(api_key, base_url, options))
        self._driver = SyncDriver(self._core.settings, http_client)

    def with_options(self, **changes: Any) -> Pikarc:
        """Returns a client with other settings and the same connections."""
        twin = object.__new__(Pikarc)
        twin._core = self._core.changed(_settings.changed(self._core.settings, changes))
        twin._driver = self._driver
        return twin

    def _run(self, logic: _logic.Logic[T]) -> T:
        return self._driver.run(self._core.settings, logic)

    @contextmanager
    def run(self, user_id: str, metadata: dict[str, Any] | None = None) -> Generator[GuardedSyncRun, None, None]:
        """Starts a run, which ends with the block. As `AsyncPikarc.run`."""
        state = self._run(_logic.start_run(self._core, user_id, metadata))
        run = GuardedSyncRun(self._core, self._run, state)
        token = current_run.set(state)
        over = threading.Event()
        if state.run_id is not None:
            threading.Thread(target=run.keep_alive, args=(over,), name="pikarc-heartbeat", daemon=True).start()
        failed: BaseException | None = None
        try:
            yield run
        except BaseException as exc:
            failed = exc
            raise
        finally:
            over.set()
            try:
                current_run.reset(token)
            except ValueError:
                pass
            self._run(_logic.end_run(self._core, state, failed))

    def tool(self, tool_name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Makes a decorator that guards each call of a function within the run that encloses it."""
        return self._decorator(lambda call: _tool(tool_name, call))

    def model(self, model: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """As `tool`, for a function that calls a model."""
        return self._decorator(lambda call: _model(model, call))

    def _decorator(self, what: Callable[[Any], CreateStepRequest]) -> Callable[[Callable[P, T]], Callable[P, T]]:
        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            @functools.wraps(function)
            def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
                state = _enclosing(self._core)
                call = functools.partial(function, *args, **kwargs)
                return self._run(_logic.guard(self._core, state, what(_arguments(function, args, kwargs)), call, None))

            return guarded

        return decorate

    def current_run(self) -> GuardedSyncRun:
        """Returns the run around the code that runs now. Raises RuntimeError outside of one."""
        return GuardedSyncRun(self._core, self._run, _enclosing(self._core))

    def wrap(self, client: C, run: GuardedSyncRun | None = None) -> C:
        """Returns a copy of an OpenAI, an Anthropic or one of their kin whose calls of models are guarded.

        Chat, responses, messages, embeddings and all else that makes a model work: each is asked about, also in streams and
        as raw responses, within the run around the call, or within `run`. With the copy's `with_options` it stays so.

        Raises:
            TypeError: it is no such client.
        """
        return _wrap.synchronous(client, (lambda: run) if run is not None else self.current_run)

    def flush(self) -> int:
        """Delivers the reports that wait on disk, and returns how many were."""
        return self._run(_logic.deliver(self._core, look=True))

    def close(self) -> None:
        """Closes the connections. Reports that wait on disk are left to the next client."""
        self._core.journal.close()
        self._driver.close()

    def __enter__(self) -> Pikarc:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class GuardedSyncRun:
    """A run, within `Pikarc.run`. Its methods are those of `GuardedRun`."""

    def __init__(self, core: Core, carry_out: Callable[[_logic.Logic[Any]], Any], state: RunState) -> None:
        self._core, self._carry_out, self._state = core, carry_out, state

    @property
    def run_id(self) -> str:
        """The run's id; "" for one that the server could not be asked about."""
        return self._state.run_id or ""

    def model_call(
        self,
        fn: Callable[[], T],
        model: str,
        input_data: dict[str, Any] | None = None,
        token_extractor: TokenExtractor | None = None,
    ) -> T:
        """Asks whether a model may be called, calls `fn`, and reports what it used. As `GuardedRun.model_call`."""
        return self._guard(_model(model, input_data), fn, token_extractor)

    def tool_call(self, fn: Callable[[], T], tool_name: str, input_data: dict[str, Any] | None = None) -> T:
        """Asks whether a tool may be called, calls `fn`, and reports that it was."""
        return self._guard(_tool(tool_name, input_data), fn, None)

    def model_stream(
        self,
        fn: Callable[[], Any],
        model: str,
        input_data: dict[str, Any] | None = None,
        token_extractor: TokenExtractor | None = None,
    ) -> GuardedStream[Any]:
        """As `model_call`, where `fn` returns an iterator of chunks. As `GuardedRun.model_stream`."""
        what = _model(model, input_data)
        step: _logic.Step = self._carry_out(_logic.ask(self._core, self._state, what))
        started = time.monotonic()
        try:
            return GuardedStream(self._carry_out, fn(), self._core, self._state, step, Meter(token_extractor))
        except BaseException as exc:
            cancelled = not isinstance(exc, Exception)
            report = _logic.failed(exc)
            settle = _logic.settle(self._core, self._state, step, started, report, cancelled=cancelled)
            self._carry_out(_logic.finish(settle, self._state))
            raise

    def begin_model_call(self, model: str, input_data: Any = None) -> OpenStep:
        """Asks whether a model may be called that another calls. As `GuardedRun.begin_model_call`."""
        return self._begin(_model(model, input_data))

    def begin_tool_call(self, tool_name: str, input_data: Any = None) -> OpenStep:
        """As `begin_model_call`, for a tool."""
        return self._begin(_tool(tool_name, input_data))

    def _begin(self, what: CreateStepRequest) -> OpenStep:
        step: _logic.Step = self._carry_out(_logic.ask(self._core, self._state, what))
        return OpenStep(self._carry_out, self._core, self._state, step, Meter(None))

    def _guard(self, what: CreateStepRequest, fn: Callable[[], Any], extractor: TokenExtractor | None) -> Any:
        return self._carry_out(_logic.guard(self._core, self._state, what, fn, extractor))

    def keep_alive(self, over: threading.Event) -> None:
        """Gives signs of life while a guarded call is under way; the client runs it beside the block."""
        while not over.wait(self._core.settings.heartbeat):
            if self._state.calls:
                self._carry_out(_logic.heartbeat(self._core, self._state))


def _loop_is_gone() -> bool:
    """Reports whether nothing can be awaited any more, as where a suspended coroutine is thrown away."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


def _enclosing(core: Core) -> RunState:
    state = core.enclosing()
    if state is None:
        raise RuntimeError("a guarded function is called outside of a run: call it within `with client.run(...)`")
    return state


def _arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    try:
        return dict(inspect.signature(function).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        return {"args": list(args), **kwargs}

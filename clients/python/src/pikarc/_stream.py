"""Passes a stream's chunks on untouched, and settles the step once, however the stream ends."""

from __future__ import annotations

import inspect
import logging
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pikarc import _usage
from pikarc._logic import Core, Finish, Logic, RunState, Step, failed, settle

if TYPE_CHECKING:
    from pikarc._wire import UpdateStepRequest

T = TypeVar("T")
logger = logging.getLogger("pikarc")


class Meter:
    """What a stream has used so far, by its chunks."""

    def __init__(self, extractor: _usage.TokenExtractor | None) -> None:
        self._extractor = extractor
        self._usage: dict[str, Any] = {}
        self._chunks = 0
        self._model: str | None = None

    def see(self, chunk: Any) -> None:
        self._chunks += 1
        try:
            found = _usage.find(chunk)
            self._model = _usage.model(chunk) or self._model
        except Exception:
            return
        # Anthropic says the input at the start and the output at the end: later members win.
        self._usage |= {k: v for k, v in (found or {}).items() if v is not None}

    def report(self, whole: bool) -> UpdateStepRequest:
        """Returns the report's fields. Of a stream that was broken off, its chunks are counted, a token each at least."""
        if self._usage or self._extractor is not None:
            return _usage.report({"usage": self._usage, "model": self._model}, self._extractor)
        return {} if whole or not self._chunks else {"completion_tokens": self._chunks}


class Guarded(Generic[T]):
    """A step that was allowed and is settled once."""

    def __init__(self, core: Core, run: RunState, step: Step, meter: Meter) -> None:
        self._core, self._run, self._step, self._meter = core, run, step, meter
        self._started = time.monotonic()
        self._settled = False
        run.calls.add(self)
        run.open.append(self._left)

    def _left(self, failed: BaseException | None) -> Logic[None]:
        """Settles what its run ends without; failed is what the run ends with."""
        yield from self._end(None, whole=False)

    def _end(self, exc: BaseException | None, whole: bool) -> Logic[None]:
        if self._settled:
            return
        self._settled = True
        self._run.calls.discard(self)
        self._run.open.remove(self._left)
        report: UpdateStepRequest = {"status": "COMPLETED"} if exc is None else failed(exc)
        report |= self._meter.report(whole)
        cancelled = exc is not None and not isinstance(exc, Exception)
        logic = settle(self._core, self._run, self._step, self._started, report, cancelled=cancelled)
        yield Finish(logic, self._run)


class GuardedAsyncStream(Guarded[T]):
    """An asynchronous iterator over a model's chunks. Leaving it early settles the step with what came."""

    def __init__(self, drive: Any, chunks: Any, *args: Any) -> None:
        self._drive, self._chunks, self._iterator = drive, chunks, chunks.__aiter__()  # first: it may be no stream
        super().__init__(*args)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            chunk = await self._iterator.__anext__()
        except StopAsyncIteration:
            await self._drive(self._end(None, whole=True))
            raise
        except BaseException as exc:
            await self._drive(self._end(exc, whole=False))
            raise
        self._meter.see(chunk)
        return chunk

    async def aclose(self) -> None:
        """Ends the stream."""
        try:
            for name in ("aclose", "close"):
                if callable(close := getattr(self._chunks, name, None)):
                    made = close()
                    if inspect.isawaitable(made):
                        await made
                    break
        finally:
            await self._drive(self._end(None, whole=False))

    async def __aenter__(self) -> GuardedAsyncStream[T]:
        return self

    async def __aexit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        if exc is not None:
            await self._drive(self._end(exc, whole=False))
        await self.aclose()


class GuardedStream(Guarded[T]):
    """An iterator over a model's chunks. Leaving it early settles the step with what came."""

    def __init__(self, drive: Any, chunks: Any, *args: Any) -> None:
        self._drive, self._chunks, self._iterator = drive, chunks, iter(chunks)  # first: it may be no stream
        super().__init__(*args)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            chunk = next(self._iterator)
        except StopIteration:
            self._drive(self._end(None, whole=True))
            raise
        except BaseException as exc:
            self._drive(self._end(exc, whole=False))
            raise
        self._meter.see(chunk)
        return chunk

    def close(self) -> None:
        """Ends the stream."""
        try:
            if callable(close := getattr(self._chunks, "close", None)):
                close()
        finally:
            self._drive(self._end(None, whole=False))

    def __enter__(self) -> GuardedStream[T]:
        return self

    def __exit__(self, kind: Any, exc: BaseException | None, trace: Any) -> None:
        if exc is not None:
            self._drive(self._end(exc, whole=False))
        self.close()

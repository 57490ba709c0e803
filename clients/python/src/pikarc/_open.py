"""A step whose call another makes, as a framework between its callbacks. It is settled once, by whatever comes first."""

from __future__ import annotations

from typing import Any

from pikarc._errors import PikarcError
from pikarc._logic import Core, Logic, RunState, Step
from pikarc._stream import Guarded, Meter


class NotReported(PikarcError):
    """The run has ended, and nobody has told what came of a call."""


class _Open(Guarded[Any]):
    def __init__(self, drive: Any, core: Core, run: RunState, step: Step, meter: Meter) -> None:
        self._drive = drive
        self._is_model = step.body["type"] == "MODEL_CALL"
        super().__init__(core, run, step, meter)

    def _left(self, failed: BaseException | None) -> Logic[None]:
        yield from self._end(failed or NotReported("what came of the call was not told"), whole=False)

    def see(self, part: Any) -> None:
        """Looks for usage in an answer of a model, or in a chunk of one."""
        if self._is_model:
            self._meter.see(part)


class OpenAsyncStep(_Open):
    """What `GuardedRun.begin_model_call` and `begin_tool_call` return."""

    async def complete(self, result: Any = None) -> None:
        """Settles it as COMPLETED, with the usage that is found in what the call returned."""
        if result is not None:
            self.see(result)
        await self._drive(self._end(None, whole=True))

    async def fail(self, exc: BaseException) -> None:
        """Settles it as FAILED, by exc; `cancelled` where that is no Exception."""
        await self._drive(self._end(exc, whole=False))

    async def leave(self) -> None:
        """Settles a stream that is left early, with what came."""
        await self._drive(self._end(None, whole=False))


class OpenStep(_Open):
    """As OpenAsyncStep, for `GuardedSyncRun`."""

    def complete(self, result: Any = None) -> None:
        """Settles it as COMPLETED, with the usage that is found in what the call returned."""
        if result is not None:
            self.see(result)
        self._drive(self._end(None, whole=True))

    def fail(self, exc: BaseException) -> None:
        """Settles it as FAILED, by exc; `cancelled` where that is no Exception."""
        self._drive(self._end(exc, whole=False))

    def leave(self) -> None:
        """Settles a stream that is left early, with what came."""
        self._drive(self._end(None, whole=False))

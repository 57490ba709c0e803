"""One run of a small agent: its fake model calls the tools once, and then says "done". And the faults that can be injected."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
from harness import Account
from pikarc import AsyncPikarc, Pikarc

MODEL = "conformance-model"
# Of each call: 10 in, 4 of them cached; 5 out, 2 of them reasoning.
PER_CALL = (10, 5, 4, 2)
PATIENCE_SECONDS = 60


@dataclass
class Given:
    """What a framework's agent is made of."""

    guard: Any
    tools: dict[str, Callable[[], Any]]
    turns: list[str] = field(default_factory=list)
    nested: bool = False  # whether it is the agent of another's tool

    def is_first(self, told: Any) -> bool:
        """Notes what the model was told, and reports whether it is its first turn, in which it calls the tools."""
        self.turns.append(told if isinstance(told, str) else json.dumps(told, default=str))
        return len(self.turns) == 1


class Framework:
    """A framework under test: how an agent of it is built and run."""

    name: ClassVar[str]
    package: ClassVar[str]
    sync: ClassVar[bool] = False  # whether it is run with Pikarc, and its tools are no coroutines
    tells_the_model: ClassVar[str] = ""  # why a denial does not reach the model as words, where it does not
    impossible: ClassVar[dict[str, str]] = {}  # properties that cannot hold, and why

    @property
    def version(self) -> str:
        return importlib.metadata.version(self.package)

    def run(self, given: Given) -> Any:
        """Runs an agent; a coroutine unless `sync`."""
        raise NotImplementedError


class Fault:
    """What becomes of the requests by which a tool's step is asked for. This one leaves them alone."""

    def before(self, request: httpx.Request) -> httpx.Response | None:
        """Changes a request, or answers in the server's place."""

    def after(self, response: httpx.Response | None) -> httpx.Response | None:
        """Changes the server's answer; None where there was none."""
        return response


class Answers(Fault):
    def __init__(self, status: int) -> None:
        self._status = status

    def before(self, request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(self._status, text="{}", request=request)


class Elsewhere(Fault):
    """Sends them to a port that is closed, or that accepts and never answers."""

    def __init__(self, port: int) -> None:
        self._port = port

    def before(self, request: httpx.Request) -> httpx.Response | None:
        request.url = request.url.copy_with(port=self._port)


class Denied(Fault):
    """Denies by the real kill switch, for this one step."""

    def __init__(self, account: Account, name: str | None = None) -> None:
        self._account, self._name = account, name
        self._on = False

    def before(self, request: httpx.Request) -> httpx.Response | None:
        asked = json.loads(request.content)["tool_name"]
        if self._name in (None, asked, asked.rpartition("__")[2]):  # those of MCP have their server before them
            self._on = True
            self._account.set_kill_switch(True)

    def after(self, response: httpx.Response | None) -> httpx.Response | None:
        if self._on:
            self._on = False
            self._account.set_kill_switch(False)
        return response


class Reviewed(Fault):
    """Says that a person must approve, and then what the person said."""

    def __init__(self, verdict: dict[str, Any]) -> None:
        self.verdict = verdict

    def after(self, response: httpx.Response | None) -> httpx.Response | None:
        assert response is not None
        step = json.loads(response.read())
        return httpx.Response(201, json={**step, "decision": {"outcome": "REVIEW"}, "review_id": "r1"}, request=response.request)


@contextmanager
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class _Transport(httpx.AsyncBaseTransport, httpx.BaseTransport):
    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._turn, self._turn_sync = asyncio.Lock(), threading.Lock()  # one at a time: a denial is meant for one step
        self._real: Any = httpx.HTTPTransport() if trial.framework.sync else httpx.AsyncHTTPTransport()

    def _fault(self, request: httpx.Request) -> tuple[Fault, httpx.Response | None]:
        trial = self._trial
        if request.url.path.startswith("/v1/reviews/"):
            assert isinstance(trial.fault, Reviewed)
            return Fault(), httpx.Response(200, json=trial.fault.verdict, request=request)
        is_tool = request.method == "POST" and request.url.path.endswith("/steps") and b'"tool_name"' in request.content
        fault = trial.fault if is_tool else Fault()
        return fault, fault.before(request)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        async with self._turn:
            fault, answer = self._fault(request)
            try:
                answer = answer or await self._real.handle_async_request(request)
                answer.request = request
                await answer.aread()
            finally:
                answer = fault.after(answer)
        assert answer is not None
        return answer

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with self._turn_sync:
            fault, answer = self._fault(request)
            try:
                answer = answer or self._real.handle_request(request)
                answer.request = request
                answer.read()
            finally:
                answer = fault.after(answer)
        assert answer is not None
        return answer


class Trial:
    """What an agent did, once it has been run."""

    _count = 0

    def __init__(
        self,
        framework: Framework,
        account: Account,
        directory: Path,
        *,
        fault: Fault | None = None,
        names: tuple[str, ...] = ("t",),
        on_call: Callable[[], Any] | None = None,
        **options: Any,
    ) -> None:
        Trial._count += 1
        self.user = f"user-{Trial._count}"
        self.framework, self.account, self.fault = framework, account, fault or Fault()
        self.called: list[str] = []
        self.error: BaseException | None = None
        self._on_call = on_call
        settings = {"api_key": account.api_key, "base_url": account.server.url, "journal_dir": str(directory / self.user)}
        settings |= {"max_retries": 0, "timeout": 5.0, **options}
        transport = _Transport(self)
        self.guard: Any = (
            Pikarc(**settings, http_client=httpx.Client(transport=transport))
            if framework.sync
            else AsyncPikarc(**settings, http_client=httpx.AsyncClient(transport=transport))
        )
        self.given = Given(self.guard, {name: self.tool(name) for name in names})

    def tool(self, name: str) -> Callable[[], Any]:
        if self.framework.sync:

            def call_sync() -> str:
                self.called.append(name)
                if self._on_call:
                    self._on_call()
                return f"{name} was done"

            return call_sync

        async def call() -> str:
            self.called.append(name)
            if self._on_call and (waiting := self._on_call()) is not None:
                await waiting
            return f"{name} was done"

        return call

    def run(self) -> Trial:
        if self.framework.sync:
            try:
                with self.guard, self.guard.run(user_id=self.user):
                    self.framework.run(self.given)
            except (Exception, KeyboardInterrupt) as exc:
                self.error = exc
        else:
            asyncio.run(self._run())
        self.runs = [self.account.run(run["id"]) for run in self.account.runs(user_id=self.user)]
        self.steps = [step for run in self.runs for step in run["steps"]]
        return self

    async def _run(self) -> None:
        async def agent() -> None:
            async with self.guard, self.guard.run(user_id=self.user):
                await self.framework.run(self.given)

        self.task = asyncio.ensure_future(agent())
        done, _ = await asyncio.wait((self.task,), timeout=PATIENCE_SECONDS)
        assert done, "the agent hangs"
        self.error = asyncio.CancelledError() if self.task.cancelled() else self.task.exception()

    def cancel(self) -> Awaitable[None]:
        """Cancels the agent from within its tool, which then waits for ever."""
        if self.framework.sync:
            raise KeyboardInterrupt
        self.task.get_loop().call_soon_threadsafe(self.task.cancel)
        return asyncio.Event().wait()  # type: ignore[return-value]

    @property
    def told(self) -> str:
        """What the model was told last."""
        return self.given.turns[-1]


def break_tools(guard: Any) -> None:
    """Makes the guard crash when it is asked about a tool."""
    current = guard.current_run

    class Broken:
        def __getattr__(self, name: str) -> Any:
            if "tool" in name:
                raise ZeroDivisionError("a bug")
            return getattr(current(), name)

    guard.current_run = Broken



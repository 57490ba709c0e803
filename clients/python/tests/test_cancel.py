"""A run that is cancelled, wherever that is: its step is settled, it has ended, and its place is free."""

from __future__ import annotations

import asyncio
import gc
import json
import types
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import anyio
import httpx
import pytest
from conftest import MODEL
from pikarc import AsyncPikarc

USED = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


@types.coroutine
def interrupted(work: Coroutine[Any, Any, Any], at: int, interrupt: Callable[[], object]) -> Generator[Any, Any, bool]:
    """Carries a coroutine out, and interrupts it where it waits for the nth time. Says whether it came so far."""
    value: Any = None
    error: BaseException | None = None
    waits = 0
    while True:
        try:
            awaited = work.send(value) if error is None else work.throw(error)
        except StopIteration:
            return waits >= at
        waits += 1
        if waits == at:
            interrupt()
        value = error = None
        try:
            value = yield awaited
        except BaseException as exc:
            error = exc


class Agent:
    """What is cancelled: a model call, a stream and a tool call within one run. It notes how far it came."""

    def __init__(self, client: AsyncPikarc) -> None:
        self.client = client
        self.within = ""
        self.finished = False

    async def call(self, name: str) -> dict[str, Any]:
        self.within = name
        for _ in range(2):
            await asyncio.sleep(0)
        self.within = ""
        return USED

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        self.within = "stream"
        for _ in range(3):
            await asyncio.sleep(0)
            yield {"text": "so"}
        yield USED
        self.within = ""

    async def work(self) -> None:
        async with self.client.run("ada") as run:
            await run.model_call(lambda: self.call("model"), MODEL)
            async for _ in await run.model_stream(self.chunks, MODEL):
                pass
            await run.tool_call(lambda: self.call("tool"), "search")
            self.finished = True


def assert_settled(run: dict[str, Any], agent: Agent) -> None:
    assert run["status"] == ("COMPLETED" if agent.finished else "FAILED"), run
    for step in run["steps"]:
        assert step["status"] in ("COMPLETED", "FAILED"), step
        assert (step["error"] == "cancelled") == (step["status"] == "FAILED"), step
    if agent.within:
        assert run["steps"][-1]["error"] == "cancelled"
    assert all(step["status"] == "COMPLETED" for step in run["steps"][:-1])


async def test_cancelled_wherever_it_waits_a_run_ends_and_its_step_is_settled(options, details):
    for at in range(1, 1000):
        async with AsyncPikarc(**options) as client:
            agent = Agent(client)
            reached = await asyncio.wait_for(cancelled_at(agent, at), 30)
            assert client.journal_length == 0
        run = details()[-1]
        assert len(details()) == at  # the one place for a run was free each time
        assert_settled(run, agent)
        if not reached:
            assert at > 20 and len(run["steps"]) == 3 and agent.finished
            return
    pytest.fail("it never ends")


async def cancelled_at(agent: Agent, at: int) -> bool:
    """Runs the agent in a task of its own, cancelled where it waits for the nth time. Says whether it came so far."""
    tasks: list[asyncio.Task[bool]] = []

    async def work() -> bool:
        return await interrupted(agent.work(), at, lambda: tasks[0].cancel())

    tasks.append(asyncio.create_task(work()))
    try:
        return await tasks[0]
    except asyncio.CancelledError:
        return True


async def test_cancelled_by_a_scope_that_cancels_every_wait_a_run_still_ends(options, details):
    """anyio's scopes, of which servers and agents' frameworks make use, cancel each later wait as well."""
    for at in range(1, 1000):
        reached = False
        async with AsyncPikarc(**options) as client:
            agent = Agent(client)
            with anyio.CancelScope() as scope:
                reached = await interrupted(agent.work(), at, scope.cancel)
        run = details()[-1]
        assert len(details()) == at
        assert_settled(run, agent)
        if not reached and not scope.cancel_called:
            assert at > 20 and agent.finished
            return
    pytest.fail("it never ends")


async def test_a_call_that_takes_too_long_is_settled_and_its_run_goes_on(options, details):
    async with AsyncPikarc(**options) as client, client.run("ada") as run:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await run.model_call(asyncio.Event().wait, MODEL)
        (step,) = details()[0]["steps"]
        assert (step["status"], step["error"]) == ("FAILED", "cancelled")
        await run.model_call(lambda: USED, MODEL)
    (run,) = details()
    assert run["status"] == "COMPLETED" and [s["status"] for s in run["steps"]] == ["FAILED", "COMPLETED"]


async def test_cancelled_while_a_person_is_asked_for_a_step_is_settled(options):
    reports: list[tuple[str, Any]] = []
    asked = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith("/v1/reviews/"):
            asked.set()
            await asyncio.Event().wait()
        if request.url.path.endswith("/steps"):
            return httpx.Response(201, json={"id": "s", "decision": {"outcome": "REVIEW"}, "review_id": "r"})
        if request.url.path != "/v1/runs/":
            reports.append((request.url.path, json.loads(request.content)))
        return httpx.Response(201, json={"id": "r", "decision": {"outcome": "ALLOW"}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http_client:
        async with AsyncPikarc(**options, http_client=http_client) as client:
            task = asyncio.create_task(Agent(client).work())
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
    (step, told), (run, end) = reports
    assert (step, told["status"], told["error"]) == ("/v1/runs/r/steps/s", "FAILED", "cancelled")
    assert (run, end) == ("/v1/runs/r/end", {"status": "FAILED"})


@pytest.mark.filterwarnings("ignore:.*(unclosed|socket|transport).*")  # its connections end with the loop
def test_a_coroutine_whose_loop_is_gone_keeps_its_reports_for_the_next(options, details):
    loop = asyncio.new_event_loop()
    called = asyncio.Event()

    async def call() -> None:
        called.set()
        await asyncio.Event().wait()

    async def agent() -> None:
        async with AsyncPikarc(**options).run("ada") as run:
            await run.model_call(call, MODEL)

    work = agent()
    task = loop.create_task(work)
    loop.run_until_complete(called.wait())
    loop.close()
    assert details()[0]["status"] == "RUNNING"
    work.close()  # as the interpreter does when it ends
    del task, work
    gc.collect()

    async def next_process() -> int:
        async with AsyncPikarc(**options) as client:
            return await client.flush()

    assert asyncio.run(next_process()) == 2
    (run,) = details()
    assert run["status"] == "FAILED" and [(s["status"], s["error"]) for s in run["steps"]] == [("FAILED", "cancelled")]

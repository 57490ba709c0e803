"""Many calls at once, from threads, and for long; and what importing the package costs."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
from conftest import MODEL
from pikarc import AsyncPikarc, Pikarc

USED = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


def only_run(details):
    (run,) = details()
    assert run["status"] == "COMPLETED"
    return run


async def test_a_thousand_calls_at_once_are_each_asked_about_and_booked(options, details):
    called = 0

    async def call():
        nonlocal called
        called += 1
        await asyncio.sleep(0)
        return USED

    async with AsyncPikarc(**options, timeout=60) as client:
        async with client.run("ada") as run:
            await asyncio.gather(*(run.model_call(call, MODEL) for _ in range(1000)))
        assert client.journal_length == 0
    run = only_run(details)
    assert (called, run["step_count"], run["prompt_tokens"], run["completion_tokens"]) == (1000, 1000, 3000, 2000)


def test_threads_share_a_client_beside_asyncio(options, account, details):
    account.configure(max_concurrent_runs=100)
    client = Pikarc(**options)
    asynchronous = AsyncPikarc(**options)

    def calls(n):
        with client.run("thread") as run:
            for _ in range(10):
                run.model_call(lambda: USED, MODEL)

    async def loop():
        async with asynchronous.run("loop") as run:
            await asyncio.gather(*(run.model_call(lambda: USED, MODEL) for _ in range(10)))
        await asynchronous.close()

    with client, ThreadPoolExecutor(20) as pool:
        work = [pool.submit(calls, n) for n in range(16)]
        work += [pool.submit(asyncio.run, loop()) for _ in range(4)]  # one client in four event loops at once
        for one in work:
            one.result()
    runs = details()
    assert len(runs) == 20 and {r["status"] for r in runs} == {"COMPLETED"}
    assert sum(r["prompt_tokens"] for r in runs) == 600
    assert [t.name for t in threading.enumerate() if t.name == "pikarc-heartbeat" and t.is_alive()] == []


def answer(request):
    """A server that allows all, at the process's edge: what is measured is the client."""
    if request.method == "POST" and not request.url.path.endswith("/end"):
        return httpx.Response(201, json={"id": "x", "status": "RUNNING", "decision": {"outcome": "ALLOW"}})
    return httpx.Response(200, json={"id": "x", "status": "COMPLETED"})


async def test_many_calls_leave_nothing_behind(options, pytestconfig):
    many = pytestconfig.getoption("--calls")
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http_client:
        async with AsyncPikarc(**options, http_client=http_client) as client:

            async def calls(count):
                for _ in range(count // 10):
                    async with client.run("ada") as run:
                        for _ in range(9):
                            await run.model_call(lambda: USED, MODEL)
                        async for _ in await run.model_stream(stream, MODEL):
                            pass

            async def stream():
                yield USED

            await calls(1000)
            gc.collect()
            before = len(gc.get_objects())
            await calls(many)
            gc.collect()
            grown = len(gc.get_objects()) - before
    assert grown < 200, f"{grown} objects more after {many} calls"


async def test_a_long_call_shows_signs_of_life(options):
    beats = asyncio.Event()

    def note(request):
        if request.url.path.endswith("/heartbeat"):
            beats.set()
            raise RuntimeError("a sign of life that fails must fail nothing else")
        return answer(request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(note)) as http_client:
        async with AsyncPikarc(**options, heartbeat=0.01, http_client=http_client) as client, client.run("ada") as run:
            await asyncio.wait_for(run.tool_call(beats.wait, "slow"), 30)


def test_importing_the_package_is_quick_and_needs_no_httpx():
    """80 ms on any machine: its own share of it, measured against an interpreter that imports nothing."""
    code = "import time; t = time.process_time(); import pikarc; print((time.process_time() - t) * 1000, 'httpx' in __import__('sys').modules)"

    def once():
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        took, httpx_too = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        ).stdout.split()
        assert httpx_too == "False"
        return float(took)

    assert min(once() for _ in range(5)) < 80

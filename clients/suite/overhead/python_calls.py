"""Times guarded calls beside the same two requests by httpx alone, in turns: `python_calls.py async|sync CALLS`."""

import asyncio
import json
import os
import sys
import time

import httpx
from pikarc import AsyncPikarc, Pikarc

BASE, KEY = os.environ["PIKARC_BASE_URL"], os.environ["PIKARC_API_KEY"]
HEADERS = {"authorization": f"Bearer {KEY}"}
STEP = {"type": "TOOL_CALL", "sequence": 1, "tool_name": "t"}
DONE = {"status": "COMPLETED", "duration_ms": 0}
calls = int(sys.argv[2])
bare, guarded = [], []


def note(times, started):
    times.append(time.perf_counter() - started)


async def asynchronously():
    async with httpx.AsyncClient(base_url=BASE, headers=HEADERS) as client, AsyncPikarc() as guard:
        run_id = (await client.post("/v1/runs/", json={"user_id": "bare"})).json()["id"]
        async with guard.run("guarded") as run:
            for _ in range(calls):
                started = time.perf_counter()
                step = (await client.post(f"/v1/runs/{run_id}/steps", json=STEP)).json()["id"]
                await client.patch(f"/v1/runs/{run_id}/steps/{step}", json=DONE)
                note(bare, started)
                started = time.perf_counter()
                await run.tool_call(lambda: None, "t")
                note(guarded, started)


def synchronously():
    with httpx.Client(base_url=BASE, headers=HEADERS) as client, Pikarc() as guard:
        run_id = client.post("/v1/runs/", json={"user_id": "bare"}).json()["id"]
        with guard.run("guarded") as run:
            for _ in range(calls):
                started = time.perf_counter()
                step = client.post(f"/v1/runs/{run_id}/steps", json=STEP).json()["id"]
                client.patch(f"/v1/runs/{run_id}/steps/{step}", json=DONE)
                note(bare, started)
                started = time.perf_counter()
                run.tool_call(lambda: None, "t")
                note(guarded, started)


if sys.argv[1] == "async":
    asyncio.run(asynchronously())
else:
    synchronously()
print(json.dumps({"beside": "httpx", "bare": bare, "guarded": guarded}))

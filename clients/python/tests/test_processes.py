"""Clients in processes that are forked and spawned: each has connections and a journal of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
from typing import Any

import pytest
from conftest import MODEL
from pikarc import AsyncPikarc, Pikarc

USED = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
CALLS = 5

# What a forked process finds as its parent has left it, and a spawned one does not.
inherited: dict[str, Any] = {}


def calls(client: Pikarc, user: str) -> None:
    with client.run(user) as run:
        for _ in range(CALLS):
            run.model_call(lambda: USED, MODEL)


async def asynchronous_calls(client: AsyncPikarc, user: str) -> None:
    async with client.run(user) as run:
        await asyncio.gather(*(run.model_call(lambda: USED, MODEL) for _ in range(CALLS)))
    await client.close()  # its connections in this event loop


def work(n: int, options: dict[str, Any]) -> None:
    client: Pikarc = inherited.get("client") or Pikarc(**options)
    asynchronous: AsyncPikarc = inherited.get("asynchronous") or AsyncPikarc(**options)
    calls(client, f"sync-{n}")
    asyncio.run(asynchronous_calls(asynchronous, f"async-{n}"))
    assert client.journal_length == 0


@pytest.mark.filterwarnings("ignore:.*(multi-threaded|unclosed|socket|transport).*")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_have_each_their_own_connections(method, options, account, details):
    account.configure(max_concurrent_runs=100)
    context = multiprocessing.get_context(method)
    with Pikarc(**options) as client:
        asynchronous = AsyncPikarc(**options)
        inherited.update(client=client, asynchronous=asynchronous)
        try:
            work(0, options)  # its connections are open when it forks
            processes = [context.Process(target=work, args=(n, options)) for n in range(1, 5)]
            for process in processes:
                process.start()
            work(5, options)  # beside them
            for process in processes:
                process.join(60)
            work(6, options)
        finally:
            inherited.clear()
    assert [process.exitcode for process in processes] == [0] * 4
    runs = {run["user_id"]: run for run in details()}
    assert len(runs) == 14 and {run["status"] for run in runs.values()} == {"COMPLETED"}
    assert {(run["step_count"], run["prompt_tokens"], run["completion_tokens"]) for run in runs.values()} == {(5, 15, 10)}

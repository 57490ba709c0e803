"""Fixtures: the server for the whole session, and a fresh account and client for each test.

Which published client is under test is decided by PYTHONPATH, see run.sh.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pikarc.client
import pytest
from harness import Account, Server
from pikarc import AsyncPikarc

Connect = Callable[[str], AsyncPikarc]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def client_version() -> str:
    # Our own client may stand in the published one's place, and is not installed.
    return getattr(pikarc, "__version__", None) or importlib.metadata.version("pikarc")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Path(os.environ["PIKARC_BINARY"]), tmp_path_factory.mktemp("pikarc"))
    yield server
    server.stop()


@pytest.fixture
def account(server: Server) -> Account:
    """A fresh account on the plan that has every feature."""
    return server.create_account("enterprise")


@pytest.fixture
async def connect(server: Server, client_version: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Connect]:
    """Makes published clients that talk to the server under test, and closes them."""
    clients: list[AsyncPikarc] = []

    def connect(api_key: str) -> AsyncPikarc:
        if client_version == "0.1.0" or client_version.startswith("1."):
            client = AsyncPikarc(api_key, base_url=server.url)
        else:
            # The published clients after it offer no way to name the server.
            monkeypatch.setattr(pikarc.client, "_BASE_URL", server.url)
            client = AsyncPikarc(api_key)
        clients.append(client)
        return client

    yield connect
    for client in clients:
        await client.close()


@pytest.fixture
def client(account: Account, connect: Connect) -> AsyncPikarc:
    """The published client with the key of this test's account."""
    return connect(account.api_key)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """Shows the end of the server's log with every failed test."""
    report = yield
    server = getattr(item, "funcargs", {}).get("server")
    if report.failed and server is not None:
        report.sections.append(("stderr of pikarc serve", server.log_tail()))
    return report

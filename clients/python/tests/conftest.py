"""Fixtures: the real server for all tests, and an account of its own with one place for a run for each."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "tests" / "client"))  # the harness of the published clients' tests

from harness import Account, Price, Server  # noqa: E402

MODEL = "test-model"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--calls", type=int, default=20_000, help="after which nothing may be left behind")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(Path(os.environ["PIKARC_BINARY"]), tmp_path_factory.mktemp("pikarc"))
    yield server
    server.stop()


@pytest.fixture
def account(server: Server) -> Account:
    account = server.create_account("enterprise")
    account.configure(max_concurrent_runs=1)
    account.set_price(MODEL, Price(input="0.001", output="0.001"))
    return account


@pytest.fixture
def options(account: Account, tmp_path: Path) -> dict[str, Any]:
    """What a client of this test's account is made with."""
    return {"api_key": account.api_key, "base_url": account.server.url, "journal_dir": str(tmp_path / "journal")}


@pytest.fixture
def details(account: Account) -> Any:
    """Reads all runs of the account, oldest first, with their steps."""
    return lambda: [account.run(run["id"]) for run in reversed(account.runs())]

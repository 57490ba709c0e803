"""The real server, and a file of results: what `docs/adapters.md` is made of."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path.append(str(HERE.parents[2] / "tests" / "client"))  # last: one of its modules is named as a framework's

from harness import Account, Price, Server  # noqa: E402
from trial import MODEL  # noqa: E402

RESULTS: list[dict[str, Any]] = []


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    server = Server(Path(os.environ["PIKARC_BINARY"]), tmp_path_factory.mktemp("pikarc"))
    account = server.create_account("enterprise")
    account.set_price(MODEL, Price(input="0.001", output="0.001"))
    yield account
    server.stop()


def pytest_sessionfinish() -> None:
    if name := os.environ.get("PIKARC_RESULTS"):
        (HERE.parent / "results" / f"{name}.json").write_text(json.dumps(RESULTS, indent=2) + "\n")

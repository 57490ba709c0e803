"""examples/agent.py runs as a stranger would run it, on any plan, and leaves the workspace as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from harness import Account

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "agent.py"


def run_example(base_url: str, api_key: str, admin_key: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, EXAMPLE, "--base-url", base_url],
        env=os.environ | {"PIKARC_API_KEY": api_key, "PIKARC_ADMIN_KEY": admin_key},
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_shows_everything(account: Account) -> None:
    """Runs the example once and checks the lines that its reader is promised."""
    budget_before = account.workspace()["daily_budget_usd"]
    done = run_example(account.server.url, account.api_key, account.admin_key)
    transcript = done.stdout

    assert done.returncode == 0, f"{transcript}\n{done.stderr}"
    assert transcript.count("ALLOW") == 5
    assert transcript.count("DENY") == 1
    assert "COMPLETED, 0.00225 USD" in transcript
    assert "PikarcBlockedError: WORKSPACE_DAILY_BUDGET_EXCEEDED" in transcript
    assert "00:00 UTC" in transcript
    assert transcript.index("DENY") < transcript.index("PikarcBlockedError") < transcript.index("restored")
    assert done.stderr == ""
    assert account.workspace()["daily_budget_usd"] == budget_before
    assert account.call("GET", "/v1/model-pricing/") == []


@pytest.mark.parametrize("plan", ["basic", "pro", "scale", "enterprise"])
def test_example_shows_its_transcript_on_every_plan(server, plan):
    assert_shows_everything(server.create_account(plan))


def test_example_works_after_earlier_spend_and_puts_the_budget_back(server):
    account = server.create_account("basic")
    assert_shows_everything(account)
    account.configure(daily_budget_usd="0.01")
    assert account.usage()["today"]["total_usd"] == Decimal("0.00675")
    assert_shows_everything(account)


def test_example_says_in_one_line_what_is_missing(server):
    unknown = "lg_00000000_" + "0" * 64
    assert "PIKARC_API_KEY" in run_example(server.url, "", unknown).stderr
    assert "PIKARC_ADMIN_KEY" in run_example(server.url, unknown, "").stderr
    refused = run_example(server.url, unknown, unknown)
    unreachable = run_example("http://127.0.0.1:1", unknown, unknown)
    for done in (refused, unreachable):
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
    assert "401" in refused.stderr
    assert "http://127.0.0.1:1" in unreachable.stderr

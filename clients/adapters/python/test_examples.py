"""The example of each framework runs as a stranger would run it, against a server that knows nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from harness import Account, environment_without_settings

EXAMPLES = Path(__file__).parents[3] / "examples"
NAMES = [name for name in os.environ["PIKARC_DRIVERS"].split(",") if name != "plain"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_runs(name: str, account: Account, tmp_path: Path) -> None:
    settings = {"PIKARC_API_KEY": account.api_key, "PIKARC_BASE_URL": account.server.url, "PIKARC_JOURNAL_DIR": str(tmp_path)}
    command = [sys.executable, EXAMPLES / f"with_{name}.py"]
    environment = environment_without_settings() | settings
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout.strip().splitlines()[-1]
    assert said.startswith("Order 3 is refunded. Run "), done.stdout
    run = account.run(said.split()[-1])
    assert run["status"] == "COMPLETED"
    assert [(s["type"], s["tool_name"], s["status"]) for s in run["steps"]] == [
        ("MODEL_CALL", None, "COMPLETED"),
        ("TOOL_CALL", "mcp__shop__refund" if name == "claude_agent" else "refund", "COMPLETED"),
        ("MODEL_CALL", None, "COMPLETED"),
    ]
    assert run["prompt_tokens"] > 0

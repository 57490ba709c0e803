"""Every block of the README runs, against the real server."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


async def ask_the_model(question):
    return {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


async def stream_the_model(question):
    yield {"text": "so"}
    yield {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}


# What the blocks take for granted: the reader's own functions, and what earlier blocks have imported.
TAKEN = {
    "ask_the_model": ask_the_model,
    "ask_at_once": lambda question: {"usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    "search": lambda words: "found",
    "send_mail": lambda: None,
    "stream_the_model": stream_the_model,
}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
async def test_a_block_runs(block, options, monkeypatch, details):
    for name, setting in (("API_KEY", "api_key"), ("BASE_URL", "base_url"), ("JOURNAL_DIR", "journal_dir")):
        monkeypatch.setenv(f"PIKARC_{name}", options[setting])
    names = dict(TAKEN)
    exec("from pikarc import AsyncPikarc", names)
    running = eval(compile(block, "README.md", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    if inspect.isawaitable(running):
        await running
    (run,) = details()
    assert run["status"] == "COMPLETED" and {step["status"] for step in run["steps"]} == {"COMPLETED"}


def test_there_are_blocks():
    assert len(BLOCKS) == 5

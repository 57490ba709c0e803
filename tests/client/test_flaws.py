"""What a tool or a model says must not stop its agent, nor lose what its call has cost."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from agents import USER
from harness import GPT_4O


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


DESCRIPTIONS = {
    "NUL": {"t": "a\u0000b"},
    "NUL in a name": {"a\u0000": 1},
    "1.2 MB": {"t": "b" * 1_200_000},
    "70 levels": nested(70),
    "a list": ["a", "b"],
    "a text": "a text",
}


@pytest.mark.parametrize("described", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
async def test_agent_lives_whatever_it_describes(account, client, described):
    account.set_price("gpt-4o", GPT_4O)
    async with client.run(USER, metadata=described) as run:
        await run.model_call(
            lambda: (500, 100), model="gpt-4o", input_data=described, token_extractor=lambda usage: usage
        )
        assert await run.tool_call(lambda: "found", tool_name="search\u0000", input_data=described) == "found"

    detail = account.run(run.run_id)
    assert detail["status"] == "COMPLETED" and detail["repaired"] == ["metadata"]
    model, tool = detail["steps"]
    assert model["repaired"] == ["input_data"] and tool["repaired"] == ["input_data", "tool_name"]
    assert detail["total_usd"] == model["cost_usd"] == Decimal("0.00225")


COUNTS = [("500", 100), (500.0, 100), (500.5, 100), (True, 100), (-1, 100), (None, 100), ("many", 100)]


@pytest.mark.parametrize("usage", COUNTS, ids=repr)
async def test_counts_that_can_be_read_are_booked(account, client, usage):
    account.set_price("gpt-4o", GPT_4O)
    async with client.run(USER) as run:
        await run.model_call(lambda: usage, model="gpt-4o", token_extractor=lambda usage: usage)

    (step,) = account.run(run.run_id)["steps"]
    prompt = 500 if usage[0] in ("500", 500.0) else 0
    assert (step["status"], step["prompt_tokens"], step["completion_tokens"]) == ("COMPLETED", prompt, 100)
    assert step["cost_usd"] == GPT_4O.cost(prompt, 100)
    assert ("repaired" in step) == (usage[0] is not None and prompt == 0)


@pytest.mark.parametrize("name", ["", "x" * 256], ids=["empty", "256 characters"])
async def test_agent_lives_whatever_its_tool_is_called(account, client, name):
    async with client.run(USER) as run:
        await run.tool_call(lambda: None, tool_name=name)

    (step,) = account.run(run.run_id)["steps"]
    assert step["tool_name"] == (None if name == "" else "x" * 254 + "…")


async def test_numbers_that_json_does_not_know_are_null(account, client):
    """Newer versions of httpx refuse them before they are sent; older ones send them."""
    try:
        async with client.run(USER, metadata={"loss": math.nan}) as run:
            pass
    except ValueError:
        return
    assert account.run(run.run_id)["metadata"] == {"loss": None}

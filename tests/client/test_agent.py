"""An agent's ordinary life: what it does through the client is what the server has on record."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest
from agents import USER, call_model
from harness import GPT_4O, Price


class ModelUnavailable(Exception):
    """What a model library might raise."""


async def test_run_records_model_and_tool_steps_with_their_exact_cost(account, client):
    account.set_price("gpt-4o", GPT_4O)
    # Both costs need rounding up at the tenth decimal.
    small = Price(input="0.000000000333", output="0.000000000777")
    account.set_price("vendor/small", small)

    async with client.run(USER, metadata={"ticket": 17}) as run:
        answer = await run.model_call(
            lambda: {"text": "hello", "usage": (500, 100)},
            model="gpt-4o",
            input_data={"question": "how are you?"},
            token_extractor=lambda answer: answer["usage"],
        )
        assert answer["text"] == "hello"
        assert await run.tool_call(lambda: "found", tool_name="search", input_data={"q": "pikarc"}) == "found"
        await call_model(run, "vendor/small", prompt_tokens=7, completion_tokens=11)

    detail = account.run(run.run_id)
    assert (detail["user_id"], detail["status"], detail["ended_reason"]) == (USER, "COMPLETED", "CLIENT")
    assert detail["metadata"] == {"ticket": 17}
    assert detail["decision"]["outcome"] == "ALLOW" and detail["deny_reason"] is None
    assert (detail["step_count"], detail["blocked_step_count"]) == (3, 0)
    assert (detail["prompt_tokens"], detail["completion_tokens"]) == (507, 111)

    first, tool, last = detail["steps"]
    assert [step["sequence"] for step in detail["steps"]] == [1, 2, 3]
    assert {step["status"] for step in detail["steps"]} == {"COMPLETED"}
    assert (first["type"], first["model"], first["tool_name"]) == ("MODEL_CALL", "gpt-4o", None)
    assert (tool["type"], tool["model"], tool["tool_name"]) == ("TOOL_CALL", None, "search")
    assert first["input_data"] == {"question": "how are you?"} and tool["input_data"] == {"q": "pikarc"}
    assert (first["prompt_tokens"], first["completion_tokens"]) == (500, 100)
    assert (first["input_cost_per_token"], first["output_cost_per_token"]) == (Decimal("0.0000025"), Decimal("0.00001"))
    assert first["cost_usd"] == Decimal("0.00225")
    # 7 × 0.000000000333 + 11 × 0.000000000777 = 0.000000010878
    assert last["cost_usd"] == small.cost(7, 11) == Decimal("0.000000011")
    assert detail["total_usd"] == Decimal("0.002250011")


async def test_tool_call_without_tokens_has_no_cost(account, client):
    async with client.run(USER) as run:
        await run.tool_call(lambda: None, tool_name="clock")

    detail = account.run(run.run_id)
    (tool,) = detail["steps"]
    assert tool["status"] == "COMPLETED" and tool["duration_ms"] >= 0
    assert (tool["prompt_tokens"], tool["completion_tokens"], tool["cost_usd"]) == (0, 0, None)
    assert detail["total_usd"] == 0


async def test_model_without_price_costs_null_and_its_tokens_are_counted(account, client):
    async with client.run(USER) as run:
        await call_model(run, "home-made", prompt_tokens=40, completion_tokens=2)

    detail = account.run(run.run_id)
    (step,) = detail["steps"]
    assert (step["cost_usd"], step["input_cost_per_token"], step["output_cost_per_token"]) == (None, None, None)
    assert (step["prompt_tokens"], step["completion_tokens"]) == (40, 2)
    assert (detail["prompt_tokens"], detail["completion_tokens"], detail["total_usd"]) == (40, 2, 0)
    assert account.usage()["today"]["total_tokens"] == 42


async def test_exception_in_a_model_call_fails_step_and_run_and_reaches_the_caller(account, client):
    async def broken_model():
        raise ModelUnavailable

    with pytest.raises(ModelUnavailable):
        async with client.run(USER) as run:
            await run.model_call(broken_model, model="gpt-4o")

    detail = account.run(run.run_id)
    assert (detail["status"], detail["ended_reason"]) == ("FAILED", "CLIENT")
    assert [step["status"] for step in detail["steps"]] == ["FAILED"]


async def test_exception_between_steps_fails_the_run_and_keeps_its_finished_steps(account, client):
    with pytest.raises(ModelUnavailable):
        async with client.run(USER) as run:
            await call_model(run)
            raise ModelUnavailable

    detail = account.run(run.run_id)
    assert detail["status"] == "FAILED"
    assert [step["status"] for step in detail["steps"]] == ["COMPLETED"]


async def test_cancelled_agent_leaves_its_open_step_abandoned_and_its_run_completed(account, client):
    thinking = asyncio.Event()
    run_ids = []

    async def think_for_ever():
        thinking.set()
        await asyncio.Event().wait()

    async def agent():
        async with client.run(USER) as run:
            run_ids.append(run.run_id)
            await run.model_call(think_for_ever, model="gpt-4o")

    task = asyncio.create_task(agent())
    async with asyncio.timeout(30):
        await thinking.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    detail = account.run(run_ids[0])
    assert (detail["status"], detail["ended_reason"]) == ("COMPLETED", "CLIENT")
    assert [step["status"] for step in detail["steps"]] == ["ABANDONED"]
    assert detail["total_usd"] == 0


async def test_step_that_outlives_its_run_is_still_paid_for(account, client):
    account.set_price("gpt-4o", GPT_4O)

    async with client.run(USER) as run:

        def answer_after_the_run_was_ended() -> tuple[int, int]:
            account.end_run(run.run_id, "COMPLETED")
            return 500, 100

        await run.model_call(answer_after_the_run_was_ended, model="gpt-4o", token_extractor=lambda usage: usage)

    detail = account.run(run.run_id)
    assert detail["status"] == "COMPLETED"
    assert detail["total_usd"] == Decimal("0.00225")
    assert account.usage()["today"]["total_usd"] == Decimal("0.00225")

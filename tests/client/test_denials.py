"""Every reason for a denial, at the start of a run and at a step, as the published client reports it.

Budgets are those of one UTC day, so a test that runs across midnight UTC may fail; run it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from agents import USER, blocked, call_model, must_not_run
from harness import GPT_4O, Account

# What one model call of these tests costs. As a budget it is used up by that call: spend equal to the budget is denied.
SPENT = GPT_4O.cost(500, 100)

# How each rule comes to object, once SPENT has been spent.
OBJECT: dict[str, Callable[[Account], object]] = {
    "KILL_SWITCH_ACTIVE": lambda account: account.set_kill_switch(True),
    "USER_BLOCKED": lambda account: account.block(USER),
    "WORKSPACE_DAILY_BUDGET_EXCEEDED": lambda account: account.configure(daily_budget_usd=str(SPENT)),
    "USER_DAILY_BUDGET_EXCEEDED": lambda account: account.configure(user_daily_budget_usd=str(SPENT)),
}
EVERY_RULE = pytest.mark.parametrize("reason", OBJECT)


@pytest.fixture
def blocked_run_status(client_version: str) -> str:
    """How a client ends a run whose step was denied: before 0.1.2 it was as with any other exception."""
    return "FAILED" if client_version in ("0.1.0", "0.1.1") else "BLOCKED"


def assert_denied(decision: dict[str, Any], reason: str, at: str) -> None:
    """Checks a decision on record, and that a budget's says how much of what is gone and until when."""
    assert (decision["outcome"], decision["reason"]) == ("DENY", reason)
    if reason.endswith("_DAILY_BUDGET_EXCEEDED"):
        assert decision["limit"] == decision["used"] == SPENT
        assert decision["resets_at"] == midnight_after(at)
    else:
        assert (decision["limit"], decision["used"], decision["resets_at"]) == (None, None, None)


def midnight_after(moment: str) -> str:
    """The next UTC midnight, in the API's form."""
    next_day = datetime.fromisoformat(moment).date() + timedelta(days=1)
    return f"{next_day}T00:00:00.000Z"


@EVERY_RULE
async def test_denied_start_raises_and_is_on_record_as_blocked(account, client, reason):
    account.set_price("gpt-4o", GPT_4O)
    async with client.run(USER) as run:
        await call_model(run)
    OBJECT[reason](account)

    with blocked(reason):
        async with client.run(USER):
            must_not_run()

    (denied,) = account.runs(status="BLOCKED")
    assert (denied["user_id"], denied["deny_reason"], denied["step_count"]) == (USER, reason, 0)
    assert_denied(account.run(denied["id"])["decision"], reason, at=denied["started_at"])
    assert account.usage()["monthly_run_count"] == 1


@EVERY_RULE
async def test_denied_step_raises_before_the_call_and_the_run_ends(account, client, reason, blocked_run_status):
    account.set_price("gpt-4o", GPT_4O)

    with blocked(reason):
        async with client.run(USER) as run:
            await call_model(run)
            OBJECT[reason](account)
            await run.tool_call(must_not_run, tool_name="send_mail")

    detail = account.run(run.run_id)
    assert (detail["status"], detail["ended_reason"]) == (blocked_run_status, "CLIENT")
    assert detail["decision"]["outcome"] == "ALLOW"
    assert detail["blocked_step_count"] == 1
    allowed, denied = detail["steps"]
    assert (allowed["status"], denied["status"]) == ("COMPLETED", "BLOCKED")
    assert_denied(denied["decision"], reason, at=denied["created_at"])
    assert detail["total_usd"] == SPENT


async def test_agent_that_handles_a_denial_goes_on_in_the_same_run(account, client):
    async with client.run(USER) as run:
        account.set_kill_switch(True)
        with blocked("KILL_SWITCH_ACTIVE"):
            await run.tool_call(must_not_run, tool_name="send_mail")
        account.set_kill_switch(False)
        await call_model(run)

    detail = account.run(run.run_id)
    assert detail["status"] == "COMPLETED"
    assert [step["status"] for step in detail["steps"]] == ["BLOCKED", "COMPLETED"]


async def test_budget_of_one_user_leaves_the_others_alone(account, client):
    account.set_price("gpt-4o", GPT_4O)
    account.configure(user_daily_budget_usd=str(SPENT))
    async with client.run(USER) as run:
        await call_model(run)

    with blocked("USER_DAILY_BUDGET_EXCEEDED"):
        async with client.run(USER):
            must_not_run()
    async with client.run("somebody else") as run:
        await call_model(run)

    assert account.run(run.run_id)["status"] == "COMPLETED"


async def test_step_of_an_ended_run_is_denied_and_the_run_keeps_its_end(account, client):
    with blocked("RUN_ALREADY_ENDED"):
        async with client.run(USER) as run:
            ended = account.end_run(run.run_id, "COMPLETED")
            await run.model_call(must_not_run, model="gpt-4o")

    detail = account.run(run.run_id)
    assert (detail["status"], detail["ended_at"]) == ("COMPLETED", ended["ended_at"])
    (denied,) = detail["steps"]
    assert denied["status"] == "BLOCKED"
    assert_denied(denied["decision"], "RUN_ALREADY_ENDED", at=denied["created_at"])


async def test_run_beyond_the_concurrency_limit_is_denied_until_a_slot_is_free(account, client):
    limit = account.workspace()["max_concurrent_runs"]
    assert limit == 3

    async with AsyncExitStack() as last_two:
        async with AsyncExitStack() as first:
            await first.enter_async_context(client.run(USER))
            for _ in range(limit - 1):
                await last_two.enter_async_context(client.run(USER))
            with blocked("MAX_CONCURRENT_RUNS_EXCEEDED"):
                async with client.run(USER):
                    must_not_run()
        async with client.run(USER):
            assert len(account.runs(status="RUNNING")) == limit

    (denied,) = account.runs(status="BLOCKED")
    decision = account.run(denied["id"])["decision"]
    assert (decision["reason"], decision["limit"], decision["used"]) == ("MAX_CONCURRENT_RUNS_EXCEEDED", limit, limit)


async def test_run_beyond_the_monthly_limit_is_denied(server, connect):
    account = server.create_account("basic")
    client = connect(account.api_key)
    limit = account.workspace()["monthly_run_limit"]
    assert limit == 1000

    async def start_and_end(times: int) -> None:
        for _ in range(times):
            async with client.run(USER):
                pass

    # Three at a time is what the basic plan allows.
    await asyncio.gather(*(start_and_end(times) for times in (334, 333, 333)))
    with blocked("MONTHLY_RUN_LIMIT_EXCEEDED"):
        async with client.run(USER):
            must_not_run()

    (denied,) = account.runs(status="BLOCKED")
    decision = account.run(denied["id"])["decision"]
    assert (decision["reason"], decision["limit"], decision["used"]) == ("MONTHLY_RUN_LIMIT_EXCEEDED", limit, limit)
    assert decision["resets_at"].endswith("-01T00:00:00.000Z") and decision["resets_at"] > denied["started_at"]
    assert account.usage()["monthly_run_count"] == limit

"""Who calls, and for whom: a key replaced while an agent works, and user ids that no URL would like."""

from __future__ import annotations

import httpx
import pytest
from agents import blocked, call_model, must_not_run


async def test_rotated_key_is_refused_at_the_very_next_call_and_the_new_one_takes_over(account, client, connect):
    async with client.run("ada") as run:
        await call_model(run)
        renewed = account.rotated()
        with pytest.raises(httpx.HTTPStatusError) as refused:
            await run.model_call(must_not_run, model="gpt-4o")
    assert refused.value.response.status_code == 401

    # For an hour the old key may still end the runs that it started, so the client gave its slot back.
    detail = renewed.run(run.run_id)
    assert detail["status"] != "RUNNING"
    assert (detail["step_count"], detail["ended_reason"]) == (1, "CLIENT")
    async with connect(renewed.api_key).run("ada") as other_run:
        await call_model(other_run)
    assert renewed.run(other_run.run_id)["status"] == "COMPLETED"


async def test_key_rotated_while_a_model_thinks_loses_no_report(account, client):
    def rotate_and_answer() -> tuple[int, int]:
        account.rotated()
        return 500, 100

    async with client.run("ada") as run:
        await run.model_call(rotate_and_answer, model="gpt-4o", token_extractor=lambda usage: usage)
    detail = account.run(run.run_id)
    assert (detail["status"], detail["prompt_tokens"], detail["completion_tokens"]) == ("COMPLETED", 500, 100)


@pytest.mark.parametrize("user_id", ["tenant/7?tab=1#top 100% 🦊", "100%2F7", "Zoë+ada@example.com", "a//b"])
async def test_user_id_of_any_characters_can_run_be_found_blocked_and_unblocked(account, client, user_id):
    async with client.run(user_id) as run:
        await call_model(run)
    assert account.run(run.run_id)["user_id"] == user_id

    answer = account.block(user_id)
    assert (answer["user_id"], answer["blocked"], answer["blocked_reason"]) == (user_id, True, "test")
    with blocked("USER_BLOCKED"):
        async with client.run(user_id):
            must_not_run()

    assert account.unblock(user_id)["blocked"] is False
    async with client.run(user_id):
        pass
    assert [run["status"] for run in account.runs(user_id=user_id)] == ["COMPLETED", "BLOCKED", "COMPLETED"]
    assert [entry["user_id"] for entry in account.usage()["by_user"]] == [user_id]
    assert [user["user_id"] for user in account.call("GET", "/v1/users/")["items"]] == [user_id]

"""A person is asked, and the published client waits: approve, deny, and what the versions do that cannot wait."""

from __future__ import annotations

import asyncio

import pytest
from agents import USER
from pikarc import PikarcBlockedError


@pytest.fixture
def refunds_need_a_person(account) -> None:
    account.call("PUT", "/v1/policies/refunds", {"match": {"tools": ["refund"]}, "effect": "review"})


async def refund(run, done: list[int]) -> None:
    async def tool() -> int:
        done.append(1)
        return 1

    await run.tool_call(tool, tool_name="refund")


async def pending(account) -> dict:
    """The review that waits, once there is one."""
    for _ in range(100):
        found = (await asyncio.to_thread(account.call, "GET", "/v1/reviews/?status=pending"))["items"]
        if found:
            return found[0]
        await asyncio.sleep(0.05)
    pytest.fail("nobody was asked")


async def decide(account, verdict: str, note: str) -> None:
    """A person's verdict: no API key may give one."""
    review = await pending(account)
    path = f"/v1/reviews/{review['id']}/{verdict}"
    assert account.request("POST", path, {"note": note}).status_code == 401
    http = account.server.http
    login = {"email": account.email, "password": "correct horse battery"}
    token = http.request("POST", "/v1/auth/login", json=login).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    assert http.request("POST", path, json={"note": note}, headers=headers).is_success


async def test_a_client_that_does_not_say_that_it_waits_is_denied(account, client, refunds_need_a_person):
    done: list[int] = []
    with pytest.raises(PikarcBlockedError) as caught:
        async with client.run(USER) as run:
            await refund(run, done)
    assert (caught.value.deny_reason, done) == ("REVIEW_NOT_SUPPORTED", [])


async def test_the_client_waits_where_the_workspace_asks_all(account, client, client_version, refunds_need_a_person):
    account.configure(reviews="all_clients")
    done: list[int] = []
    if client_version in ("0.1.0", "0.1.1"):  # which take a REVIEW for an ALLOW
        async with client.run(USER) as run:
            await refund(run, done)
        reviews = account.call("GET", "/v1/reviews/")["items"]
        assert ([review["resolution"] for review in reviews], done) == (["bypassed"], [1])
        return
    async with client.run(USER) as run:
        await asyncio.gather(refund(run, done), decide(account, "approve", "fine"))
    assert done == [1]
    [step] = account.run(account.runs()[0]["id"])["steps"]
    assert (step["status"], step["review"]["status"], step["review"]["note"]) == ("COMPLETED", "approved", "fine")

    with pytest.raises(Exception) as caught:  # noqa: PT011 -- its own error, which only this version has
        async with client.run(USER) as run:
            await asyncio.gather(refund(run, done), decide(account, "deny", "not this one"))
    assert (type(caught.value).__name__, done) == ("PikarcReviewDeniedError", [1])

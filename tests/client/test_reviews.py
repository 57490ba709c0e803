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


async def test_fifty_agents_wait_at_once_and_each_hears_its_own_verdict(
    account, client, client_version, refunds_need_a_person
):
    if client_version in ("0.1.0", "0.1.1"):  # which do not wait
        return
    account.configure(reviews="all_clients", max_concurrent_runs=100)
    agents, started, refused = 50, set(), set()

    async def agent(name: str) -> None:
        async def tool() -> int:
            assert name not in started, "one approval, two executions"
            started.add(name)
            return 1

        try:
            async with client.run(name) as run:
                await run.tool_call(tool, tool_name="refund")
        except Exception as error:  # noqa: BLE001 -- its own error, which only this version has
            assert type(error).__name__ == "PikarcReviewDeniedError", error
            refused.add(name)

    async def person() -> set[str]:
        approved: set[str] = set()
        http = account.server.http
        login = {"email": account.email, "password": "correct horse battery"}
        token = http.request("POST", "/v1/auth/login", json=login).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        waiting: list[dict] = []
        while len(waiting) < agents:
            waiting = (await asyncio.to_thread(account.call, "GET", "/v1/reviews/?status=pending&limit=100"))["items"]
            await asyncio.sleep(0.05)
        for i, review in enumerate(waiting):
            verdict = "deny" if i % 5 == 0 else "approve"
            path = f"/v1/reviews/{review['id']}/{verdict}"
            answer = await asyncio.to_thread(http.request, "POST", path, json={"note": "n"}, headers=headers)
            assert answer.is_success, answer.text
            if verdict == "approve":
                approved.add(review["user_id"])
        return approved

    approved, *_ = await asyncio.gather(person(), *(agent(f"agent-{i}") for i in range(agents)))
    assert started == approved
    assert len(started) == 40
    assert refused == {f"agent-{i}" for i in range(agents)} - started

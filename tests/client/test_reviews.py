"""A person is asked, and the published client waits, however the review ends; and what the versions do that cannot wait."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

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


def people(account):
    """Makes calls as the person whose account it is."""
    http = account.server.http
    login = {"email": account.email, "password": "correct horse battery"}
    token = http.request("POST", "/v1/auth/login", json=login).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}

    async def call(method: str, path: str, body: object = None) -> dict:
        answer = await asyncio.to_thread(http.request, method, path, json=body, headers=headers)
        assert answer.is_success, answer.text
        return answer.json()

    return call


async def end_the_run(account, person, review):
    await person("POST", f"/v1/runs/{review['run_id']}/end", {"status": "FAILED"})


async def stop_all(account, person, review):
    await person("POST", "/v1/workspace/kill-switch", {"active": True})


async def change_the_policy(account, person, review):
    await person("PUT", "/v1/policies/refunds", {"match": {"tools": ["refund*"]}, "effect": "review"})


ENDINGS = [(end_the_run, "cancelled"), (stop_all, "cancelled"), (change_the_policy, "superseded")]


@pytest.mark.parametrize(("end", "resolution"), ENDINGS)
async def test_what_ends_a_review_is_a_no_to_its_agent(
    account, client, client_version, refunds_need_a_person, end, resolution
):
    if client_version in ("0.1.0", "0.1.1"):  # which do not wait
        return
    account.configure(reviews="all_clients")
    person, done = people(account), []

    async def meanwhile() -> None:
        await end(account, person, await pending(account))

    with pytest.raises(Exception) as caught:  # noqa: PT011 -- its own error, which only this version has
        async with client.run(USER) as run:
            await asyncio.gather(refund(run, done), meanwhile())
    assert (type(caught.value).__name__, done) == ("PikarcReviewDeniedError", [])
    [review] = account.call("GET", "/v1/reviews/")["items"]
    [step] = account.run(review["run_id"])["steps"]
    assert (review["resolution"], step["status"]) == (resolution, "BLOCKED")


async def test_a_server_that_is_killed_while_it_is_polled_has_forgotten_nothing(
    account, client, client_version, refunds_need_a_person
):
    if client_version in ("0.1.0", "0.1.1"):  # which do not wait
        return
    account.configure(reviews="all_clients")
    person, done = people(account), []

    async def meanwhile() -> None:
        while (review := await pending(account))["waiter"]["last_poll_at"] is None:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(account.server.kill_and_restart)  # it polls again in 2 s
        await person("POST", f"/v1/reviews/{review['id']}/approve", {"note": "fine"})

    async with client.run(USER) as run:
        await asyncio.gather(refund(run, done), meanwhile())
    [step] = account.run(account.runs()[0]["id"])["steps"]
    assert (done, step["status"], step["review"]["status"]) == ([1], "COMPLETED", "approved")


async def test_of_approvals_around_the_expiry_each_is_all_or_nothing(account, client, client_version):
    if client_version in ("0.1.0", "0.1.1"):  # which do not wait
        return
    account.configure(reviews="all_clients", max_concurrent_runs=100)
    review = {"expires_seconds": 5}
    account.call("PUT", "/v1/policies/refunds", {"match": {"tools": ["refund"]}, "effect": "review", "review": review})
    person, agents, done = people(account), 8, {}

    async def agent(i: int) -> None:
        done[f"agent-{i}"] = executed = []
        try:
            async with client.run(f"agent-{i}") as run:
                await refund(run, executed)
        except Exception as error:  # noqa: BLE001 -- its own error, which only this version has
            assert type(error).__name__ == "PikarcReviewDeniedError", error

    async def approve(waiting: dict, after: float) -> None:
        """In the second in which it expires; the last one never."""
        left = datetime.fromisoformat(waiting["expires_at"]) - datetime.now(UTC)
        await asyncio.sleep(left.total_seconds() + after)
        await person("POST", f"/v1/reviews/{waiting['id']}/approve", {"note": "fine"})

    async def reviewer() -> None:
        waiting: list[dict] = []
        while len(waiting) < agents:
            waiting = (await asyncio.to_thread(account.call, "GET", "/v1/reviews/?status=pending"))["items"]
            await asyncio.sleep(0.05)
        await asyncio.gather(*(approve(review, (i - 4) / 10) for i, review in enumerate(waiting[:-1])))

    await asyncio.gather(reviewer(), *(agent(i) for i in range(agents)))
    ended = {review["user_id"]: review["resolution"] for review in account.call("GET", "/v1/reviews/")["items"]}
    assert set(ended.values()) <= {"approved", "expired"}, ended
    assert "expired" in ended.values(), ended
    assert {user for user, executed in done.items() if executed} == {
        user for user, resolution in ended.items() if resolution == "approved"
    }
    assert all(len(executed) <= 1 for executed in done.values())

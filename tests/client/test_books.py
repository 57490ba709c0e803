"""What the agents reported and what the server charges are the same, to the nano-dollar."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from decimal import Decimal

from agents import call_model
from harness import GPT_4O, Account, Price

PRICES = {
    "gpt-4o": GPT_4O,
    "vendor/mini": Price(input="0.00000015", output="0.0000006"),
    # So cheap that every call is rounded up to the next nano-dollar.
    "vendor/tiny": Price(input="0.000000000333", output="0.000000000777"),
}
UNPRICED = "home-made"


class Books:
    """The agents' own account of what they did, kept beside the server's."""

    def __init__(self) -> None:
        self.cost_by_model: dict[str, Decimal] = defaultdict(Decimal)
        self.tokens_by_model: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.cost_by_user: dict[str, Decimal] = defaultdict(Decimal)
        self.runs_by_user: dict[str, int] = defaultdict(int)

    def enter_run(self, user: str) -> None:
        self.runs_by_user[user] += 1

    def enter_call(self, user: str, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        cost = PRICES[model].cost(prompt_tokens, completion_tokens) if model in PRICES else Decimal(0)
        self.cost_by_model[model] += cost
        self.cost_by_user[user] += cost
        self.tokens_by_model[model][0] += prompt_tokens
        self.tokens_by_model[model][1] += completion_tokens

    def assert_same_as(self, account: Account) -> None:
        """Compares with the server's usage: in total, by model, by user, and with the sum over its runs."""
        usage = account.usage()
        total = {
            "total_usd": sum(self.cost_by_model.values()),
            "total_tokens": sum(map(sum, self.tokens_by_model.values())),
            "run_count": sum(self.runs_by_user.values()),
        }
        for window in ("today", "last_7_days", "last_30_days"):
            assert {name: usage[window][name] for name in total} == total, window
        assert usage["monthly_run_count"] == total["run_count"]

        by_model = {
            (model, self.cost_by_model[model], prompt, completion)
            for model, (prompt, completion) in self.tokens_by_model.items()
        }
        assert {
            (entry["model"], entry["total_usd"], entry["prompt_tokens"], entry["completion_tokens"])
            for entry in usage["by_model"]
        } == by_model
        by_user = {(user, self.cost_by_user[user], runs) for user, runs in self.runs_by_user.items()}
        assert {(entry["user_id"], entry["total_usd"], entry["run_count"]) for entry in usage["by_user"]} == by_user
        for list_name in ("by_model", "by_user"):
            costs = [entry["total_usd"] for entry in usage[list_name]]
            assert costs == sorted(costs, reverse=True), f"{list_name} is not dearest first"

        assert sum(run["total_usd"] for run in account.runs()) == total["total_usd"]


async def test_usage_is_what_the_agents_reported_by_model_and_by_user(account, client):
    for model, price in PRICES.items():
        account.set_price(model, price)
    books = Books()

    models = [*PRICES, UNPRICED]
    for number, user in enumerate(["ada", "grace", "ada", "edsger", "grace", "ada"], start=1):
        async with client.run(user) as run:
            books.enter_run(user)
            for offset in range(3):
                model = models[(number + offset) % len(models)]
                prompt_tokens, completion_tokens = 101 * number + offset, 7 * number
                await call_model(run, model, prompt_tokens, completion_tokens)
                books.enter_call(user, model, prompt_tokens, completion_tokens)
            await run.tool_call(lambda: "done", tool_name="search")

    books.assert_same_as(account)


async def test_fifty_agents_at_once_all_finish_and_the_books_add_up(account, client):
    agents = 50
    account.configure(max_concurrent_runs=agents)
    for model, price in PRICES.items():
        account.set_price(model, price)
    books = Books()
    all_started = asyncio.Barrier(agents)
    running = []

    async def agent(number: int) -> None:
        user = f"user-{number % 7}"
        async with client.run(user) as run:
            books.enter_run(user)
            if await all_started.wait() == 0:
                running.extend(account.runs(status="RUNNING"))
            for model in PRICES:
                prompt_tokens, completion_tokens = 1000 + number, 10 * number + 1
                await call_model(run, model, prompt_tokens, completion_tokens)
                books.enter_call(user, model, prompt_tokens, completion_tokens)
            await run.tool_call(lambda: "done", tool_name="search")

    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        for number in range(agents):
            group.create_task(agent(number))

    assert len(running) == agents
    assert [run["status"] for run in account.runs()] == ["COMPLETED"] * agents
    assert {run["step_count"] for run in account.runs()} == {len(PRICES) + 1}
    books.assert_same_as(account)

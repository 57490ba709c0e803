"""An agent under Pikarc's guard: allowed calls, what they cost, and a budget that ends in the middle of a run.

    pip install http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl
    PIKARC_API_KEY=lg_... PIKARC_ADMIN_KEY=lg_... python examples/agent.py [--base-url http://localhost:8000]

No model is called: this file pretends to be one, and says how many tokens it used. An agent's key may not change what
guards it, so with another, of scope admin (pikarc create-key --scope admin), it plays the operator: it sets a price for
that model and, for a moment, a daily budget for the whole workspace: what was spent today and half a cent more. At the
end it restores the budget and switches the price off; until then the budget holds for every other agent of that
workspace too. You will see:

    Today's budget for this workspace is now 0.005 USD, of which 0 USD are spent.

    A run within the budget
      ALLOW  tool   look up the notes
      ALLOW  model  What is an agent?
      The run is COMPLETED, 0.00225 USD.

    A run that meets the end of the budget
      ALLOW  tool   look up the notes
      ALLOW  model  Who pays for it?
      ALLOW  model  Who watches it?
      DENY   model  Who stops it?
      The caller sees PikarcBlockedError: WORKSPACE_DAILY_BUDGET_EXCEEDED
      The limit is 0.005 USD, 0.00675 USD are spent, and calls are allowed again from 2026-11-24 00:00 UTC.
      The run is BLOCKED, 0.0045 USD.

    The budget is restored, and the price switched off.

The answer before it took the spend past the limit: what a call costs is known when it reports its tokens, so it is the
next call that is denied.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
from pikarc import AsyncPikarc, PikarcBlockedError

MODEL = "pikarc-example-model"
PRICE = {"input_cost_per_token": "0.0000025", "output_cost_per_token": "0.00001"}
HALF_A_CENT = Decimal("0.005")


@dataclass
class Answer:
    """What a model would return: text, and the tokens it took."""

    text: str
    prompt_tokens: int
    completion_tokens: int


async def pretended_model(question: str) -> Answer:
    return Answer(f"A good question: {question}", prompt_tokens=500, completion_tokens=100)


async def pretended_tool() -> str:
    return "notes"


def tokens(answer: Answer) -> tuple[int, int]:
    return answer.prompt_tokens, answer.completion_tokens


class Workspace:
    """The operator's side, which the client does not cover: settings, prices, and what was recorded."""

    def __init__(self, base_url: str, admin_key: str) -> None:
        self._http = httpx.Client(base_url=base_url, headers={"Authorization": f"Bearer {admin_key}"})

    def call(self, method: str, path: str, body: Any = None) -> Any:
        response = self._http.request(method, path, json=body)
        response.raise_for_status()
        return json.loads(response.text, parse_float=Decimal)  # money is exact, so keep it exact

    def close(self) -> None:
        self._http.close()


async def run_agent(client: AsyncPikarc, workspace: Workspace, questions: list[str]) -> None:
    """One run: a tool call, then a model call for each question, each of them asked for first."""
    run_id = None
    line = "start  the run"
    try:
        async with client.run(user_id="ada", metadata={"example": "agent.py"}) as run:
            run_id = run.run_id
            line = "tool   look up the notes"
            await run.tool_call(pretended_tool, tool_name="notes")
            print("  ALLOW ", line)
            for question in questions:
                line = f"model  {question}"
                await run.model_call(partial(pretended_model, question), model=MODEL, token_extractor=tokens)
                print("  ALLOW ", line)
    except PikarcBlockedError as blocked:
        print("  DENY  ", line)
        print(f"  The caller sees PikarcBlockedError: {blocked.deny_reason}")
        if run_id is None:
            sys.exit("The run was not allowed to start, so there is nothing more to show.")
    detail = workspace.call("GET", f"/v1/runs/{run_id}")
    for step in detail["steps"]:
        if step["decision"]["outcome"] == "DENY":
            print(" ", explain(step["decision"]))
    # The published client 0.1.0 ends a run as FAILED when one of its calls was denied.
    print(f"  The run is {detail['status']}, {usd(detail['total_usd'])}.")


def explain(decision: dict[str, Any]) -> str:
    """Says why and until when: what a server knows about a denial beyond its reason."""
    if decision["limit"] is None:
        return "This denial has no limit that resets."
    resets_at = datetime.fromisoformat(decision["resets_at"])
    return (
        f"The limit is {usd(decision['limit'])}, {usd(decision['used'])} are spent, "
        f"and calls are allowed again from {resets_at:%Y-%m-%d %H:%M} UTC."
    )


def plain(amount: Decimal | int) -> str:
    """Decimal text without an exponent."""
    return f"{Decimal(amount):f}"


def usd(amount: Decimal | int) -> str:
    return f"{plain(amount)} USD"


async def show(base_url: str, api_key: str, admin_key: str) -> None:
    """Sets price and budget, runs the agent twice, and puts the workspace back in order."""
    client = AsyncPikarc(api_key, base_url=base_url)
    workspace = Workspace(base_url, admin_key)
    try:
        budget_before = workspace.call("GET", "/v1/workspace/")["daily_budget_usd"]
        spent = workspace.call("GET", "/v1/usage/")["today"]["total_usd"]
        budget = spent + HALF_A_CENT
        try:
            workspace.call("PUT", f"/v1/model-pricing/{MODEL}", PRICE)
            workspace.call("PATCH", "/v1/workspace/", {"daily_budget_usd": plain(budget)})
            print(f"Today's budget for this workspace is now {usd(budget)}, of which {usd(spent)} are spent.")

            print("\nA run within the budget")
            await run_agent(client, workspace, ["What is an agent?"])
            print("\nA run that meets the end of the budget")
            await run_agent(client, workspace, ["Who pays for it?", "Who watches it?", "Who stops it?"])
        finally:
            restored = None if budget_before is None else plain(budget_before)
            workspace.call("PATCH", "/v1/workspace/", {"daily_budget_usd": restored})
            workspace.call("PUT", f"/v1/model-pricing/{MODEL}", PRICE | {"is_active": False})
            print("\nThe budget is restored, and the price switched off.")
    finally:
        workspace.close()
        await client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description="An agent under Pikarc's guard, and a budget that runs out.")
    parser.add_argument("--base-url", default="http://localhost:8000", help="the Pikarc Server (default %(default)s)")
    base_url = parser.parse_args().base_url
    api_key = os.environ.get("PIKARC_API_KEY")
    if not api_key:
        sys.exit("Set PIKARC_API_KEY to your workspace's API key, lg_...")
    admin_key = os.environ.get("PIKARC_ADMIN_KEY")
    if not admin_key:
        sys.exit("Set PIKARC_ADMIN_KEY to a key of scope admin: pikarc create-key --email ... --scope admin")
    try:
        asyncio.run(show(base_url, api_key, admin_key))
    except httpx.HTTPStatusError as error:
        sys.exit(f"{base_url} answered {error.response.status_code}: {error.response.text}")
    except httpx.TransportError as error:
        sys.exit(f"No answer from {base_url}: {error or type(error).__name__}")


if __name__ == "__main__":
    main()

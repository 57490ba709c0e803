"""An agent of OpenAI's Agents SDK under Pikarc's guard, without a model key: a scripted model stands in for OpenAI's.

    pip install "pikarc[openai-agents] @ http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl"
    PIKARC_API_KEY=lg_... python examples/with_openai_agents.py
"""

import asyncio

from agents import Agent, RunConfig, function_tool
from agents.testing import ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from pikarc import AsyncPikarc
from pikarc.adapters.openai_agents import PikarcRunner


@function_tool
def refund(order: int) -> str:
    return f"order {order} is refunded"


# In your own agent: model="gpt-4o".
USED = Usage(requests=1, input_tokens=500, output_tokens=100, total_tokens=600)
MODEL = ScriptedModel([
    ModelStep([function_call("refund", {"order": 3}, call_id="call-1")], usage=USED),
    ModelStep([assistant_message("Order 3 is refunded.")], usage=USED),
])  # fmt: skip


async def main() -> None:
    agent = Agent(name="support", model=MODEL, tools=[refund])
    async with AsyncPikarc() as guard, guard.run(user_id="ada") as run:
        result = await PikarcRunner(guard).run(agent, "Refund order 3.", run_config=RunConfig(tracing_disabled=True))
        print(result.final_output, "Run", run.run_id)


asyncio.run(main())

"""An agent of Pydantic AI under Pikarc's guard, without a model key: a function stands in for the model.

    pip install "pikarc[pydantic-ai] @ http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl"
    PIKARC_API_KEY=lg_... python examples/with_pydantic_ai.py
"""

import asyncio

from pikarc import AsyncPikarc
from pikarc.adapters.pydantic_ai import PikarcCapability
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, FunctionModel


def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    if len(messages) == 1:
        return ModelResponse([ToolCallPart("refund", {"order": 3})])
    return ModelResponse([TextPart("Order 3 is refunded.")])


async def refund(order: int) -> str:
    return f"order {order} is refunded"


async def main() -> None:
    async with AsyncPikarc() as guard:
        # In your own agent: Agent("openai:gpt-4o", ...).
        model = FunctionModel(respond, model_name="pretended-model")
        agent = Agent(model, tools=[refund], capabilities=[PikarcCapability(guard)])
        async with guard.run(user_id="ada") as run:
            result = await agent.run("Refund order 3.")
            print(result.output, "Run", run.run_id)


asyncio.run(main())

"""An agent of Google's Agent Development Kit under Pikarc's guard, without a model key: a class stands in for the model.

    pip install "pikarc[google-adk] @ http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl"
    PIKARC_API_KEY=lg_... python examples/with_google_adk.py
"""

import asyncio
from collections.abc import AsyncGenerator

from google.adk.agents import LlmAgent
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.runners import InMemoryRunner
from google.genai import types
from pikarc import AsyncPikarc
from pikarc.adapters.google_adk import PikarcPlugin


async def refund(order: int) -> str:
    """Refunds an order."""
    return f"order {order} is refunded"


class PretendedModel(BaseLlm):
    async def generate_content_async(self, llm_request: LlmRequest, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        part = types.Part(text="Order 3 is refunded.")
        if len(llm_request.contents) == 1:
            part = types.Part(function_call=types.FunctionCall(name="refund", args={"order": 3}))
        used = types.GenerateContentResponseUsageMetadata(prompt_token_count=500, candidates_token_count=100)
        yield LlmResponse(content=types.Content(role="model", parts=[part]), usage_metadata=used)


async def main() -> None:
    # In your own agent: model="gemini-3.5-flash".
    agent = LlmAgent(name="support", model=PretendedModel(model="pretended-model"), tools=[refund])
    async with AsyncPikarc() as guard:
        runner = InMemoryRunner(app=App(name="support", root_agent=agent, plugins=[PikarcPlugin(guard)]))
        session = await runner.session_service.create_session(app_name="support", user_id="ada")
        message = types.Content(role="user", parts=[types.Part(text="Refund order 3.")])
        async with guard.run(user_id="ada") as run:
            async for event in runner.run_async(user_id="ada", session_id=session.id, new_message=message):
                if event.is_final_response() and event.content and event.content.parts:
                    print(event.content.parts[0].text, "Run", run.run_id)


asyncio.run(main())

"""Google's Agent Development Kit, with a model of its base class that calls the tools once."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from google.adk.agents import LlmAgent, RunConfig
from google.adk.agents.run_config import StreamingMode
from google.adk.apps import App
from google.adk.models import BaseLlm, LlmRequest, LlmResponse
from google.adk.models._capabilities import LlmCapabilities
from google.adk.runners import InMemoryRunner
from google.adk.tools import FunctionTool
from google.genai import types
from pikarc.adapters.google_adk import PikarcPlugin
from trial import MODEL, Framework, Given

USAGE = types.GenerateContentResponseUsageMetadata(
    prompt_token_count=10, cached_content_token_count=4, candidates_token_count=3, thoughts_token_count=2, total_token_count=15
)


class FakeLlm(BaseLlm):
    given: Any

    @property
    def capabilities(self) -> LlmCapabilities:
        return LlmCapabilities()

    async def generate_content_async(self, llm_request: LlmRequest, stream: bool = False) -> AsyncGenerator[LlmResponse, None]:
        parts = [types.Part(text="done")]
        if self.given.is_first([content.model_dump() for content in llm_request.contents]):
            parts = [types.Part(function_call=types.FunctionCall(name=name, args={})) for name in self.given.tools]
        if stream:
            yield LlmResponse(content=types.Content(role="model", parts=[types.Part(text="well, ")]), partial=True)
        yield LlmResponse(content=types.Content(role="model", parts=parts), usage_metadata=USAGE)


def tool(name: str, fn: Any) -> FunctionTool:
    async def call() -> str:
        return await fn()

    call.__name__ = name
    return FunctionTool(call)


class GoogleADK(Framework):
    name, package = "Google ADK", "google-adk"
    mode = StreamingMode.NONE

    async def run(self, given: Given) -> None:
        agent = LlmAgent(name="agent", model=FakeLlm(model=MODEL, given=given), tools=[tool(*named) for named in given.tools.items()])
        runner = InMemoryRunner(app=App(name="conformance", root_agent=agent, plugins=[PikarcPlugin(given.guard)]))
        session = await runner.session_service.create_session(app_name="conformance", user_id="ada")
        content = types.Content(role="user", parts=[types.Part(text="go")])
        events = runner.run_async(
            user_id="ada", session_id=session.id, new_message=content, run_config=RunConfig(streaming_mode=self.mode)
        )
        async for _ in events:
            pass


class GoogleADKStream(GoogleADK):
    name = "Google ADK, stream"
    mode = StreamingMode.SSE


FRAMEWORKS = [GoogleADK(), GoogleADKStream()]

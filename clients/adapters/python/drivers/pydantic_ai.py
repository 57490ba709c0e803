"""Pydantic AI, with its FunctionModel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from pikarc.adapters.pydantic_ai import PikarcCapability
from pydantic_ai import Agent, Tool
from pydantic_ai.messages import ModelMessage, ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel
from pydantic_ai.usage import RequestUsage
from trial import MODEL, Framework, Given

USAGE = RequestUsage(input_tokens=10, cache_read_tokens=4, output_tokens=5, output_reasoning_tokens=2)


def told(messages: list[ModelMessage]) -> str:
    return ModelMessagesTypeAdapter.dump_json(messages).decode()


class Model(FunctionModel):
    """A FunctionModel whose streams say exactly what they used, which they estimate otherwise."""

    @asynccontextmanager
    async def request_stream(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
        async with super().request_stream(*args, **options) as response:
            map_item = response._map_item

            def exact(item: Any) -> Iterator[Any]:
                yield from map_item(item)
                response._usage = USAGE

            response._map_item = exact
            yield response


def agent(given: Given) -> Agent[None, str]:
    def respond(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
        if given.is_first(told(messages)):
            return ModelResponse([ToolCallPart(name, {}, tool_call_id=f"call-{name}") for name in given.tools], usage=USAGE)
        return ModelResponse([TextPart("done")], usage=USAGE)

    async def stream(messages: list[ModelMessage], info: AgentInfo) -> AsyncIterator[Any]:
        if given.is_first(told(messages)):
            yield {i: DeltaToolCall(name, "{}", tool_call_id=f"call-{name}") for i, name in enumerate(given.tools)}
        else:
            yield "done"

    def tool(name: str, fn: Any) -> Tool[None]:
        async def call() -> str:
            return await fn()

        return Tool(call, name=name, takes_ctx=False)

    return Agent(
        Model(respond, stream_function=stream, model_name=MODEL),
        tools=[tool(name, fn) for name, fn in given.tools.items()],
        capabilities=[PikarcCapability(given.guard)],
    )


class PydanticAI(Framework):
    name, package = "Pydantic AI", "pydantic-ai-slim"

    async def run(self, given: Given) -> None:
        await agent(given).run("go")


class PydanticAIStream(PydanticAI):
    name = "Pydantic AI, stream"

    async def run(self, given: Given) -> None:
        async with agent(given).run_stream("go") as result:
            async for _ in result.stream_text():
                pass


FRAMEWORKS = [PydanticAI(), PydanticAIStream()]

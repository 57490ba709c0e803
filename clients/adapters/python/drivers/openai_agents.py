"""OpenAI's Agents SDK, with the scripted model that it brings for tests."""

from __future__ import annotations

from typing import Any

from agents import Agent, FunctionTool, RunConfig
from agents.testing import ModelCall, ModelStep, ScriptedModel, assistant_message, function_call
from agents.usage import Usage
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from pikarc.adapters.openai_agents import PikarcRunner
from trial import MODEL, Framework, Given

USAGE = Usage(
    requests=1, input_tokens=10, output_tokens=5, total_tokens=15,
    input_tokens_details=InputTokensDetails(cached_tokens=4, cache_write_tokens=0),
    output_tokens_details=OutputTokensDetails(reasoning_tokens=2),
)  # fmt: skip


def tool(name: str, fn: Any) -> FunctionTool:
    async def invoke(context: Any, arguments: str) -> str:
        return await fn()

    schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    return FunctionTool(name=name, description=name, params_json_schema=schema, on_invoke_tool=invoke)


def agent(given: Given) -> Agent[Any]:
    def respond(call: ModelCall) -> ModelStep:
        if given.is_first(call.input):
            return ModelStep([function_call(name, {}, call_id=f"call-{name}") for name in given.tools], usage=USAGE)
        return ModelStep([assistant_message("done")], usage=USAGE)

    model = ScriptedModel([ModelStep.respond(respond) for _ in range(3)])
    model.model = MODEL  # where the SDK's own models have their name
    return Agent(name="agent", model=model, tools=[tool(name, fn) for name, fn in given.tools.items()])


class OpenAIAgents(Framework):
    name, package = "OpenAI Agents SDK", "openai-agents"

    async def run(self, given: Given) -> None:
        await PikarcRunner(given.guard).run(agent(given), "go", run_config=RunConfig(tracing_disabled=True))


class OpenAIAgentsStream(OpenAIAgents):
    name = "OpenAI Agents SDK, stream"

    async def run(self, given: Given) -> None:
        result = PikarcRunner(given.guard).run_streamed(agent(given), "go", run_config=RunConfig(tracing_disabled=True))
        async for _ in result.stream_events():
            pass


FRAMEWORKS = [OpenAIAgents(), OpenAIAgentsStream()]

"""For OpenAI's Agents SDK: a runner in the place of its own. Models are wrapped, and tools have guardrails for input and output.

Agents are guarded where they are, since agents that are tools of others hold on to themselves: once run by `PikarcRunner`, an
agent's tools refuse to work elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import agents as sdk
from agents.items import TResponseStreamEvent
from agents.models.multi_provider import MultiProvider
from agents.retry import ModelRetryAdvice, ModelRetryAdviceRequest

from pikarc._client import AsyncPikarc
from pikarc._errors import PikarcBlockedError, PikarcError
from pikarc._open import OpenAsyncStep
from pikarc.adapters._calls import OnDenied

_runner: ContextVar[PikarcRunner | None] = ContextVar("pikarc_openai_agents_runner", default=None)
_step: ContextVar[OpenAsyncStep | None] = ContextVar("pikarc_openai_agents_step", default=None)

# Tools that OpenAI runs are part of the model's call.
_HOSTED = ("FileSearchTool", "WebSearchTool", "HostedMCPTool", "ImageGenerationTool", "CodeInterpreterTool", "ToolSearchTool",
           "ProgrammaticToolCallingTool")  # fmt: skip


class PikarcRunner:
    """Runs agents as `agents.Runner` does, under guard: `await PikarcRunner(guard).run(agent, "Hello")`, within a run.

    Covered are all models, and the tools of the agent, of its MCP servers, and of the agents that it hands off to or has as
    tools. Tools that cannot be guarded (computer, shell, patches) are refused.

    Args:
        guard: the client.
        on_denied: "tell" the model in words that a tool was not called, or "raise" PikarcBlockedError.
    """

    def __init__(self, guard: AsyncPikarc, *, on_denied: OnDenied = "tell") -> None:
        self.guard = guard
        self.on_denied: OnDenied = on_denied
        self._provider = MultiProvider()

    async def run(self, agent: sdk.Agent[Any], input: Any, **options: Any) -> sdk.RunResult:
        """As `Runner.run`."""
        token = _runner.set(self)
        try:
            return await sdk.Runner.run(_guarded(agent, set()), input, **self._guarded_config(options))
        except sdk.UserError as exc:  # what the SDK makes of an exception in a guardrail
            if isinstance(exc.__cause__, PikarcError):
                raise exc.__cause__ from None
            raise
        finally:
            _runner.reset(token)

    def run_streamed(self, agent: sdk.Agent[Any], input: Any, **options: Any) -> sdk.RunResultStreaming:
        """As `Runner.run_streamed`. Its events end with the SDK's UserError where the guard raised, which is its cause."""
        token = _runner.set(self)  # the task that runs the agent is made here, and inherits it
        try:
            return sdk.Runner.run_streamed(_guarded(agent, set()), input, **self._guarded_config(options))
        finally:
            _runner.reset(token)

    def _guarded_config(self, options: dict[str, Any]) -> dict[str, Any]:
        config = options.get("run_config") or sdk.RunConfig(model_provider=self._provider)
        if not isinstance(config, sdk.RunConfig):
            raise TypeError("run_config must be a RunConfig")
        if config.tool_execution is not None and config.tool_execution.pre_approval_tool_input_guardrails:
            raise ValueError("pre_approval_tool_input_guardrails would ask about each tool twice: leave it out")
        model = _GuardedModel(config.model, None) if isinstance(config.model, sdk.Model) else config.model
        return {**options, "run_config": replace(config, model=model, model_provider=_GuardedProvider(config.model_provider))}


def _running() -> PikarcRunner:
    if (runner := _runner.get()) is None:
        raise RuntimeError("this agent is under guard: run it by PikarcRunner(guard).run")
    return runner


class _GuardedProvider(sdk.ModelProvider):
    def __init__(self, provider: sdk.ModelProvider) -> None:
        self._inner = provider

    def get_model(self, model_name: str | None) -> sdk.Model:
        return _GuardedModel(self._inner.get_model(model_name), model_name)

    async def aclose(self) -> None:
        await self._inner.aclose()


class _GuardedModel(sdk.Model):
    def __init__(self, model: sdk.Model, name: str | None) -> None:
        self._inner = model._inner if isinstance(model, _GuardedModel) else model
        own = getattr(self._inner, "model", None)
        self._name = own if isinstance(own, str) and own else name or type(self._inner).__name__

    async def close(self) -> None:
        await self._inner.close()

    async def _cleanup_on_run_end(self, owner: object) -> None:
        await self._inner._cleanup_on_run_end(owner)

    def get_retry_advice(self, request: ModelRetryAdviceRequest) -> ModelRetryAdvice | None:
        return self._inner.get_retry_advice(request)

    async def get_response(self, system_instructions: str | None, input: Any, *args: Any, **options: Any) -> sdk.ModelResponse:
        run, inner = _running().guard.current_run(), self._inner
        return await run.model_call(
            lambda: inner.get_response(system_instructions, input, *args, **options), self._name, {"input": input}
        )

    async def stream_response(
        self, system_instructions: str | None, input: Any, *args: Any, **options: Any
    ) -> AsyncIterator[TResponseStreamEvent]:
        run, inner = _running().guard.current_run(), self._inner
        async with await run.model_stream(
            lambda: inner.stream_response(system_instructions, input, *args, **options), self._name, {"input": input}
        ) as events:
            async for event in events:
                yield event


async def _before(data: sdk.ToolInputGuardrailData) -> sdk.ToolGuardrailFunctionOutput:
    runner, call = _running(), data.context
    try:
        step = await runner.guard.current_run().begin_tool_call(call.tool_name, _parsed(call.tool_arguments))
    except PikarcBlockedError as blocked:
        if runner.on_denied == "raise":
            raise
        return sdk.ToolGuardrailFunctionOutput.reject_content(blocked.for_model())
    _step.set(step)  # the call and what follows it run in this tool's own task, or in one made from it
    return sdk.ToolGuardrailFunctionOutput.allow()


async def _after(data: sdk.ToolOutputGuardrailData) -> sdk.ToolGuardrailFunctionOutput:
    if (step := _step.get()) is not None:
        await step.complete()
    return sdk.ToolGuardrailFunctionOutput.allow()


# Of a tool that raises, the run's end settles the step: the SDK asks no guardrail then.
_INPUT = sdk.ToolInputGuardrail[Any](_before, name="pikarc")
_OUTPUT = sdk.ToolOutputGuardrail[Any](_after, name="pikarc")


def _guarded(agent: sdk.Agent[Any], seen: set[int]) -> sdk.Agent[Any]:
    """Guards an agent and those that can be reached from it, where they are, and returns it."""
    if id(agent) in seen:  # agents may hand off to each other
        return agent
    seen.add(id(agent))
    if isinstance(agent.model, sdk.Model) and not isinstance(agent.model, _GuardedModel):
        agent.model = _GuardedModel(agent.model, None)
    for tool in agent.tools:
        if isinstance(tool, sdk.FunctionTool):
            _add_guardrails(tool)
            inner: Any = getattr(tool, "_agent_instance", None)
            if inner is not None:
                _guarded(inner, seen)
        elif type(tool).__name__ not in _HOSTED:
            raise TypeError(f"the tool {getattr(tool, 'name', tool)} is no function: it cannot be guarded")
    for server in agent.mcp_servers:
        _add_guardrails(server)
    for to in agent.handoffs:
        if isinstance(to, sdk.Agent):
            _guarded(to, seen)
        elif not isinstance(to.on_invoke_handoff, _GuardedHandoff):
            to.on_invoke_handoff = _GuardedHandoff(to.on_invoke_handoff)
    return agent


def _add_guardrails(tool: Any) -> None:
    before, after = list(tool.tool_input_guardrails or []), list(tool.tool_output_guardrails or [])
    if _INPUT not in before:  # last: what others reject is not asked about
        tool.tool_input_guardrails, tool.tool_output_guardrails = [*before, _INPUT], [_OUTPUT, *after]


class _GuardedHandoff:
    """A handoff made by `handoff(agent)` calls a function that returns the agent."""

    def __init__(self, invoke: Any) -> None:
        self._invoke = invoke

    async def __call__(self, *args: Any) -> sdk.Agent[Any]:
        return _guarded(await self._invoke(*args), set())


def _parsed(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments

"""CrewAI, with a model of its base class that calls the tools once."""

from __future__ import annotations

from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import llm_call_context
from crewai.tools import BaseTool
from pikarc.adapters.crewai import PikarcHooks
from trial import MODEL, Framework, Given

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_prompt_tokens": 4, "reasoning_tokens": 2}


class FakeLLM(BaseLLM):
    given: Any = None

    def supports_function_calling(self) -> bool:
        return True

    def call(self, messages: Any, tools: Any = None, callbacks: Any = None, available_functions: Any = None,
             from_task: Any = None, from_agent: Any = None, response_model: Any = None) -> Any:  # fmt: skip
        with llm_call_context():
            self._emit_call_started_event(messages, tools, from_task=from_task, from_agent=from_agent)
            answer: Any = "Final Answer: done"
            kind = LLMCallType.LLM_CALL
            if self.given.is_first(messages):
                kind = LLMCallType.TOOL_CALL
                answer = [
                    {"id": f"call-{name}", "type": "function", "function": {"name": name, "arguments": "{}"}}
                    for name in self.given.tools
                ]
            self._emit_call_completed_event(answer, kind, from_task, from_agent, messages, usage=USAGE)
            return answer


def tool(tool_name: str, fn: Any) -> BaseTool:
    class Tool(BaseTool):
        name: str = tool_name
        description: str = tool_name

        def _run(self) -> str:
            return fn()

    return Tool()


class CrewAI(Framework):
    name, package, sync = "CrewAI", "crewai", True

    def run(self, given: Given) -> None:
        agent = Agent(
            role="agent", goal="go", backstory="none", llm=FakeLLM(model=MODEL, given=given), cache=False,
            tools=[tool(name, fn) for name, fn in given.tools.items()],
        )  # fmt: skip
        task = Task(description="go", expected_output="done", agent=agent)
        if given.nested:  # hooks are the process's
            Crew(agents=[agent], tasks=[task]).kickoff()
            return
        hooks = PikarcHooks(given.guard).register()
        try:
            Crew(agents=[agent], tasks=[task]).kickoff()
        finally:
            hooks.unregister()


FRAMEWORKS = [CrewAI()]

"""A crew of CrewAI under Pikarc's guard, without a model key: a class stands in for the model.

    pip install "pikarc[crewai] @ http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl"
    PIKARC_API_KEY=lg_... python examples/with_crewai.py
"""

from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.events.types.llm_events import LLMCallType
from crewai.llms.base_llm import llm_call_context
from crewai.tools import tool
from pikarc import Pikarc
from pikarc.adapters.crewai import PikarcHooks


@tool("refund")
def refund(order: int) -> str:
    """Refunds an order."""
    return f"order {order} is refunded"


class PretendedModel(BaseLLM):
    def supports_function_calling(self) -> bool:
        return True

    def call(self, messages: Any, tools: Any = None, *args: Any, **options: Any) -> Any:
        with llm_call_context():
            self._emit_call_started_event(messages, tools)
            answer: Any = "Order 3 is refunded."
            if messages[-1]["role"] == "user" and "refunded" not in str(messages):
                answer = [{"id": "call-1", "type": "function", "function": {"name": "refund", "arguments": '{"order": 3}'}}]
            used = {"prompt_tokens": 500, "completion_tokens": 100}
            self._emit_call_completed_event(answer, LLMCallType.LLM_CALL, usage=used)
            return answer


with Pikarc() as guard:
    PikarcHooks(guard).register()
    # In your own crew: llm="gpt-4o".
    model = PretendedModel(model="pretended-model")
    agent = Agent(role="support", goal="help", backstory="none", llm=model, tools=[refund])
    crew = Crew(agents=[agent], tasks=[Task(description="Refund order 3.", expected_output="what was done", agent=agent)])
    with guard.run(user_id="ada") as run:
        print(crew.kickoff(), "Run", run.run_id)

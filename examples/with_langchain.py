"""An agent of LangChain under Pikarc's guard, without a model key: a list of messages stands in for the model.

    pip install "pikarc[langchain] @ http://localhost:8000/clients/pikarc-1.0.0-py3-none-any.whl"
    PIKARC_API_KEY=lg_... python examples/with_langchain.py
"""

from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from pikarc import Pikarc
from pikarc.adapters.langchain import PikarcMiddleware


@tool
def refund(order: int) -> str:
    """Refunds an order."""
    return f"order {order} is refunded"


class PretendedModel(GenericFakeChatModel):
    model_name: str = "pretended-model"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self


# In your own agent: create_agent("openai:gpt-4o", ...).
USED = {"input_tokens": 500, "output_tokens": 100, "total_tokens": 600}
CALL = {"name": "refund", "args": {"order": 3}, "id": "call-1"}
MODEL = PretendedModel(
    messages=iter([
        AIMessage("", tool_calls=[CALL], usage_metadata=USED),
        AIMessage("Order 3 is refunded.", usage_metadata=USED),
    ])
)  # fmt: skip

# With AsyncPikarc it is `ainvoke`.
with Pikarc() as guard:
    agent = create_agent(MODEL, [refund], middleware=[PikarcMiddleware(guard)])
    with guard.run(user_id="ada") as run:
        result = agent.invoke({"messages": [{"role": "user", "content": "Refund order 3."}]})
        print(result["messages"][-1].content, "Run", run.run_id)

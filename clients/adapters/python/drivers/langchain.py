"""LangChain's agents on LangGraph, with a chat model of its own kind that calls the tools once."""

from __future__ import annotations

from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, messages_to_dict
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool
from pikarc.adapters.langchain import PikarcMiddleware
from trial import MODEL, Framework, Given

USAGE = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_token_details": {"cache_read": 4},
         "output_token_details": {"reasoning": 2}}  # fmt: skip


class FakeChat(BaseChatModel):
    given: Any
    model_name: str = MODEL

    @property
    def _llm_type(self) -> str:
        return "fake"

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        return self

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: CallbackManagerForLLMRun | None = None,
        **options: Any,
    ) -> ChatResult:  # fmt: skip
        first = self.given.is_first(messages_to_dict(messages))
        calls = [{"name": name, "args": {}, "id": f"call-{name}"} for name in self.given.tools] if first else []
        message = AIMessage("" if first else "done", tool_calls=calls, usage_metadata=USAGE)
        return ChatResult(generations=[ChatGeneration(message=message)])


def agent(given: Given, sync: bool = False) -> Any:
    def tool(name: str, fn: Any) -> StructuredTool:
        how = {"func": fn} if sync else {"coroutine": fn}
        return StructuredTool.from_function(name=name, description=name, **how)

    tools = [tool(name, fn) for name, fn in given.tools.items()]
    return create_agent(FakeChat(given=given), tools, middleware=[PikarcMiddleware(given.guard)])


INPUT = {"messages": [{"role": "user", "content": "go"}]}


class LangChain(Framework):
    name, package = "LangChain", "langchain"

    async def run(self, given: Given) -> None:
        await agent(given).ainvoke(INPUT)


class LangChainStream(LangChain):
    name = "LangChain, stream"

    async def run(self, given: Given) -> None:
        async for _ in agent(given).astream(INPUT, stream_mode="messages"):
            pass


class LangChainSync(LangChain):
    name, sync = "LangChain, without asyncio", True

    def run(self, given: Given) -> None:
        agent(given, sync=True).invoke(INPUT)


FRAMEWORKS = [LangChain(), LangChainStream(), LangChainSync()]

"""Clients of a model alone, by `guard.wrap`. The loop around them is the program's own, which guards its tools by the run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, ClassVar

import anthropic
import httpx2
import openai
from trial import MODEL, Framework, Given

Names = list[str]


def chat(names: Names) -> dict[str, Any]:
    calls = [{"type": "function", "id": name, "function": {"name": name, "arguments": "{}"}} for name in names]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    used = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice], "usage": used}


def response(names: Names) -> dict[str, Any]:
    output = [{"type": "function_call", "name": name, "call_id": name, "arguments": "{}"} for name in names]
    used = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15, "input_tokens_details": {"cached_tokens": 4},
            "output_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
    return {"id": "r", "object": "response", "model": MODEL, "output": output, "usage": used}


def message(names: Names) -> dict[str, Any]:
    content = [{"type": "tool_use", "id": name, "name": name, "input": {}} for name in names]
    used = {"input_tokens": 6, "cache_read_input_tokens": 4, "output_tokens": 5, "output_tokens_details": {"thinking_tokens": 2}}
    return {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": content, "usage": used}


class Plain(Framework):
    tells_the_model = "the program calls its tools itself, and catches PikarcBlockedError"
    answer: ClassVar[Callable[[Names], dict[str, Any]]]
    client: ClassVar[Any]

    def make(self, given: Given) -> Any:
        def provider(request: httpx2.Request) -> httpx2.Response:
            body = json.loads(request.content)
            first = given.is_first(body.get("messages") or body.get("input"))
            return httpx2.Response(200, json=type(self).answer(list(given.tools) if first else []))

        http = (httpx2.Client if self.sync else httpx2.AsyncClient)(transport=httpx2.MockTransport(provider))
        return given.guard.wrap(self.client(api_key="k", max_retries=0, http_client=http))

    def ask(self, client: Any, messages: list[Any]) -> Any:
        raise NotImplementedError

    def called(self, answer: Any) -> Names:
        raise NotImplementedError

    async def run(self, given: Given) -> None:
        client, messages = self.make(given), [{"role": "user", "content": "go"}]
        while names := self.called(await self.ask(client, messages)):
            run = given.guard.current_run()
            done = await asyncio.gather(*(run.tool_call(given.tools[name], tool_name=name) for name in names))
            messages.append({"role": "user", "content": json.dumps(done)})


class Chat(Plain):
    name, package, client, answer = "openai, chat completions", "openai", openai.AsyncOpenAI, chat

    def ask(self, client: Any, messages: list[Any]) -> Any:
        return client.chat.completions.create(model=MODEL, messages=messages)

    def called(self, answer: Any) -> Names:
        return [call.function.name for call in answer.choices[0].message.tool_calls or []]


class Responses(Plain):
    name, package, client, answer = "openai, responses", "openai", openai.AsyncOpenAI, response

    def ask(self, client: Any, messages: list[Any]) -> Any:
        return client.responses.create(model=MODEL, input=messages)

    def called(self, answer: Any) -> Names:
        return [call.name for call in answer.output]


class Messages(Plain):
    name, package, client, answer = "anthropic, messages", "anthropic", anthropic.AsyncAnthropic, message

    def ask(self, client: Any, messages: list[Any]) -> Any:
        return client.messages.create(model=MODEL, max_tokens=9, messages=messages)

    def called(self, answer: Any) -> Names:
        return [block.name for block in answer.content]


class ChatSync(Chat):
    name, client, sync = "openai, chat completions, without asyncio", openai.OpenAI, True

    def run(self, given: Given) -> None:
        client, messages = self.make(given), [{"role": "user", "content": "go"}]
        while names := self.called(self.ask(client, messages)):
            run = given.guard.current_run()
            done = [run.tool_call(given.tools[name], tool_name=name) for name in names]
            messages.append({"role": "user", "content": json.dumps(done)})


FRAMEWORKS = [Chat(), ChatSync(), Responses(), Messages()]

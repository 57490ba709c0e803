"""Wrapped clients of OpenAI and Anthropic ask before each call, and report what it used. Only the provider is a stand-in."""

from __future__ import annotations

import asyncio
import json

import anthropic
import httpx2
import openai
import pytest
from pikarc import AsyncPikarc, Pikarc, PikarcBlockedError

CHAT = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12, "prompt_tokens_details": {"cached_tokens": 3},
        "completion_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
RESPONSES = {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12, "input_tokens_details": {"cached_tokens": 3},
             "output_tokens_details": {"reasoning_tokens": 2}}  # fmt: skip
MESSAGES = {"input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 1,
            "output_tokens_details": {"thinking_tokens": 2}}  # fmt: skip
MODEL = "test-model"
MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": MESSAGES}
RESPONSE = {"id": "r", "object": "response", "model": MODEL, "output": [], "usage": RESPONSES}


def chunk(**members):
    return {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [], **members}


def events(path, body):
    if path.endswith("/messages"):
        return [{"type": "message_start", "message": MESSAGE}, {"type": "message_stop"}]
    if path.endswith("/responses"):
        return [{"type": "response.completed", "sequence_number": 1, "response": RESPONSE}]
    said = [chunk(choices=[{"index": 0, "delta": {"content": text}}]) for text in ("a", "b")]
    return said + ([chunk(usage=CHAT)] if body.get("stream_options", {}).get("include_usage") else [])


class Provider:
    """Answers as OpenAI and Anthropic do, and keeps the paths it was asked for."""

    def __init__(self):
        self.asked = []

    def __call__(self, request):
        path, body = request.url.path, json.loads(request.content)
        self.asked.append(path)
        if body.get("stream"):
            lines = "".join(f"event: {e.get('type', 'x')}\ndata: {json.dumps(e)}\n\n" for e in events(path, body))
            return httpx2.Response(200, text=lines, headers={"content-type": "text/event-stream"})
        if path.endswith("/messages"):
            return httpx2.Response(200, json=MESSAGE)
        if path.endswith("/responses"):
            return httpx2.Response(200, json=RESPONSE)
        if path.endswith("/embeddings"):
            return httpx2.Response(200, json={"object": "list", "model": MODEL, "data": [], "usage": {"prompt_tokens": 7}})
        return httpx2.Response(200, json={**chunk(usage=CHAT), "object": "chat.completion"})


HI = [{"role": "user", "content": "hi"}]
CALLS = {
    "chat": (12, lambda o, a: o.chat.completions.create(model=MODEL, messages=HI)),
    "chat raw": (12, lambda o, a: o.chat.completions.with_raw_response.create(model=MODEL, messages=HI)),
    "chat again": (12, lambda o, a: o.with_options(timeout=9).chat.completions.create(model=MODEL, messages=HI)),
    "chat stream": (12, lambda o, a: o.chat.completions.create(model=MODEL, messages=HI, stream=True)),
    "responses": (12, lambda o, a: o.responses.create(model=MODEL, input="hi")),
    "responses stream": (12, lambda o, a: o.responses.create(model=MODEL, input="hi", stream=True)),
    "embeddings": (7, lambda o, a: o.embeddings.create(model=MODEL, input="hi", encoding_format="float")),
    "messages": (12, lambda o, a: a.messages.create(model=MODEL, max_tokens=9, messages=HI)),
    "messages stream": (12, lambda o, a: a.messages.create(model=MODEL, max_tokens=9, messages=HI, stream=True)),
}


@pytest.fixture
def provider():
    return Provider()


def synchronously(options, provider, call):
    with httpx2.Client(transport=httpx2.MockTransport(provider)) as http, Pikarc(**options) as guard:
        o = guard.wrap(openai.OpenAI(api_key="x", http_client=http, max_retries=0))
        a = guard.wrap(anthropic.Anthropic(api_key="x", http_client=http, max_retries=0))
        with guard.run("ada"):
            answer = call(o, a)
            return list(answer) if hasattr(answer, "__next__") else answer


def asynchronously(options, provider, call):
    async def main():
        async with httpx2.AsyncClient(transport=httpx2.MockTransport(provider)) as http, AsyncPikarc(**options) as guard:
            o = guard.wrap(openai.AsyncOpenAI(api_key="x", http_client=http, max_retries=0))
            a = guard.wrap(anthropic.AsyncAnthropic(api_key="x", http_client=http, max_retries=0))
            async with guard.run("ada"):
                answer = await call(o, a)
                return [one async for one in answer] if hasattr(answer, "__anext__") else answer

    return asyncio.run(main())


@pytest.mark.parametrize("twin", [synchronously, asynchronously])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_asked_about_and_booked_once(twin, name, options, provider, details):
    tokens, call = CALLS[name]
    answer = twin(options, provider, call)
    (run,) = details()
    (step,) = run["steps"]
    assert (len(provider.asked), step["type"], step["model"], step["status"]) == (1, "MODEL_CALL", MODEL, "COMPLETED")
    assert (step["prompt_tokens"] or 0) + (step["completion_tokens"] or 0) == tokens
    if name != "embeddings":  # to the token, whatever the provider calls them
        kinds = ("prompt_tokens", "completion_tokens", "cached_tokens", "reasoning_tokens", "cache_write_tokens")
        assert [step.get(kind) for kind in kinds] == [7, 5, 3, 2, 1 if name.startswith("messages") else None]
    if name == "chat stream":  # the chunk that tells the usage was not asked for by the caller
        assert [one.choices[0].delta.content for one in answer] == ["a", "b"]


@pytest.mark.parametrize("twin", [synchronously, asynchronously])
@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_is_denied_does_not_reach_the_provider(twin, name, options, provider, account):
    def denied(o, a):
        account.set_kill_switch(True)
        return CALLS[name][1](o, a)

    with pytest.raises(PikarcBlockedError):
        twin(options, provider, denied)
    assert provider.asked == []


@pytest.mark.parametrize("twin", [synchronously, asynchronously])
def test_what_cannot_be_guarded_is_refused(twin, options, provider):
    with pytest.raises(NotImplementedError):
        twin(options, provider, lambda o, a: o.realtime.connect(model=MODEL))


def test_a_client_of_the_other_kind_is_refused(options):
    with Pikarc(**options) as guard, pytest.raises(TypeError):
        guard.wrap(openai.AsyncOpenAI(api_key="x"))


def test_an_answer_whose_usage_would_pass_unseen_is_refused_before_it_is_asked_for(options, provider):
    def call(o, a):
        with o.chat.completions.with_streaming_response.create(model=MODEL, messages=HI):
            pass

    with pytest.raises(NotImplementedError):
        synchronously(options, provider, call)
    assert provider.asked == []


async def test_a_step_that_another_ends_is_settled_once_and_by_its_run_at_the_latest(options, details):
    async with AsyncPikarc(**options) as guard, guard.run("ada") as run:
        step = await run.begin_tool_call("search", {"q": 1})
        await step.complete("found")
        await step.fail(ValueError())
        await guard.current_run().begin_tool_call("lost")
    (run,) = details()
    assert [step["status"] for step in run["steps"]] == ["COMPLETED", "FAILED"]


def test_a_stream_that_is_left_is_booked_with_what_came(options, provider, details):
    def call(o, a):
        chunks = o.chat.completions.create(model=MODEL, messages=HI, stream=True)
        next(chunks)
        chunks.close()

    synchronously(options, provider, call)
    (run,) = details()
    assert [(step["status"], step["completion_tokens"]) for step in run["steps"]] == [("COMPLETED", 1)]

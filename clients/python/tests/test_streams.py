"""A stream is passed on untouched and settled exactly once, however it ends."""

from __future__ import annotations

import asyncio

import pytest
from conftest import MODEL
from pikarc import AsyncPikarc, Pikarc

# What comes at the end of a stream, or at both ends of it, by provider; all mean 7 tokens in and 5 out.
WHOLE = {
    "openai chat": [{"choices": [{}]}, {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 5}}],
    "openai responses": [
        {"type": "response.output_text.delta", "delta": "so"},
        {"type": "response.completed", "response": {"usage": {"input_tokens": 7, "output_tokens": 5}}},
    ],
    "anthropic": [
        {"type": "message_start", "message": {"model": "claude", "usage": {"input_tokens": 7, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"text": "so"}},
        {"type": "message_delta", "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ],
    "gemini": [
        {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 1}},
        {"usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 3, "thoughtsTokenCount": 2}},
    ],
    "bedrock": [{"contentBlockDelta": {}}, {"metadata": {"usage": {"inputTokens": 7, "outputTokens": 5}}}],
}


class Broken(Exception):
    pass


class Stream:
    """A model's stream, of both kinds. It may break, and counts how often it was closed."""

    def __init__(self, chunks, breaks=False):
        self.chunks, self.breaks, self.closed = chunks, breaks, 0

    def __iter__(self):
        yield from self.chunks
        if self.breaks:
            raise Broken

    async def __aiter__(self):
        for chunk in self:
            await asyncio.sleep(0)
            yield chunk

    def close(self):
        self.closed += 1


class Twin:
    """Uses the stream of either client alike."""

    def __init__(self, kind, options):
        self.kind, self.options = kind, options

    def consume(self, stream, most=1000, close=False):
        if self.kind == "async":
            return asyncio.run(self.asynchronously(stream, most, close))
        seen = []
        with Pikarc(**self.options) as client, client.run("ada") as run:
            chunks = run.model_stream(lambda: stream, MODEL)
            for chunk in chunks:
                seen.append(chunk)
                if len(seen) == most:
                    break
            if close:
                chunks.close()
                chunks.close()
        return seen

    async def asynchronously(self, stream, most, close):
        seen = []
        async with AsyncPikarc(**self.options) as client, client.run("ada") as run:
            chunks = await run.model_stream(lambda: stream, MODEL)
            async for chunk in chunks:
                seen.append(chunk)
                if len(seen) == most:
                    break
            if close:
                await chunks.aclose()
                await chunks.aclose()
        return seen


@pytest.fixture(params=["async", "sync"])
def twin(request, options):
    return Twin(request.param, options)


@pytest.fixture
def only_step(details):
    def read():
        (run,) = details()
        (step,) = run["steps"]
        return run["status"], step["status"], step["prompt_tokens"], step["completion_tokens"]

    return read


@pytest.mark.parametrize("provider", WHOLE)
def test_a_whole_stream_is_booked_as_its_provider_says(twin, only_step, provider):
    assert twin.consume(Stream(WHOLE[provider])) == WHOLE[provider]
    assert only_step() == ("COMPLETED", "COMPLETED", 7, 5)


def test_a_stream_that_breaks_is_booked_with_what_came(twin, only_step):
    with pytest.raises(Broken):
        twin.consume(Stream(["a", "b", "c"], breaks=True))
    assert only_step() == ("FAILED", "FAILED", 0, 3)


@pytest.mark.parametrize("close", [True, False], ids=["closed", "left open"])
def test_a_stream_that_is_left_early_is_booked_with_what_came(twin, only_step, close):
    stream = Stream(["a", "b", "c"])
    assert twin.consume(stream, most=2, close=close) == ["a", "b"]
    assert only_step() == ("COMPLETED", "COMPLETED", 0, 2)
    assert (stream.closed > 0) == close


async def test_a_stream_is_settled_once_by_whatever_ends_it(options, details, account):
    async with AsyncPikarc(**options) as client, client.run("ada") as run:
        async with await run.model_stream(lambda: Stream(WHOLE["openai chat"]), MODEL) as chunks:
            assert len([chunk async for chunk in chunks]) == 2
            (step,) = details()[0]["steps"]
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
        await chunks.aclose()
        assert details()[0]["steps"] == [step]


async def test_a_stream_that_cannot_be_opened_fails_its_step(options, only_step):
    def refuse():
        raise Broken

    with pytest.raises(Broken):
        async with AsyncPikarc(**options) as client, client.run("ada") as run:
            await run.model_stream(refuse, MODEL)
    assert only_step() == ("FAILED", "FAILED", 0, 0)


async def test_what_is_no_stream_fails_its_step(options, only_step):
    with pytest.raises(AttributeError):
        async with AsyncPikarc(**options) as client, client.run("ada") as run:
            await run.model_stream(lambda: 17, MODEL)
    assert only_step() == ("FAILED", "FAILED", 0, 0)

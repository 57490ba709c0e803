"""What a call used is read from what it returned, whatever the provider and the kind of object."""

from __future__ import annotations

from dataclasses import make_dataclass
from typing import Any

import pydantic
import pytest
from pikarc import _usage

# An answer of each kind, and all input and all output that it means, cached and reasoning tokens included.
SHAPES: dict[str, tuple[dict[str, Any], int, int]] = {
    "openai chat": (
        {
            "model": "gpt-4o",
            "usage": {"prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": 60}},
        },
        100,
        20,
    ),
    "openai responses": (
        {
            "model": "gpt-4o",
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {"cached_tokens": 60},
                "output_tokens": 20,
                "output_tokens_details": {"reasoning_tokens": 8},
            },
        },
        100,
        20,
    ),
    "openai embeddings": ({"model": "text-embedding-3-small", "usage": {"prompt_tokens": 9, "total_tokens": 9}}, 9, 0),
    "anthropic": (
        {
            "model": "claude-sonnet-4",
            "usage": {
                "input_tokens": 30,
                "cache_read_input_tokens": 60,
                "cache_creation_input_tokens": 10,
                "output_tokens": 20,
            },
        },
        100,
        20,
    ),
    "gemini": (
        {
            "model_version": "gemini-2.5-pro",
            "usage_metadata": {
                "prompt_token_count": 90,
                "tool_use_prompt_token_count": 10,
                "cached_content_token_count": 60,
                "candidates_token_count": 12,
                "thoughts_token_count": 8,
            },
        },
        100,
        20,
    ),
    "gemini rest": (
        {"modelVersion": "gemini-2.5-pro", "usageMetadata": {"promptTokenCount": 100, "candidatesTokenCount": 20}},
        100,
        20,
    ),
    "bedrock": (
        {"usage": {"inputTokens": 30, "cacheReadInputTokens": 60, "cacheWriteInputTokens": 10, "outputTokens": 20}},
        100,
        20,
    ),
    "litellm": (
        {"model": "azure/gpt-4o", "usage": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}},
        100,
        20,
    ),
    "langchain": (
        {
            "content": "so",
            "usage_metadata": {
                "input_tokens": 100,
                "input_token_details": {"cache_read": 60, "cache_creation": 7},
                "output_tokens": 20,
                "output_token_details": {"reasoning": 8},
            },
            "response_metadata": {"model_name": "gpt-4o"},
        },
        100,
        20,
    ),
    "langchain, older": (
        {"content": "so", "response_metadata": {"token_usage": {"prompt_tokens": 100, "completion_tokens": 20}}},
        100,
        20,
    ),
    "cohere": ({"usage": {"tokens": {"input_tokens": 1}, "billed_units": {"input_tokens": 100, "output_tokens": 20}}}, 100, 20),
}


# Usage that is no provider's, and goes to the server as OpenAI would tell it.
REWRITTEN = {
    "langchain": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 7},
        "output_tokens": 20,
        "output_tokens_details": {"reasoning_tokens": 8},
    }
}


def as_object(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return make_dataclass("Object", value)(**{name: as_object(member) for name, member in value.items()})


def as_model(value: Any) -> Any:
    """Makes pydantic's models, which every provider's package returns."""
    if not isinstance(value, dict):
        return value
    members = {name: as_model(member) for name, member in value.items()}
    config = pydantic.ConfigDict(protected_namespaces=())
    return pydantic.create_model("Model", __config__=config, **{n: (Any, ...) for n in members})(**members)


@pytest.mark.parametrize("kind", [dict, as_object, as_model], ids=["mapping", "object", "pydantic"])
@pytest.mark.parametrize("shape", SHAPES)
def test_usage_is_found_in_what_a_call_returned(shape, kind):
    answer, prompt, completion = SHAPES[shape]
    report = _usage.report(kind(answer), None)
    assert (report["prompt_tokens"], report.get("completion_tokens", 0)) == (prompt, completion)
    own = answer.get("usage") or answer.get("usage_metadata") or answer.get("usageMetadata")
    own = own or answer["response_metadata"]["token_usage"]
    assert report["usage"] == REWRITTEN.get(shape, own)  # the provider's own, as it came
    named = answer.get("model") or answer.get("model_version") or answer.get("modelVersion")
    assert report.get("model") == named


class Hostile:
    @property
    def usage(self) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "result",
    [None, "a text", b"bytes", 17, 1.5, [], (500, 100), {}, {"usage": None}, {"usage": "much"}, {"usage": {"cost": 1}}, Hostile()],
    ids=repr,
)
def test_what_says_nothing_of_usage_is_reported_without(result):
    assert _usage.report(result, None) == {}


@pytest.mark.parametrize("usage", [{"prompt_tokens": "many", "completion_tokens": 3}, {"prompt_tokens": float("nan"), "completion_tokens": 3}])
def test_a_count_that_cannot_be_read_costs_the_other_one_nothing(usage):
    report = _usage.report({"usage": usage}, None)
    assert report["completion_tokens"] == 3 and "prompt_tokens" not in report


def test_a_large_answer_is_not_turned_into_a_mapping_to_be_looked_at():
    class Answer:
        text = "x" * 10

        def model_dump(self) -> dict[str, Any]:
            raise AssertionError("all of a large answer is copied to find a count in it")

        def __init__(self) -> None:
            self.usage = {"prompt_tokens": 1, "completion_tokens": 2}

    assert _usage.report(Answer(), None)["completion_tokens"] == 2


def test_an_extractor_wins_and_what_it_leaves_out_is_found():
    answer = {"usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    assert _usage.report(answer, lambda _: (7, 8))["prompt_tokens"] == 7
    assert _usage.report(answer, lambda _: (7.5, 8))["prompt_tokens"] == 8  # half a token is charged too
    assert _usage.report(answer, lambda _: None)["prompt_tokens"] == 1
    assert _usage.report(answer, lambda _: 1 / 0)["completion_tokens"] == 2
    # What is no count is the server's to name: it leaves it out and takes the other.
    assert _usage.report({}, lambda _: ("many", 8)) == {"prompt_tokens": "many", "completion_tokens": 8}

"""What the pretended agents of these tests do through the published client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import pytest
from pikarc import PikarcBlockedError

USER = "ada"


async def call_model(run: Any, model: str = "gpt-4o", prompt_tokens: int = 500, completion_tokens: int = 100) -> None:
    """One model call; the pretended model's answer is its own token usage."""

    async def model_function() -> tuple[int, int]:
        await asyncio.sleep(0)
        return prompt_tokens, completion_tokens

    answer = await run.model_call(model_function, model=model, token_extractor=lambda usage: usage)
    assert answer == (prompt_tokens, completion_tokens)


def must_not_run() -> NoReturn:
    """Stands where a model or tool would: a guarded call that was refused must never reach it."""
    pytest.fail("the guarded function ran although the server refused it")


@contextmanager
def blocked(reason: str) -> Iterator[None]:
    """Expects the published client to raise its own error, with this reason."""
    with pytest.raises(PikarcBlockedError) as caught:
        yield
    assert caught.value.deny_reason == reason
    assert str(caught.value) == reason

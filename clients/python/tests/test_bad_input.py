"""Bad input: the agent is told, or goes on. It never hangs, and what a call has used is never lost."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from conftest import MODEL
from pikarc import (
    APIError,
    AsyncPikarc,
    Authentication,
    ConnectionFailed,
    InvalidRequest,
    Pikarc,
    PikarcBlockedError,
    PikarcError,
    Unavailable,
    _drive,
    _logic,
)

USED = {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
BOTH = pytest.mark.parametrize("client", [AsyncPikarc, Pikarc])


@BOTH
@pytest.mark.parametrize(
    ("key", "url", "complaint"),
    [
        (None, None, "api_key must be provided"),
        ("", None, "api_key must be provided"),
        ("lg_a\n", None, "line break"),
        ("lg_a b", None, "space"),
        ("lg_ключ", None, "another character"),
        ("lg_a", "localhost:8000", "http:// or https://"),
        ("lg_a", "pikarc.example.com", "http:// or https://"),
        ("lg_a", "ftp://pikarc", "http:// or https://"),
        ("lg_a", "http://", "http:// or https://"),
        ("lg_a", "http://host:port", "http:// or https://"),
        ("lg_a", "http://pikarc:8000/v1", "leave out /v1"),
        ("lg_a", "http://pikarc:8000/v1/", "leave out /v1"),
        ("lg_a", "http://pikarc:8000?x=1", "leave out"),
        ("lg_a", "http://ann:secret@pikarc:8000", "password"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_never_repeated(client, key, url, complaint, monkeypatch):
    monkeypatch.delenv("PIKARC_API_KEY", raising=False)
    with pytest.raises(ValueError, match=complaint) as caught:
        client(key, url)
    for secret in (key, "secret"):
        assert not secret or secret not in str(caught.value)


@BOTH
@pytest.mark.parametrize(
    "option", [{"timeout": 0}, {"timeout": math.nan}, {"max_retries": -1}, {"on_unavailable": "Open"}, {"on_review": True}, {"heartbeat": 0}]
)
def test_a_wrong_option_is_refused(client, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        client("lg_a", **option)
    with pytest.raises(ValueError):
        client("lg_a").with_options(**option)


def test_a_base_path_is_one(options):
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return httpx.Response(201, json={"id": "r", "decision": {"outcome": "ALLOW"}})

    transport = httpx.MockTransport(answer)
    options["base_url"] = "http://pikarc.example.com/tools/pikarc/"
    with httpx.Client(transport=transport) as http_client, Pikarc(**options, http_client=http_client) as client, client.run("ada"):
        pass
    assert asked == ["/tools/pikarc/v1/runs/", "/tools/pikarc/v1/runs/r/end"]


def test_a_client_never_shows_its_key():
    client = Pikarc("lg_secret")
    assert "secret" not in repr(client) + repr(client._core.settings) + repr(client._core)


def test_with_another_key_reports_are_kept_apart(tmp_path):
    client = Pikarc("lg_a", journal_dir=str(tmp_path))
    assert client.with_options(timeout=1)._core.journal is client._core.journal
    other = client.with_options(api_key="lg_b", base_url="http://else/", journal_dir=str(tmp_path / "b"))
    assert other._core.journal.owner != client._core.journal.owner
    assert other._core.settings.base_url == "http://else"


@pytest.mark.parametrize("extractor", [lambda _: 1 / 0, lambda _: 17, lambda _: None, lambda _: (1, 2, 3)], ids=["raises", "int", "None", "3"])
async def test_an_extractor_that_fails_loses_nothing(options, details, extractor):
    async with AsyncPikarc(**options) as client, client.run("ada") as run:
        assert await run.model_call(lambda: USED, MODEL, token_extractor=extractor) == USED
    (step,) = details()[0]["steps"]
    assert (step["status"], step["prompt_tokens"], step["completion_tokens"]) == ("COMPLETED", 3, 2)


@pytest.mark.parametrize(
    ("counts", "booked"),
    [((3.0, 2.0), (3, 2)), ((2.5, 1.2), (3, 2)), (("3", 2), (3, 2)), ((math.nan, 2), (0, 2)), ((object(), 2), (0, 2)), ((-1, 2), (0, 2))],
)
async def test_counts_of_an_extractor_are_booked_as_far_as_they_are_any(options, details, counts, booked):
    async with AsyncPikarc(**options) as client, client.run("ada") as run:
        await run.model_call(lambda: None, MODEL, token_extractor=lambda _: counts)
    (step,) = details()[0]["steps"]
    assert (step["status"], step["prompt_tokens"], step["completion_tokens"]) == ("COMPLETED", *booked)


class Odd:
    def __str__(self):
        raise RuntimeError("no text")


def ring():
    value = {}
    value["itself"] = value
    return value


def deep():
    value = []
    for _ in range(100_000):
        value = [value]
    return value


DESCRIPTIONS = {
    "object": object(),
    "set": {1, 2},
    "bytes": b"\xff\x00",
    "not a number": {"loss": math.nan},
    "odd object": {"o": Odd()},
    "odd key": {Odd(): 1, (1, 2): 2, None: 3},
    "ring": ring(),
    "deep": deep(),
    "half a pair": {"t": "\ud800"},
    "NUL": {"t": "\0"},
    "huge integer": {"n": 10**5000},
    "a list": [1],
    "50 MB": {"t": "x" * 50_000_000},
}


@pytest.mark.parametrize("described", DESCRIPTIONS.values(), ids=DESCRIPTIONS.keys())
async def test_an_agent_lives_whatever_it_describes(options, details, described):
    async with AsyncPikarc(**options) as client, client.run("ada", metadata=described) as run:
        await run.model_call(lambda: USED, MODEL, input_data=described)
        await run.tool_call(lambda: described, "search", input_data=described)
        assert client.journal_length == 0
    (run,) = details()
    assert run["status"] == "COMPLETED" and [s["status"] for s in run["steps"]] == ["COMPLETED"] * 2
    assert run["steps"][0]["prompt_tokens"] == 3


@pytest.mark.parametrize("name", [None, "", 17, "a\0b", "x" * 10_000, Odd()], ids=["None", "empty", "17", "NUL", "long", "odd"])
async def test_an_agent_lives_whatever_its_tool_is_called(options, details, name):
    async with AsyncPikarc(**options) as client, client.run("ada") as run:
        await run.tool_call(lambda: None, name)
    assert details()[0]["steps"][0]["status"] == "COMPLETED"


@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 1_000_000], ids=["NUL", "half a pair", "1 MB"])
async def test_an_exception_of_any_text_fails_its_step_and_reaches_the_caller(options, details, text):
    def fail():
        raise LookupError(text)

    with pytest.raises(LookupError):
        async with AsyncPikarc(**options) as client, client.run("ada") as run:
            await run.tool_call(fail, "search")
    (run,) = details()
    assert run["status"] == "FAILED" and run["steps"][0]["error"].startswith("LookupError: ")


async def test_a_nested_run_names_its_parent_and_takes_any_metadata(options, account, details):
    account.configure(max_concurrent_runs=4)
    async with AsyncPikarc(**options) as client, client.run("ada") as outer:
        for metadata in (None, {"a": 1}, [1]):
            async with client.run("ada", metadata=metadata):
                pass
        async with AsyncPikarc(**{**options, "api_key": account.admin_key}) as other, other.run("ada"):
            pass
    named = [run["metadata"] for run in details()[1:]]
    assert named == [{"parent_run_id": outer.run_id}, {"parent_run_id": outer.run_id, "a": 1}, {"value": [1]}, None]


async def test_a_decorated_function_belongs_to_the_run_around_it_of_its_own_client(options, account, details):
    account.configure(max_concurrent_runs=4)
    async with AsyncPikarc(**options) as client, AsyncPikarc(**{**options, "api_key": account.admin_key}) as other:

        @client.tool("refund")
        async def refund(amount: int) -> int:
            return amount

        with pytest.raises(RuntimeError, match="outside of a run"):
            await refund(3)
        async with client.run("ada"), other.run("bob"):
            assert await refund(3) == 3
    ada, bob = details()
    assert [s["input_data"] for s in ada["steps"]] == [{"amount": 3}] and bob["steps"] == []


async def test_a_user_who_is_none_is_refused_and_told(options):
    async with AsyncPikarc(**options) as client:
        with pytest.raises(InvalidRequest, match="user_id") as caught:
            async with client.run(None):
                pass
    assert caught.value.status == 422 and caught.value.request_id
    assert isinstance(caught.value, httpx.HTTPStatusError) and caught.value.response.status_code == 422


def test_every_error_has_its_kind():
    assert issubclass(Authentication, APIError) and issubclass(ConnectionFailed, Unavailable)
    assert issubclass(ConnectionFailed, httpx.TransportError) and issubclass(APIError, PikarcError)


def asked_again(retry_after, **settings):
    """How long the logic waits after a 503 that names a time."""
    core = Pikarc("lg_a", **settings)._core
    logic = _logic.request(core, "GET", "/")
    assert isinstance(next(logic), _logic.Send)
    request = httpx.Request("GET", "http://pikarc")
    pause = logic.send(httpx.Response(503, headers={"retry-after": retry_after}, request=request))
    assert isinstance(pause, _logic.Sleep)
    return pause.seconds


@pytest.mark.parametrize(
    ("said", "least", "most"),
    [("7", 7, 7), ("3600", 30, 30), ("-1", 0, 0.2), ("soon", 0, 0.2), ("nan", 0, 0.2), ("inf", 30, 30)],
)
def test_retry_after_is_obeyed_within_a_bound(said, least, most):
    assert least <= asked_again(said) <= most


def test_retry_after_may_be_a_date():
    assert 8 <= asked_again(format_datetime(datetime.now(UTC) + timedelta(seconds=10), usegmt=True)) <= 10


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __iter__(self):
        while True:
            yield b"x" * (1 << 20)

    async def __aiter__(self):
        while True:
            yield b"x" * (1 << 20)


async def test_an_answer_without_end_is_none(options, monkeypatch):
    monkeypatch.setattr(_drive, "MAX_ANSWER", 4 << 20)
    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless()))
    options |= {"max_retries": 0}
    with Pikarc(**options, http_client=httpx.Client(transport=transport)) as client, pytest.raises(Unavailable):
        client.run("ada").__enter__()
    async with AsyncPikarc(**options, http_client=httpx.AsyncClient(transport=transport)) as client:
        with pytest.raises(Unavailable):
            await client.run("ada").__aenter__()


async def test_a_client_that_is_closed_in_use_loses_no_report(options, details):
    http_client = httpx.AsyncClient()
    client = AsyncPikarc(**options, max_retries=0, http_client=http_client)
    async with client.run("ada") as run:
        await run.model_call(http_client.aclose, MODEL)
        with pytest.raises(Unavailable):
            await run.model_call(lambda: pytest.fail("it was called"), MODEL)
    assert client.journal_length == 2
    async with AsyncPikarc(**options) as other:
        assert await other.flush() == 2
    assert details()[0]["status"] == "COMPLETED" and details()[0]["steps"][0]["status"] == "COMPLETED"


async def test_a_run_that_ends_by_what_is_raised_from_a_denial_is_blocked(account, options, details):
    def wrapped() -> None:
        raise RuntimeError("as frameworks do")

    async with AsyncPikarc(**options) as client:
        with pytest.raises(RuntimeError):
            async with client.run("ada") as run:
                account.set_kill_switch(True)
                try:
                    await run.tool_call(wrapped, tool_name="search")
                except PikarcBlockedError as blocked:
                    raise RuntimeError("a hook has raised") from blocked
        account.set_kill_switch(False)
        with pytest.raises(RuntimeError):
            async with client.run("ada") as run:
                await run.tool_call(wrapped, tool_name="search")
    assert [run["status"] for run in details()] == ["BLOCKED", "FAILED"]

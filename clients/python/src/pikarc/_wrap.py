"""Guards the clients of OpenAI, of Anthropic and those derived from them.

All their resources send by the client's own `post`, so that a copy of a client with another `post` guards them all: chat,
responses, messages, embeddings and what else makes a model work, their helpers (`parse`, `stream`), raw responses too.
What is sent otherwise, as over a WebSocket, cannot be guarded here and is refused.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar, cast, get_origin

C = TypeVar("C")

# Paths without a model's name in the body that make one work all the same.
_WORKS = re.compile(
    r"/(batches|threads/runs|threads/[^/]+/runs(/[^/]+/submit_tool_outputs)?|evals/[^/]+/runs|graders/run|videos(/.*)?"
    r"|images/[a-z]+|audio/(speech|transcriptions|translations)|realtime/.*|live/sessions(/.*)?|agents/sessions(/[^/]+/events)?"
    r"|sessions(/[^/]+/events)?|deployments/[^/]+/run|automations/[^/]+/invocations|dreams|decisions)$"
)
# Paths with a model's name that cost nothing, and calls off.
_FREE = re.compile(r"/(count_tokens|input_tokens|moderations|cancel|archive|assistants(/[^/]+)?|agents(/[^/]+)?)$")
_RAW = "x-stainless-raw-response"
_SOCKETS = ("realtime", "realtime.translations", "live", "live.sideband", "responses", "beta.realtime", "beta.responses")


def asynchronous(client: C, run: Callable[[], Any]) -> C:
    """Returns a guarded copy of an asynchronous client."""
    copied, post = _copy(client, run, asynchronous)

    async def guarded(path: str, **options: Any) -> Any:
        model = _model(path, options.get("body"))
        if model is None:
            return await post(path, **options)
        unasked = _prepare(path, options)
        step = await run().begin_model_call(model)
        try:
            if options.get("stream"):
                options["stream_cls"] = _metered_async(options.get("stream_cls"), step, unasked)
                return await post(path, **options)
            answer = await post(path, **options)
        except BaseException as exc:
            await step.fail(exc)
            raise
        await step.complete(_parsed(answer, options))
        return answer

    copied.post = guarded
    return _without_sockets(copied)


def synchronous(client: C, run: Callable[[], Any]) -> C:
    """Returns a guarded copy of a synchronous client."""
    copied, post = _copy(client, run, synchronous)

    def guarded(path: str, **options: Any) -> Any:
        model = _model(path, options.get("body"))
        if model is None:
            return post(path, **options)
        unasked = _prepare(path, options)
        step = run().begin_model_call(model)
        try:
            if options.get("stream"):
                options["stream_cls"] = _metered(options.get("stream_cls"), step, unasked)
                return post(path, **options)
            answer = post(path, **options)
        except BaseException as exc:
            step.fail(exc)
            raise
        step.complete(_parsed(answer, options))
        return answer

    copied.post = guarded
    return _without_sockets(copied)


def _copy(client: Any, run: Callable[[], Any], again: Callable[[Any, Callable[[], Any]], Any]) -> tuple[Any, Callable[..., Any]]:
    """Returns a copy, whose own copies are guarded again, and its `post`."""
    kind = cast(Any, type(client))
    wanted = again is asynchronous
    if not callable(getattr(kind, "copy", None)) or inspect.iscoroutinefunction(getattr(kind, "post", None)) != wanted:
        name = "AsyncOpenAI or AsyncAnthropic" if wanted else "OpenAI or Anthropic"
        raise TypeError(f"a client like {name} can be guarded here, not {kind.__module__}.{kind.__qualname__}")
    copied = client.copy()
    copy, post = copied.copy, copied.post

    def copy_again(*args: Any, **changes: Any) -> Any:
        return again(copy(*args, **changes), run)

    copied.copy = copied.with_options = copy_again
    return copied, post


def _without_sockets(client: Any) -> Any:
    def connect(*args: Any, **options: Any) -> Any:
        raise NotImplementedError("what goes over a WebSocket cannot be guarded: call the model by its other methods")

    for path in _SOCKETS:
        resource = client
        for name in path.split("."):
            resource = getattr(resource, name, None)
        if hasattr(resource, "connect"):
            cast(Any, resource).connect = connect
    return client


def _model(path: str, body: Any) -> str | None:
    """Returns the name of the model that a request makes work, or None where it makes none."""
    path = path.partition("?")[0]
    if _FREE.search(path):
        return None
    named = cast(dict[str, Any], body).get("model") if isinstance(body, dict) else None
    if isinstance(named, str) and named:
        return named
    return path.strip("/") if named is not None or _WORKS.search(path) else None


def _prepare(path: str, options: dict[str, Any]) -> bool:
    """Makes a stream of chat completions tell its usage, and reports whether it would not have.

    Raises NotImplementedError for an answer whose usage would pass unseen.
    """
    if _raw(options) == "stream" and not path.startswith("/audio/"):
        raise NotImplementedError("with_streaming_response cannot be guarded: use with_raw_response, or stream=True")
    body = options.get("body")
    if not options.get("stream") or not path.endswith("/completions") or not isinstance(body, dict):
        return False
    members = cast(dict[str, Any], body)
    wishes = members.get("stream_options")
    wishes = cast(dict[str, Any], wishes) if isinstance(wishes, dict) else {}
    if wishes.get("include_usage"):
        return False
    options["body"] = {**members, "stream_options": {**wishes, "include_usage": True}}
    return True


def _raw(options: dict[str, Any]) -> str | None:
    """Returns how a raw answer is wished for, "true" or "stream"; None for one that is not."""
    headers: dict[str, str] = options.get("options", {}).get("extra_headers") or options.get("options", {}).get("headers") or {}
    return next((value for name, value in headers.items() if name.lower() == _RAW), None)


def _parsed(answer: Any, options: dict[str, Any]) -> Any:
    """Returns what holds an answer's usage; of a raw one, what it is parsed to, which it keeps."""
    if _raw(options):
        try:
            return answer.parse()
        except Exception:
            return None
    return answer


def _is_unasked(chunk: Any) -> bool:
    """Reports whether a chunk is the one that tells the usage alone."""
    return not getattr(chunk, "choices", True) and getattr(chunk, "usage", None) is not None


def _metered(stream_cls: Any, step: Any, unasked: bool) -> Any:
    base = _stream_class(stream_cls)

    class Metered(stream_cls):
        def __stream__(self) -> Iterator[Any]:
            try:
                for chunk in base.__stream__(self):
                    step.see(chunk)
                    if not (unasked and _is_unasked(chunk)):
                        yield chunk
            except GeneratorExit:
                step.leave()
                raise
            except BaseException as exc:
                step.fail(exc)
                raise
            step.complete()

        def close(self) -> None:
            try:
                base.close(self)
            finally:
                step.leave()

    return Metered


def _metered_async(stream_cls: Any, step: Any, unasked: bool) -> Any:
    base = _stream_class(stream_cls)

    class Metered(stream_cls):
        async def __stream__(self) -> AsyncIterator[Any]:
            try:
                async for chunk in base.__stream__(self):
                    step.see(chunk)
                    if not (unasked and _is_unasked(chunk)):
                        yield chunk
            except GeneratorExit:
                await step.leave()
                raise
            except BaseException as exc:
                await step.fail(exc)
                raise
            await step.complete()

        async def close(self) -> None:
            try:
                await base.close(self)
            finally:
                await step.leave()

    return Metered


def _stream_class(stream_cls: Any) -> Any:
    base = get_origin(stream_cls) or stream_cls  # of Stream[Chunk] it is Stream
    if not hasattr(base, "__stream__"):
        raise TypeError("a stream of this client's version cannot be guarded")
    return base

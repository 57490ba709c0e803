"""What a client does, without doing it: generators that yield requests, pauses and calls, and are sent what became of them.

The asynchronous and the synchronous client carry out the same generators (`_drive.py`), so that they behave alike.
"""

from __future__ import annotations

import email.utils
import itertools
import json
import logging
import time
import uuid
from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pikarc import _usage
from pikarc._api_errors import APIError, Authentication, BadRequest, ConnectionFailed, RateLimited, Unavailable, for_answer
from pikarc._errors import PikarcBlockedError, PikarcReviewDeniedError, PikarcReviewTimeoutError, ReviewExpired, ReviewPending
from pikarc._journal import Journal, shared
from pikarc._json import describe, encode, members, payload
from pikarc._settings import Settings

if TYPE_CHECKING:
    from pikarc._wire import CreateStepRequest, Decision, StartRunRequest, UpdateStepRequest

logger = logging.getLogger("pikarc")
T = TypeVar("T")

_RETRIED = frozenset((408, 429))
_MOST_WAIT = 30.0  # seconds of Retry-After that are obeyed
_LONG_POLL = 25  # seconds
_DELIVERED_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Send:
    """A request. Sent back: the answer, an httpx.Response; thrown: an httpx.TransportError."""

    method: str
    path: str
    content: bytes | None
    headers: dict[str, str]
    timeout: float | None = None  # of the whole request, in seconds; None is the client's


@dataclass(frozen=True, slots=True)
class Sleep:
    """A pause in seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """The guarded function. Sent back: what it returned, awaited; thrown: what it raised."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Finish:
    """Logic that is carried out to its end, also when its caller is cancelled meanwhile. Sent back: nothing."""

    logic: Generator[Any, Any, None]
    run: RunState
    last: bool = False  # whether it comes after all else of its run


Logic = Generator[Send | Sleep | Call | Finish, Any, T]

# The run that encloses the code that runs now, of whatever client.
current_run: ContextVar[RunState | None] = ContextVar("pikarc_run", default=None)


class RunState:
    """A run as the client knows it."""

    def __init__(self, run_id: str | None, start: StartRunRequest, key: str, owner: str, parent: RunState | None) -> None:
        self.run_id = run_id  # None: the server could not be asked, and the run goes on without it
        self.start, self.key = start, key  # the request that started it, or would have
        self.owner, self.parent = owner, parent  # the server and key it belongs to, and the run around it
        self.ended = False
        self.calls: set[object] = set()  # guarded calls under way
        self.open: list[Callable[[BaseException | None], Logic[None]]] = []  # settle the steps that are left open
        self.sequence = itertools.count(1)
        self.unguarded = False  # whether a call was made without asking

    def named(self) -> dict[str, Any]:
        """Returns how a kept report names the run: by its id, or by the request that starts it, which is sent again."""
        return {"run_id": self.run_id} if self.run_id is not None else {"start": self.start, "key": self.key}


@dataclass(frozen=True, slots=True)
class Step:
    """A step that was asked for, or would have been."""

    id: str | None  # None: the server could not be asked, and the call goes on
    body: CreateStepRequest
    key: str


@dataclass(slots=True)
class Core:
    """What all logic of a client shares."""

    settings: Settings
    journal: Journal

    def changed(self, settings: Settings) -> Core:
        """Returns what a client with other settings has, whose reports may belong elsewhere."""
        same = settings.owner() == self.journal.owner and settings.journal_dir == self.settings.journal_dir
        return Core(settings, self.journal if same else shared(settings.journal_dir, settings.owner()))

    def enclosing(self) -> RunState | None:
        """Returns the innermost run around the code that runs now that is of the same server and key, and has not ended."""
        run = current_run.get()
        while run is not None and (run.owner != self.journal.owner or run.ended):
            run = run.parent
        return run


def request(
    core: Core, method: str, path: str, body: Mapping[str, Any] | None = None, *, key: str | None = None, grace: float | None = None
) -> Logic[dict[str, Any]]:
    """Sends a request until it is answered, with one idempotency key for all attempts.

    Raises an APIError: at once for what another attempt cannot change, else after the last one.
    """
    headers = {"idempotency-key": key} if key else {}
    content = None if body is None else encode(body)
    deadline = None if grace is None else time.monotonic() + grace
    for attempt in itertools.count(1):
        left = None if deadline is None else max(0.05, deadline - time.monotonic())
        wait = core.settings.delay(attempt)
        try:
            answer = yield Send(method, path, content, headers, left)
        except Exception as exc:
            if (problem := _transport_problem(exc, core.settings)) is None:
                raise
        else:
            if answer.status_code < 300:
                if (found := _object(answer)) is not None:
                    return found
                problem = Unavailable(
                    f"The answer of {core.settings.base_url} is not Pikarc's: is something else at this address?",
                    status=answer.status_code,
                )
            else:
                problem = for_answer(answer)
                if answer.status_code < 500 and answer.status_code not in _RETRIED:
                    raise problem
                wait = max(wait, _retry_after(answer))
        late = deadline is not None and time.monotonic() + wait >= deadline
        if attempt > core.settings.max_retries or late:
            raise problem
        yield Sleep(wait)
    raise AssertionError("unreachable")


def start_run(core: Core, user_id: str, metadata: dict[str, Any] | None) -> Logic[RunState]:
    """Starts a run. Raises PikarcBlockedError or an APIError."""
    body: StartRunRequest = {"user_id": user_id}
    parent = core.enclosing()
    if parent is not None and parent.run_id is not None and (metadata is None or isinstance(cast(Any, metadata), Mapping)):
        metadata = {"parent_run_id": parent.run_id, **(metadata or {})}
    if metadata is not None:
        body["metadata"] = payload(metadata)
    run = RunState(None, body, str(uuid.uuid4()), core.journal.owner, current_run.get())
    try:
        answer = yield from request(core, "POST", "/v1/runs/", body, key=run.key)
        run.run_id = _text(answer, "id")
    except Unavailable as exc:
        if not _goes_on(core, exc):
            raise
        return run
    except GeneratorExit:
        raise
    except BaseException as exc:
        if not isinstance(exc, Exception):  # cancelled: the server may have started it, and would hold its place
            yield Finish(_give_up_run(core, run), run)
        raise
    if _allow(answer, run) is not None:
        raise PikarcBlockedError("A run cannot wait for a review", "REVIEW_ERROR", run_id=run.run_id)
    try:
        yield from deliver(core)
    except GeneratorExit:
        raise
    except BaseException as exc:
        yield Finish(end_run(core, run, exc), run)
        raise
    return run


def _give_up_run(core: Core, run: RunState) -> Logic[None]:
    """Ends a run whose start was cancelled. The start is sent again with its key, to learn whether there is one."""
    try:
        answer = yield from request(core, "POST", "/v1/runs/", run.start, key=run.key, grace=core.settings.grace)
        run.run_id = _text(answer, "id")
    except (Unavailable, RateLimited) as exc:
        logger.warning("A cancelled start could not be followed up, which is kept: %s", exc)
        core.journal.append({"kind": "end", **run.named(), "status": "FAILED", "at": time.time()})
        return
    except APIError as exc:
        logger.info("A cancelled start was not accepted either: %s", exc)
        return
    if members(answer.get("decision")).get("outcome") == "ALLOW":
        yield from _report(core, "POST", f"/v1/runs/{run.run_id}/end", {"status": "FAILED"}, core.settings.grace)


def end_run(core: Core, run: RunState, failed: BaseException | None) -> Logic[None]:
    """Ends a run, and raises nothing: what cannot be delivered is kept."""
    if run.ended:
        return
    run.ended = True
    for settle_open in list(run.open):  # streams left early and not closed, calls that no one has told the end of
        yield from settle_open(failed)
    status = "COMPLETED"
    if failed is not None:
        status = "BLOCKED" if _is_denial(failed) else "FAILED"
    if run.unguarded:  # what was done without asking is told before the end, after which the server takes no step
        yield from deliver(core)
    if run.unguarded and core.journal.may_hold() or run.run_id is None:
        core.journal.append({"kind": "end", **run.named(), "status": status, "at": time.time()})
        return
    cancelled = failed is not None and not isinstance(failed, Exception)
    grace = core.settings.grace if cancelled else None
    yield from _report(core, "POST", f"/v1/runs/{run.run_id}/end", {"status": status}, grace)


def _is_denial(exc: BaseException | None) -> bool:
    """Reports whether an exception is a denial, or is raised from one, as frameworks do."""
    for _ in range(8):
        if exc is None or isinstance(exc, PikarcBlockedError):
            break
        exc = exc.__cause__
    return isinstance(exc, PikarcBlockedError)


def keep_end(core: Core, run: RunState) -> None:
    """Keeps the end of a run for later, where it cannot be sent now."""
    if not run.ended:
        run.ended = True
        core.journal.append({"kind": "end", **run.named(), "status": "FAILED", "at": time.time()})


def guard(
    core: Core,
    run: RunState,
    what: CreateStepRequest,
    function: Callable[[], Any],
    extractor: _usage.TokenExtractor | None,
) -> Logic[Any]:
    """Asks for a step, calls the function if it is allowed, and reports what became of it."""
    step = yield from ask(core, run, what)
    started = time.monotonic()
    under_way = object()
    run.calls.add(under_way)
    try:
        result = yield Call(function)
    except GeneratorExit:  # dropped by its event loop: nothing can be sent any more
        keep(core, run, step, started, {"status": "FAILED", "error": "cancelled"})
        raise
    except BaseException as exc:
        yield Finish(settle(core, run, step, started, failed(exc), cancelled=not isinstance(exc, Exception)), run)
        raise
    finally:
        run.calls.discard(under_way)
    report: UpdateStepRequest = {"status": "COMPLETED"}
    if what["type"] == "MODEL_CALL":
        report |= _usage.report(result, extractor)
    yield Finish(settle(core, run, step, started, report), run)
    return result


def finish(logic: Logic[None], run: RunState, *, last: bool = False) -> Logic[None]:
    """Carries logic out to its end, also when the caller is cancelled meanwhile."""
    yield Finish(logic, run, last)


def ask(core: Core, run: RunState, what: CreateStepRequest) -> Logic[Step]:
    """Asks for a step, and waits for a person where one must approve. Raises PikarcBlockedError or an APIError."""
    body: CreateStepRequest = {**what, "sequence": next(run.sequence)}
    if "input_data" in body:
        body["input_data"] = payload(body["input_data"])
    step = Step(None, body, str(uuid.uuid4()))
    if run.run_id is None:
        run.unguarded = True
        return step
    try:
        answer = yield from request(core, "POST", f"/v1/runs/{run.run_id}/steps", body, key=step.key)
        step = replace(step, id=_text(answer, "id"))
    except Unavailable as exc:
        if not _goes_on(core, exc):
            raise
        run.unguarded = True
        return step
    except GeneratorExit:
        raise
    except BaseException as exc:
        if not isinstance(exc, Exception):  # cancelled: the server may have allowed it, and would take it for running
            yield Finish(_give_up_step(core, run, step), run)
        raise
    review = _allow(answer, run)
    if review is not None:
        started = time.monotonic()
        try:
            yield from wait_for_review(core, run, step.id, review, members(answer.get("decision")).get("policy_name"))
        except GeneratorExit:  # dropped by its event loop: nothing can be sent any more
            keep(core, run, step, started, {"status": "FAILED", "error": "cancelled"})
            raise
        except BaseException as exc:
            if not isinstance(exc, Exception):
                yield Finish(settle(core, run, step, started, failed(exc), cancelled=True), run)
            raise
    return step


def _give_up_step(core: Core, run: RunState, step: Step) -> Logic[None]:
    """Settles a step that was cancelled while it was asked for. Asking again with its key tells which it is."""
    path = f"/v1/runs/{run.run_id}/steps"
    try:
        answer = yield from request(core, "POST", path, step.body, key=step.key, grace=core.settings.grace)
        step = replace(step, id=_text(answer, "id"))
    except APIError as exc:
        logger.info("A cancelled step could not be followed up; it ends with its run: %s", exc)
        return
    if members(answer.get("decision")).get("outcome") == "ALLOW":
        report: UpdateStepRequest = {"status": "FAILED", "error": "cancelled"}
        yield from settle(core, run, step, time.monotonic(), report, cancelled=True)


def keep(core: Core, run: RunState, step: Step, started: float, report: UpdateStepRequest) -> None:
    """Keeps the report of a call for later, where it cannot be sent now."""
    report = {"duration_ms": round((time.monotonic() - started) * 1000), **report}
    if step.id is not None:
        _keep_request(core, "PATCH", f"/v1/runs/{run.run_id}/steps/{step.id}", report)
        return
    kept = {"kind": "step", **run.named(), "step": step.body, "step_key": step.key, "report": report}
    core.journal.append({**kept, "at": time.time()})


def settle(
    core: Core,
    run: RunState,
    step: Step,
    started: float,
    report: UpdateStepRequest,
    *,
    cancelled: bool = False,
) -> Logic[None]:
    """Reports how a call ended. Raises nothing: what cannot be delivered is kept."""
    if step.id is None:
        keep(core, run, step, started, report)
        return
    report = {"duration_ms": round((time.monotonic() - started) * 1000), **report}
    grace = core.settings.grace if cancelled else None
    yield from _report(core, "PATCH", f"/v1/runs/{run.run_id}/steps/{step.id}", report, grace)


def failed(exc: BaseException) -> UpdateStepRequest:
    """Returns the report of a call that raised."""
    return {"status": "FAILED", "error": describe(exc) if isinstance(exc, Exception) else "cancelled"}


def wait_for_review(core: Core, run: RunState, step_id: str | None, review_id: str, policy: str | None) -> Logic[None]:
    """Waits until a person has approved. Raises PikarcReviewDeniedError, ReviewExpired and their kin."""
    facts = {"run_id": run.run_id, "step_id": step_id}
    rule = core.settings.on_review
    if rule == "raise" or (callable(rule) and not rule(review_id)):
        raise ReviewPending(review_id, policy, **facts)
    started = time.monotonic()
    while True:
        asked = time.monotonic()
        left = core.settings.review_timeout - (asked - started)
        if left <= 0:
            raise PikarcReviewTimeoutError(core.settings.review_timeout, policy, **facts)
        wait = int(min(_LONG_POLL, max(1, left)))
        review = yield from request(core, "GET", f"/v1/reviews/{review_id}?wait={wait}", grace=wait + core.settings.timeout)
        if review.get("status") == "approved":
            return
        if review.get("status") == "denied":
            if review.get("resolution") in (None, "denied"):
                raise PikarcReviewDeniedError(policy, review.get("note"), **facts)
            raise ReviewExpired(time.monotonic() - started, policy, **facts)
        if time.monotonic() - asked < 1:  # a server that does not hold its answer back
            yield Sleep(2.0)


def heartbeat(core: Core, run: RunState) -> Logic[None]:
    """Tells the server that a run lives. What it answers counts at the next step."""
    try:
        yield from request(core, "POST", f"/v1/runs/{run.run_id}/heartbeat", grace=core.settings.timeout)
    except Exception as exc:  # a sign of life that fails must fail nothing else
        logger.info("A heartbeat was not taken: %s", exc)


def deliver(core: Core, *, look: bool = False) -> Logic[int]:
    """Delivers kept reports, and returns how many. One that fails stays for the next time; it raises nothing.

    Args:
        look: whether to look at the disk, whatever may be known.
    """
    count = 0
    if not look and not core.journal.may_hold():
        return count
    for path, entries in core.journal.claim():
        left: list[dict[str, Any]] = []
        for i, entry in enumerate(entries):
            try:
                yield from _deliver(core, entry)
                count += 1
            except (Unavailable, RateLimited, Authentication) as exc:
                logger.warning("%d kept reports wait on: %s", len(entries) - i, exc)
                left = entries[i:]
                break
            except Exception as exc:  # also of an entry that is damaged: it must not stop the agents that find it
                what = {k: v for k, v in entry.items() if k not in ("step", "start", "owner")}  # no payloads in a log
                logger.error("A kept report cannot be delivered and is dropped: %s: %s", exc, json.dumps(what)[:2000])
        if not left or core.journal.append(*({k: v for k, v in e.items() if k != "owner"} for e in left)):
            core.journal.remove(path)
        if left or count >= _DELIVERED_AT_ONCE:
            break
    return count


def _deliver(core: Core, entry: dict[str, Any]) -> Logic[None]:
    """Delivers one report. Requests are repeated with their first keys: what has reached the server is no double."""
    if entry["kind"] == "request":
        yield from request(core, entry["method"], entry["path"], entry["body"])
        return
    run_id = entry.get("run_id")
    if run_id is None:
        run_id = _text((yield from request(core, "POST", "/v1/runs/", entry["start"], key=entry["key"])), "id")
    if entry["kind"] == "end":
        yield from request(core, "POST", f"/v1/runs/{run_id}/end", {"status": entry["status"]})
        return
    answer = yield from request(core, "POST", f"/v1/runs/{run_id}/steps", entry["step"], key=entry["step_key"])
    report = {**entry["report"], "output_data": {"unguarded": True}}  # where the run's page shows it
    try:
        yield from request(core, "PATCH", f"/v1/runs/{run_id}/steps/{_text(answer, 'id')}", report)
    except BadRequest as exc:  # denied afterwards: the server books nothing on what it denied
        logger.error("A call was made while the server could not be asked, and would have been denied: %s", exc)


def _report(core: Core, method: str, path: str, body: Mapping[str, Any], grace: float | None) -> Logic[None]:
    try:
        yield from request(core, method, path, body, grace=grace)
    except (Unavailable, RateLimited, Authentication) as exc:
        logger.warning("A report could not be delivered and is kept: %s", exc)
        _keep_request(core, method, path, body)
    except APIError as exc:
        logger.error("The server does not take a report: %s", exc)
    except BaseException:  # the program ends in the middle of it
        _keep_request(core, method, path, body)
        raise


def _keep_request(core: Core, method: str, path: str, body: Mapping[str, Any]) -> None:
    core.journal.append({"kind": "request", "method": method, "path": path, "body": body, "at": time.time()})


def _goes_on(core: Core, exc: Unavailable) -> bool:
    rule = core.settings.on_unavailable
    goes_on = rule(exc) if callable(rule) else rule == "open"
    if goes_on is True:
        logger.warning("The server cannot be asked; the call goes on unguarded: %s", exc)
    return goes_on is True


def _allow(answer: dict[str, Any], run: RunState) -> str | None:
    """Returns the id of the review to wait for, or None for ALLOW. Anything else is not allowed."""
    decision = cast("Decision", members(answer.get("decision")))  # by a server of whatever version
    outcome = decision.get("outcome")
    if outcome == "ALLOW":
        return None
    if outcome == "REVIEW":
        if review := answer.get("review_id") or decision.get("review_id"):
            return str(review)
        raise PikarcBlockedError("Review required but no review_id returned", "REVIEW_ERROR", run_id=run.run_id)
    if outcome != "DENY":
        raise Unavailable(f"The server's answer holds no decision: {json.dumps(answer)[:200]}")
    raise PikarcBlockedError(
        decision.get("reason") or "Blocked",
        decision.get("reason") or "DENIED",
        decision.get("policy_name"),
        limit=decision.get("limit"),
        used=decision.get("used"),
        resets_at=decision.get("resets_at"),
        message=decision.get("message"),
        run_id=run.run_id,
        step_id=answer.get("id"),
    )


def _transport_problem(exc: Exception, settings: Settings) -> ConnectionFailed | None:
    """Returns what to raise for a request without an answer; None for an exception that is no such."""
    import httpx

    if isinstance(exc, httpx.TimeoutException):
        return ConnectionFailed(f"{settings.base_url} did not answer in time")
    # RuntimeError: the HTTP client or its event loop has been closed.
    if isinstance(exc, httpx.HTTPError | httpx.StreamError | OSError | RuntimeError):
        return ConnectionFailed(f"{settings.base_url} cannot be reached, or broke off: {type(exc).__name__}")
    return None


def _object(answer: Any) -> dict[str, Any] | None:
    try:
        found = answer.json()
    except ValueError:
        return None
    return members(found) if isinstance(found, dict) else None


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str) or not value:
        raise Unavailable(f"The server's answer holds no {name}: {json.dumps(answer)[:200]}")
    return value


def _retry_after(answer: Any) -> float:
    said = answer.headers.get("retry-after", "0")
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(said).timestamp() - time.time()
        except (ValueError, OverflowError):
            return 0.0
    return min(_MOST_WAIT, max(0.0, seconds))

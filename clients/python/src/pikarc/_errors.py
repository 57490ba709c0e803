"""What can go wrong, as exceptions. Denials and trouble never share a class.

`PikarcBlockedError` says that an action is not allowed: the server decided so. Everything else
below `APIError` says that the server could not be asked, or did not understand. In both cases the
guarded function has not been called, unless an exception's own text says so.
"""

from __future__ import annotations

from typing import Any

# What a reason means, for people and for a model that is told why its call did not happen.
_SENTENCES = {
    "KILL_SWITCH_ACTIVE": "All agents of this workspace are stopped.",
    "USER_BLOCKED": "This user is blocked.",
    "WORKSPACE_DAILY_BUDGET_EXCEEDED": "Today's budget of this workspace is spent.",
    "USER_DAILY_BUDGET_EXCEEDED": "Today's budget of this user is spent.",
    "MONTHLY_RUN_LIMIT_EXCEEDED": "This month's runs are used up.",
    "MAX_CONCURRENT_RUNS_EXCEEDED": "As many runs as are allowed at a time are running.",
    "MODEL_NOT_PRICED": "The model has no price, and unpriced models are not allowed.",
    "RUN_ALREADY_ENDED": "The run has ended.",
    "POLICY_DENIED": "A policy does not allow this.",
    "POLICY_LIMIT_EXCEEDED": "A policy's limit is reached.",
    "REVIEW_NOT_SUPPORTED": "A person must approve this, and cannot be asked from here.",
    "REVIEW_DENIED": "A person has refused this.",
    "REVIEW_EXPIRED": "Nobody has decided about this in time.",
    "REVIEW_CANCELLED": "The question about this was cancelled.",
    "REVIEW_TIMEOUT": "Nobody has decided about this in time.",
}


class PikarcError(Exception):
    """The base of all exceptions of this package."""


class PikarcBlockedError(PikarcError):
    """The server does not allow an action; the guarded function was not called.

    Attributes:
        deny_reason: the server's code, as `USER_BLOCKED`.
        reason: the same, as the published client names it.
        policy_name: the policy that objected, or None.
        limit, used: of the rule that objected, in USD or in runs; None where it has none.
        resets_at: when it resets, RFC 3339, or None.
        run_id, step_id: what was denied; None where there is none.
        message: the policy's own words, or None.
    """

    def __init__(
        self,
        reason: str,
        deny_reason: str,
        policy_name: str | None = None,
        *,
        limit: float | None = None,
        used: float | None = None,
        resets_at: str | None = None,
        message: str | None = None,
        run_id: str | None = None,
        step_id: str | None = None,
    ) -> None:
        self.reason = reason
        self.deny_reason = deny_reason
        self.policy_name = policy_name
        self.limit = limit
        self.used = used
        self.resets_at = resets_at
        self.message = message
        self.run_id = run_id
        self.step_id = step_id
        super().__init__(f"{reason} (policy: {policy_name})" if policy_name else reason)

    @property
    def rule(self) -> str:
        """The rule that objected: the policy's name, or the server's code."""
        return self.policy_name or self.deny_reason

    def explain(self) -> str:
        """A sentence for people, with the limit and when it resets."""
        text = self.message or _SENTENCES.get(self.deny_reason, f"It is not allowed ({self.deny_reason}).")
        if self.limit is not None and self.used is not None:
            text += f" The limit is {self.limit:g}, {self.used:g} are used."
        if self.resets_at is not None:
            text += f" It resets at {self.resets_at}."
        return text

    def for_model(self) -> str:
        """A sentence for a model that asked for the call, so that it does not try again at once."""
        return f"This call was not executed: it is not allowed. {self.explain()} Do not repeat it; go on without it or stop."


class PikarcReviewDeniedError(PikarcBlockedError):
    """A person has refused the action. `note` is what they want the agent to hear, or None."""

    def __init__(self, policy_name: str | None = None, note: str | None = None, **facts: Any) -> None:
        self.note = note
        super().__init__(
            reason="Action denied by reviewer", deny_reason="REVIEW_DENIED", policy_name=policy_name, message=note, **facts
        )


class PikarcReviewTimeoutError(PikarcBlockedError):
    """Nobody has decided in time."""

    def __init__(self, timeout_seconds: float, policy_name: str | None = None, **facts: Any) -> None:
        self.timeout_seconds = timeout_seconds
        super().__init__(
            reason=f"Review timed out after {timeout_seconds:g}s",
            deny_reason="REVIEW_TIMEOUT",
            policy_name=policy_name,
            **facts,
        )


class ReviewExpired(PikarcReviewTimeoutError):
    """The review has ended without a person's verdict: it expired, or was cancelled."""


class ReviewPending(PikarcBlockedError):
    """The action waits for a person, and the client was asked not to (`on_review="raise"`).

    `GET /v1/reviews/{review_id}` tells the verdict later.
    """

    def __init__(self, review_id: str, policy_name: str | None = None, **facts: Any) -> None:
        self.review_id = review_id
        super().__init__(
            reason="A person must approve this action",
            deny_reason="REVIEW_PENDING",
            policy_name=policy_name,
            **facts,
        )


ReviewDenied = PikarcReviewDeniedError

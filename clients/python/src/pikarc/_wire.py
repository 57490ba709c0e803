"""What is sent and answered. Generated from server/openapi.json by `make clients`. Do not edit."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict


class Decision(TypedDict):
    """The answer to 'may I?'. An ALLOW has only `outcome` and `reason`; a DENY has all fields."""

    outcome: Literal["ALLOW", "DENY", "REVIEW"]
    reason: Literal["RUN_ALREADY_ENDED", "KILL_SWITCH_ACTIVE", "USER_BLOCKED", "WORKSPACE_DAILY_BUDGET_EXCEEDED", "USER_DAILY_BUDGET_EXCEEDED", "MONTHLY_RUN_LIMIT_EXCEEDED", "MAX_CONCURRENT_RUNS_EXCEEDED", "MODEL_NOT_PRICED", "POLICY_DENIED", "POLICY_LIMIT_EXCEEDED", "REVIEW_NOT_SUPPORTED", "REVIEW_DENIED", "REVIEW_EXPIRED", "REVIEW_CANCELLED"] | None
    limit: NotRequired[float | None]
    used: NotRequired[float | None]
    resets_at: NotRequired[str | None]
    policy_name: NotRequired[str]
    message: NotRequired[str | None]
    review_id: NotRequired[str | None]


class StartRunRequest(TypedDict):
    user_id: str
    metadata: NotRequired[Any]


class StartedRun(TypedDict):
    id: str
    status: Literal["RUNNING", "BLOCKED"]
    decision: Decision
    repaired: NotRequired[list[str]]


class CreateStepRequest(TypedDict):
    type: Literal["MODEL_CALL", "TOOL_CALL", "INPUT", "OUTPUT", "REASONING", "SYSTEM"]
    sequence: int
    model: NotRequired[Any]
    tool_name: NotRequired[Any]
    input_data: NotRequired[Any]


class CreatedStep(TypedDict):
    id: str
    status: Literal["RUNNING", "BLOCKED", "WAITING"]
    decision: Decision
    review_id: str | None
    repaired: NotRequired[list[str]]


class UpdateStepRequest(TypedDict):
    status: NotRequired[Literal["COMPLETED", "FAILED"] | None]
    duration_ms: NotRequired[Any]
    prompt_tokens: NotRequired[Any]
    completion_tokens: NotRequired[Any]
    cached_tokens: NotRequired[Any]
    cache_write_tokens: NotRequired[Any]
    cache_write_1h_tokens: NotRequired[Any]
    reasoning_tokens: NotRequired[Any]
    service_tier: NotRequired[Any]
    reported_cost_usd: NotRequired[Any]
    usage: NotRequired[Any]
    model: NotRequired[Any]
    output_data: NotRequired[Any]
    error: NotRequired[Any]


class EndRunRequest(TypedDict):
    status: Literal["COMPLETED", "FAILED", "BLOCKED"]

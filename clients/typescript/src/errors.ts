/** What a reason means, for people and for a model that is told why its call did not happen. */
const sentences: Record<string, string> = {
  KILL_SWITCH_ACTIVE: "All agents of this workspace are stopped.",
  USER_BLOCKED: "This user is blocked.",
  WORKSPACE_DAILY_BUDGET_EXCEEDED: "Today's budget of this workspace is spent.",
  USER_DAILY_BUDGET_EXCEEDED: "Today's budget of this user is spent.",
  MONTHLY_RUN_LIMIT_EXCEEDED: "This month's runs are used up.",
  MAX_CONCURRENT_RUNS_EXCEEDED: "As many runs as are allowed at a time are running.",
  MODEL_NOT_PRICED: "The model has no price, and unpriced models are not allowed.",
  RUN_ALREADY_ENDED: "The run has ended.",
  POLICY_DENIED: "A policy does not allow this.",
  POLICY_LIMIT_EXCEEDED: "A policy's limit is reached.",
  REVIEW_NOT_SUPPORTED: "A person must approve this, and cannot be asked from here.",
  REVIEW_DENIED: "A person has refused this.",
  REVIEW_EXPIRED: "Nobody has decided about this in time.",
  REVIEW_CANCELLED: "The question about this was cancelled.",
  REVIEW_TIMEOUT: "Nobody has decided about this in time.",
};

/** The base of all errors of this package. */
export class PikarcError extends Error {
  constructor(message: string) {
    super(message);
    this.name = new.target.name;
  }
}

/** What a denial says beyond its reason. */
export interface Denial {
  reason: string;
  policyName?: string | undefined;
  /** Of the rule that objected, in USD or in runs. */
  limit?: number | undefined;
  used?: number | undefined;
  /** RFC 3339. */
  resetsAt?: string | undefined;
  message?: string | undefined;
  runId?: string | undefined;
  stepId?: string | undefined;
}

/** The server does not allow an action; the guarded function was not called. */
export class PikarcBlockedError extends PikarcError implements Denial {
  readonly reason: string;
  readonly policyName: string | undefined;
  readonly limit: number | undefined;
  readonly used: number | undefined;
  readonly resetsAt: string | undefined;
  readonly policyMessage: string | undefined;
  readonly runId: string | undefined;
  readonly stepId: string | undefined;

  constructor(denial: Denial) {
    super(denial.policyName ? `${denial.reason} (policy: ${denial.policyName})` : denial.reason);
    this.reason = denial.reason;
    this.policyName = denial.policyName;
    this.limit = denial.limit;
    this.used = denial.used;
    this.resetsAt = denial.resetsAt;
    this.policyMessage = denial.message;
    this.runId = denial.runId;
    this.stepId = denial.stepId;
  }

  /** The rule that objected: the policy's name, or the server's code. */
  get rule(): string {
    return this.policyName ?? this.reason;
  }

  /** A sentence for people, with the limit and when it resets. */
  explain(): string {
    let text = this.policyMessage ?? sentences[this.reason] ?? `It is not allowed (${this.reason}).`;
    if (this.limit !== undefined && this.used !== undefined) text += ` The limit is ${this.limit}, ${this.used} are used.`;
    if (this.resetsAt !== undefined) text += ` It resets at ${this.resetsAt}.`;
    return text;
  }

  /** A sentence for a model that asked for the call, so that it does not try again at once. */
  forModel(): string {
    return `This call was not executed: it is not allowed. ${this.explain()} Do not repeat it; go on without it or stop.`;
  }
}

/** A person has refused the action. `note` is what they want the agent to hear. */
export class ReviewDenied extends PikarcBlockedError {
  constructor(
    denial: Omit<Denial, "reason">,
    readonly note: string | undefined,
  ) {
    super({ ...denial, reason: "REVIEW_DENIED", message: note });
  }
}

/** Nobody has decided in time, or the review was cancelled. */
export class ReviewExpired extends PikarcBlockedError {
  constructor(denial: Omit<Denial, "reason">) {
    super({ ...denial, reason: "REVIEW_TIMEOUT" });
  }
}

/** The action waits for a person, and the client was asked not to (`onReview: "raise"`). */
export class ReviewPending extends PikarcBlockedError {
  constructor(
    denial: Omit<Denial, "reason">,
    readonly reviewId: string,
  ) {
    super({ ...denial, reason: "REVIEW_PENDING" });
  }
}

/** The server could not be asked, or did not accept what it was asked. */
export class APIError extends PikarcError {
  constructor(
    message: string,
    /** The HTTP status; undefined where there was no answer. */
    readonly status?: number,
    /** What the server says: a text, or a list of problems. */
    readonly detail?: unknown,
    /** The server's name for the request, to be found in its log. */
    readonly requestId?: string,
  ) {
    super(message);
  }
}

/** 400: understood, but not possible. */
export class BadRequest extends APIError {}
/** 401: the API key is missing, unknown, revoked, expired, or may not do this. */
export class Authentication extends APIError {}
/** 403: the workspace's plan does not have this. */
export class PlanError extends APIError {}
/** 404: there is no such thing in this workspace. */
export class NotFound extends APIError {}
/** 422, 413 and other refusals of what was sent. `detail` lists the problems. */
export class InvalidRequest extends APIError {}
/** 429, after all attempts. */
export class RateLimited extends APIError {}
/** The server could not decide, after all attempts. The guarded function was not called. */
export class Unavailable extends APIError {}
/** No answer, or no whole one, after all attempts. */
export class ConnectionFailed extends Unavailable {}

/** Makes the error for an answer that is no success. It repeats neither the key nor the request's body. */
export function errorFor(status: number, body: unknown, requestId: string | undefined): APIError {
  const detail = typeof body === "object" && body !== null ? (body as Record<string, unknown>)["detail"] : undefined;
  const kinds: Record<number, typeof APIError> = { 400: BadRequest, 401: Authentication, 403: PlanError, 404: NotFound, 429: RateLimited };
  const Kind = kinds[status] ?? (status >= 500 || status === 408 ? Unavailable : InvalidRequest);
  const said = detail === undefined ? "" : `: ${typeof detail === "string" ? detail : JSON.stringify(detail)}`.slice(0, 500);
  return new Kind(`Pikarc API error: ${status}${said}`, status, detail, requestId);
}

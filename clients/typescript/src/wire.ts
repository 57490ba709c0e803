// What is sent and answered. Generated from server/openapi.json by `make clients`. Do not edit.

/** The answer to "may I?". An ALLOW has only `outcome` and `reason`; a DENY has all fields. */
export interface Decision {
  outcome: "ALLOW" | "DENY" | "REVIEW";
  reason: "RUN_ALREADY_ENDED" | "KILL_SWITCH_ACTIVE" | "USER_BLOCKED" | "WORKSPACE_DAILY_BUDGET_EXCEEDED" | "USER_DAILY_BUDGET_EXCEEDED" | "MONTHLY_RUN_LIMIT_EXCEEDED" | "MAX_CONCURRENT_RUNS_EXCEEDED" | "MODEL_NOT_PRICED" | "POLICY_DENIED" | "POLICY_LIMIT_EXCEEDED" | "REVIEW_NOT_SUPPORTED" | "REVIEW_DENIED" | "REVIEW_EXPIRED" | "REVIEW_CANCELLED" | null;
  limit?: number | null;
  used?: number | null;
  resets_at?: string | null;
  policy_name?: string;
  message?: string | null;
  review_id?: string | null;
}

export interface StartRunRequest {
  user_id: string;
  metadata?: unknown;
}

export interface StartedRun {
  id: string;
  status: "RUNNING" | "BLOCKED";
  decision: Decision;
  repaired?: string[];
}

export interface CreateStepRequest {
  type: "MODEL_CALL" | "TOOL_CALL" | "INPUT" | "OUTPUT" | "REASONING" | "SYSTEM";
  sequence: number;
  model?: unknown;
  tool_name?: unknown;
  input_data?: unknown;
}

export interface CreatedStep {
  id: string;
  status: "RUNNING" | "BLOCKED" | "WAITING";
  decision: Decision;
  review_id: string | null;
  repaired?: string[];
}

export interface UpdateStepRequest {
  status?: "COMPLETED" | "FAILED" | null;
  duration_ms?: unknown;
  prompt_tokens?: unknown;
  completion_tokens?: unknown;
  cached_tokens?: unknown;
  cache_write_tokens?: unknown;
  cache_write_1h_tokens?: unknown;
  reasoning_tokens?: unknown;
  service_tier?: unknown;
  reported_cost_usd?: unknown;
  usage?: unknown;
  model?: unknown;
  output_data?: unknown;
  error?: unknown;
}

export interface EndRunRequest {
  status: "COMPLETED" | "FAILED" | "BLOCKED";
}

// Code generated from server/openapi.json by `make clients`. DO NOT EDIT.

package pikarc

import "encoding/json"

// decision: The answer to "may I?". An ALLOW has only `outcome` and `reason`; a DENY has all fields.
type decision struct {
	Outcome    string      `json:"outcome"`
	Reason     string      `json:"reason"`
	Limit      json.Number `json:"limit,omitempty"`
	Used       json.Number `json:"used,omitempty"`
	ResetsAt   string      `json:"resets_at,omitempty"`
	PolicyName string      `json:"policy_name,omitempty"`
	Message    string      `json:"message,omitempty"`
	ReviewID   string      `json:"review_id,omitempty"`
}

type startRunRequest struct {
	UserID   string `json:"user_id"`
	Metadata any    `json:"metadata,omitempty"`
}

type startedRun struct {
	ID       string   `json:"id"`
	Status   string   `json:"status"`
	Decision decision `json:"decision"`
	Repaired []string `json:"repaired,omitempty"`
}

type createStepRequest struct {
	Type      string `json:"type"`
	Sequence  int64  `json:"sequence"`
	Model     any    `json:"model,omitempty"`
	ToolName  any    `json:"tool_name,omitempty"`
	InputData any    `json:"input_data,omitempty"`
}

type createdStep struct {
	ID       string   `json:"id"`
	Status   string   `json:"status"`
	Decision decision `json:"decision"`
	ReviewID string   `json:"review_id"`
	Repaired []string `json:"repaired,omitempty"`
}

type updateStepRequest struct {
	Status             string `json:"status,omitempty"`
	DurationMs         any    `json:"duration_ms,omitempty"`
	PromptTokens       any    `json:"prompt_tokens,omitempty"`
	CompletionTokens   any    `json:"completion_tokens,omitempty"`
	CachedTokens       any    `json:"cached_tokens,omitempty"`
	CacheWriteTokens   any    `json:"cache_write_tokens,omitempty"`
	CacheWrite1hTokens any    `json:"cache_write_1h_tokens,omitempty"`
	ReasoningTokens    any    `json:"reasoning_tokens,omitempty"`
	ServiceTier        any    `json:"service_tier,omitempty"`
	ReportedCostUSD    any    `json:"reported_cost_usd,omitempty"`
	Usage              any    `json:"usage,omitempty"`
	Model              any    `json:"model,omitempty"`
	OutputData         any    `json:"output_data,omitempty"`
	Error              any    `json:"error,omitempty"`
}

type endRunRequest struct {
	Status string `json:"status"`
}

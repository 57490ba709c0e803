package wire

import (
	"github.com/google/uuid"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Run is the summary of a run.
type Run struct {
	ID     uuid.UUID  `json:"id"`
	UserID string     `json:"user_id"`
	Title  NullString `json:"title"`
	Agent  NullString `json:"agent"`
	Status string     `json:"status"`
	// The latest denial, also of a run that went on.
	DenyReason       NullString `json:"deny_reason"`
	StartedAt        Time       `json:"started_at"`
	EndedAt          Time       `json:"ended_at"`
	EndedReason      NullString `json:"ended_reason"`
	DurationMillis   *int64     `json:"duration_ms"`
	StepCount        int64      `json:"step_count"`
	BlockedStepCount int64      `json:"blocked_step_count"`
	PromptTokens     int64      `json:"prompt_tokens"`
	CompletionTokens int64      `json:"completion_tokens"`
	// What is booked; unpriced tokens and calls without usage are missing in it.
	Total        plans.Money `json:"total_usd"`
	Unpriced     int64       `json:"unpriced_tokens"`
	WithoutUsage int64       `json:"calls_without_usage"`
	LastCallAt   Time        `json:"last_call_at"`
}

// RunOf makes the summary of a run.
func RunOf(r storage.Run) Run {
	out := Run{
		ID: r.ID, UserID: r.UserID, Title: NullString(r.Title), Agent: NullString(r.Agent), Status: r.Status.String(),
		DenyReason: NullString(r.DenyReason.String()),
		StartedAt:  Time(r.StartedAt), EndedAt: Time(r.EndedAt),
		StepCount: r.StepCount, BlockedStepCount: r.BlockedStepCount,
		PromptTokens: r.PromptTokens, CompletionTokens: r.CompletionTokens, Total: r.Spend,
		Unpriced: r.UnpricedTokens, WithoutUsage: r.CallsWithoutUsage,
		LastCallAt: Time(r.LastCallAt),
	}
	if r.EndedBy != 0 {
		out.EndedReason = NullString(r.EndedBy.String())
	}
	if !r.EndedAt.IsZero() {
		// A clock set back in between must not make a run of negative length.
		length := max(0, r.EndedAt.Sub(r.StartedAt).Milliseconds())
		out.DurationMillis = &length
	}
	return out
}

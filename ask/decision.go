package ask

import (
	"encoding/json"
	"fmt"
)

const (
	// allow, deny and review are a decision's outcomes in the API.
	allow, deny, review = "ALLOW", "DENY", "REVIEW"
	// RunEnded is the reason of a denial that another run does not have.
	RunEnded = "RUN_ALREADY_ENDED"
)

// Decision is what the server has decided.
type Decision struct {
	Outcome, Reason, Message string
	PolicyName               string      `json:"policy_name"`
	Limit, Used              json.Number // of the rule that objected, if it has them
	ResetsAt                 string      `json:"resets_at"`
}

// Allowed reports whether the call may be made.
func (d Decision) Allowed() bool { return d.Outcome == allow }

// Explain is a sentence for people, with the limit and when it resets.
func (d Decision) Explain() string {
	text := d.Message
	if text == "" {
		text = sentence(d)
	}
	if d.Limit != "" && d.Used != "" {
		text += fmt.Sprintf(" The limit is %s, %s are used.", d.Limit, d.Used)
	}
	if d.ResetsAt != "" {
		text += fmt.Sprintf(" It resets at %s.", d.ResetsAt)
	}
	return text
}

// ForModel is a sentence for the model that asked for the call, so that it does
// not try again at once.
func (d Decision) ForModel() string {
	return "This call was not executed: it is not allowed. " + d.Explain() +
		" Do not repeat it; go on without it or stop."
}

// TroubleForModel is the same where there is no decision.
func TroubleForModel(err error) string {
	return "This call was not executed, because its guard (Pikarc) has made no decision: " +
		err.Error() + ". Stop, and tell the user."
}

// sentences are those of the server's reasons, as the clients have them.
func sentences() map[string]string {
	return map[string]string{
		"KILL_SWITCH_ACTIVE":              "All agents of this workspace are stopped.",
		"USER_BLOCKED":                    "This user is blocked.",
		"WORKSPACE_DAILY_BUDGET_EXCEEDED": "Today's budget of this workspace is spent.",
		"USER_DAILY_BUDGET_EXCEEDED":      "Today's budget of this user is spent.",
		"MONTHLY_RUN_LIMIT_EXCEEDED":      "This month's runs are used up.",
		"MAX_CONCURRENT_RUNS_EXCEEDED":    "As many runs as are allowed at a time are running.",
		"MODEL_NOT_PRICED":                "The model has no price, and unpriced models are not allowed.",
		RunEnded:                          "The run has ended.",
		"POLICY_DENIED":                   "A policy does not allow this.",
		"POLICY_LIMIT_EXCEEDED":           "A policy's limit is reached.",
		"REVIEW_NOT_SUPPORTED":            "A person must approve this, and cannot be asked from here.",
		"REVIEW_DENIED":                   "A person has refused this.",
		"REVIEW_EXPIRED":                  "Nobody has decided about this in time.",
		"REVIEW_CANCELLED":                "The question about this was cancelled.",
	}
}

// sentence explains a denial. It must be worded like the clients' (clients/go/errors.go).
func sentence(d Decision) string {
	if d.Outcome == review {
		return "A person must approve this, and cannot be asked from here."
	}
	if text := sentences()[d.Reason]; text != "" {
		return text
	}
	return fmt.Sprintf("It is not allowed (%s).", d.Reason)
}

// Allowed is a decision that allows, of somebody who has been asked before.
func Allowed() Decision { return Decision{Outcome: allow} }

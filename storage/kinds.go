package storage

import "fmt"

// RunStatus is where a run stands. The values are stored: never renumber.
type RunStatus uint8

// The states of a run.
const (
	RunRunning   RunStatus = 1
	RunCompleted RunStatus = 2
	RunFailed    RunStatus = 3
	RunBlocked   RunStatus = 4
)

// String is the word that the API uses.
func (s RunStatus) String() string {
	return enumName("run status", int(s), "RUNNING", "COMPLETED", "FAILED", "BLOCKED")
}

// ParseRunStatus is the reverse of String; 0 for any other word.
func ParseRunStatus(s string) RunStatus {
	return RunStatus(enumValue(s, "RUNNING", "COMPLETED", "FAILED", "BLOCKED"))
}

// StepStatus is where a step stands. The values are stored: never renumber.
type StepStatus uint8

// The states of a step.
const (
	StepRunning   StepStatus = 1
	StepCompleted StepStatus = 2
	StepFailed    StepStatus = 3
	StepBlocked   StepStatus = 4
	StepAbandoned StepStatus = 5 // shown, see stepRow.shown; only older versions stored it
)

// String is the word that the API uses.
func (s StepStatus) String() string {
	return enumName("step status", int(s), "RUNNING", "COMPLETED", "FAILED", "BLOCKED", "ABANDONED")
}

// ParseStepStatus is the reverse of String; 0 for any other word.
func ParseStepStatus(s string) StepStatus {
	return StepStatus(enumValue(s, "RUNNING", "COMPLETED", "FAILED", "BLOCKED", "ABANDONED"))
}

// StepType is what a step does. The values are stored: never renumber.
type StepType uint8

// ModelCall is the type that is expected to use tokens.
const ModelCall StepType = 1

// ToolCall is the type that may have a price a call.
const ToolCall StepType = 2

// StepTypes lists the words of StepType, in the order of their values from 1.
func StepTypes() []string {
	return []string{"MODEL_CALL", "TOOL_CALL", "INPUT", "OUTPUT", "REASONING", "SYSTEM"}
}

// String is the word that the API uses.
func (t StepType) String() string { return enumName("step type", int(t), StepTypes()...) }

// ParseStepType is the reverse of String; 0 for any other word.
func ParseStepType(s string) StepType { return StepType(enumValue(s, StepTypes()...)) }

// EndedBy is who ended a run. The values are stored: never renumber.
type EndedBy uint8

// Who ends runs; 0 is nobody: the run is RUNNING, or was born BLOCKED.
const (
	EndedByClient    EndedBy = 1
	EndedByDashboard EndedBy = 2
	EndedByIdle      EndedBy = 3
)

// String is the API's ended_reason.
func (e EndedBy) String() string {
	return enumName("ended by", int(e), "CLIENT", "DASHBOARD", "IDLE_TIMEOUT")
}

// Repairs are the fields of a run or step that could not be kept as they were
// sent, so that who reads them knows. The values are stored: never renumber.
type Repairs int64

const (
	// RepairedOther stands for all fields that this server does not know.
	RepairedOther Repairs = 1
	// AllRepairs has every bit.
	AllRepairs = ^Repairs(0)
)

// repairedFields are the names of the other bits, from 2 upwards.
func repairedFields() []string {
	return []string{
		"metadata", "input_data", "output_data", "error", "model", "tool_name", "duration_ms",
		"prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens",
		"reasoning_tokens", "service_tier", "reported_cost_usd", "usage",
	}
}

// RepairOf is the bit of a field by its name in the API.
func RepairOf(field string) Repairs {
	for i, name := range repairedFields() {
		if name == field {
			return 2 << i
		}
	}
	return RepairedOther
}

// RepairsOf is the set of such fields.
func RepairsOf(fields []string) (all Repairs) {
	for _, field := range fields {
		all |= RepairOf(field)
	}
	return all
}

// Fields names them, as the API does; unknown ones are one "other".
func (r Repairs) Fields() (names []string) {
	if r == 0 {
		return nil
	}
	for i, name := range repairedFields() {
		if r&(2<<i) != 0 {
			names = append(names, name)
		}
	}
	if r&RepairedOther != 0 {
		names = append(names, "other")
	}
	return names
}

func enumName(what string, n int, names ...string) string {
	if n < 1 || n > len(names) {
		return fmt.Sprintf("%s %d", what, n)
	}
	return names[n-1]
}

func enumValue(s string, words ...string) int {
	for i, w := range words {
		if w == s {
			return i + 1
		}
	}
	return 0
}

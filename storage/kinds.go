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

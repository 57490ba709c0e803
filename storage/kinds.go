package storage

import (
	"database/sql"
	"fmt"
	"math/bits"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// RunStatus is where a run stands. The values are stored: never renumber.
type RunStatus uint8

// The states of a run.
const (
	// RunRunning: started and not ended, however long ago its last call was.
	RunRunning RunStatus = 1
	// RunCompleted and RunFailed are what the agent says of its own run.
	RunCompleted RunStatus = 2
	RunFailed    RunStatus = 3
	// RunBlocked: its start was denied, or it gave up after a denial.
	RunBlocked RunStatus = 4
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
	// StepRunning: allowed, and not reported yet.
	StepRunning StepStatus = 1
	// StepCompleted and StepFailed are reported.
	StepCompleted StepStatus = 2
	StepFailed    StepStatus = 3
	// StepBlocked: denied, by a rule, a policy or a person.
	StepBlocked   StepStatus = 4
	StepAbandoned StepStatus = 5 // shown, see stepRow.shown; only older versions stored it
	StepWaiting   StepStatus = 6 // for a person's review
)

// String is the word that the API uses.
func (s StepStatus) String() string {
	return enumName("step status", int(s), "RUNNING", "COMPLETED", "FAILED", "BLOCKED", "ABANDONED", "WAITING")
}

// ParseStepStatus is the reverse of String; 0 for any other word.
func ParseStepStatus(s string) StepStatus {
	return StepStatus(enumValue(s, "RUNNING", "COMPLETED", "FAILED", "BLOCKED", "ABANDONED", "WAITING"))
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
	// EndedByClient: the agent, or a script with a key.
	EndedByClient EndedBy = 1
	// EndedByDashboard: a person.
	EndedByDashboard EndedBy = 2
	// EndedByIdle: it was silent for longer than the workspace's timeout. Its agent may still end
	// it itself.
	EndedByIdle EndedBy = 3
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

// repairedFields are the names of the other bits, from 2 upwards. Their order is stored: append
// only.
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

// enumName returns the n-th name, counted from 1. A number that a newer release stored is shown as
// such.
func enumName(what string, n int, names ...string) string {
	if n < 1 || n > len(names) {
		return fmt.Sprintf("%s %d", what, n)
	}
	return names[n-1]
}

// enumValue is the inverse of enumName; 0 for an unknown name.
func enumValue(s string, words ...string) int {
	for i, w := range words {
		if w == s {
			return i + 1
		}
	}
	return 0
}

// ServiceTier is how a provider served a call. The values are stored: never renumber.
type ServiceTier uint8

// String is the word that the API uses; empty where none was said.
func (t ServiceTier) String() string {
	if t == 0 {
		return ""
	}
	return enumName("service tier", int(t), "default", "batch", "flex", "priority", "fast")
}

// ParseServiceTier reads a provider's word for a service tier; 0 for one that is not known.
func ParseServiceTier(text string) ServiceTier {
	tier, _ := prices.ServiceTier(text)
	return ServiceTier(enumValue(tier, "default", "batch", "flex", "priority", "fast"))
}

// rates is the tier as the catalogue names it: empty where the common prices hold.
func (t ServiceTier) rates() string {
	if t.String() == "default" {
		return ""
	}
	return t.String()
}

// Parts is what a step has used beside the whole of its prompt and completion.
type Parts struct {
	Cached       int64 // of the prompt: read from a cache
	CacheWrite   int64 // of the prompt: written to one
	CacheWrite1h int64 // of those written: to be kept for an hour
	Reasoning    int64 // of the completion
	Tier         ServiceTier
	ReportedCost *plans.Money // what the provider says that the call cost
}

// parts is Parts as it is stored.
type parts struct {
	cached, cacheWrite, cacheWrite1h, reasoning int64
	tier                                        ServiceTier
	reportedCost                                sql.NullInt64
}

// shown returns the parts as they are answered.
func (p parts) shown() Parts {
	return Parts{
		Cached: p.cached, CacheWrite: p.cacheWrite, CacheWrite1h: p.cacheWrite1h, Reasoning: p.reasoning,
		Tier: p.tier, ReportedCost: int64Ptr[plans.Money](p.reportedCost),
	}
}

// partPrices are the prices of the parts, in pico-USD a token.
type partPrices struct{ cached, cacheWrite, cacheWrite1h, reasoning int64 }

// partPricesOf returns the prices of a table that a step may be charged beside input and output.
func partPricesOf(t prices.Table) partPrices {
	return partPrices{
		cached: int64(t.Price(prices.Cached)), cacheWrite: int64(t.Price(prices.CacheWrite)),
		cacheWrite1h: int64(t.Price(prices.CacheWrite1h)), reasoning: int64(t.Price(prices.Reasoning)),
	}
}

// counts are all tokens that were reported.
func (u *usage) counts() prices.Tokens {
	return prices.Tokens{
		Prompt: u.reported.prompt, Cached: u.parts.cached, CacheWrite: u.parts.cacheWrite,
		CacheWrite1h: u.parts.cacheWrite1h, Completion: u.reported.completion, Reasoning: u.parts.reasoning,
	}
}

// applyCounts applies an update's counts. A total below the sum of its parts is raised to that sum,
// so that all usage is charged; raised names such totals.
func (u *usage) applyCounts(in StepUpdate) (raised Repairs) {
	set := func(to *int64, n *int64) {
		if n != nil {
			*to = *n
		}
	}
	set(&u.reported.prompt, in.PromptTokens)
	set(&u.reported.completion, in.CompletionTokens)
	set(&u.parts.cached, in.CachedTokens)
	set(&u.parts.cacheWrite, in.CacheWriteTokens)
	set(&u.parts.cacheWrite1h, in.CacheWrite1hTokens)
	set(&u.parts.reasoning, in.ReasoningTokens)
	if in.ServiceTier != 0 {
		u.parts.tier = in.ServiceTier
	}
	if in.ReportedCost != nil {
		u.parts.reportedCost = sql.NullInt64{Int64: int64(*in.ReportedCost), Valid: true}
	}
	u.parts.cacheWrite = max(u.parts.cacheWrite, u.parts.cacheWrite1h)
	// Each part is at most plans.MaxTokens, and so is their sum.
	u.parts.cacheWrite = min(u.parts.cacheWrite, plans.MaxTokens-u.parts.cached)
	u.parts.cacheWrite1h = min(u.parts.cacheWrite1h, u.parts.cacheWrite)
	if least := u.parts.cached + u.parts.cacheWrite; u.reported.prompt < least {
		u.reported.prompt = least
		raised |= RepairOf("prompt_tokens")
	}
	if u.reported.completion < u.parts.reasoning {
		u.reported.completion = u.parts.reasoning
		raised |= RepairOf("completion_tokens")
	}
	return raised
}

// saveParts stores what the step has used beside the wholes, if anything.
func (row *stepRow) saveParts(tx *Tx, runID int64, was usage) error {
	p, at := row.used.parts, row.used.partPrices
	switch {
	case p == was.parts && at == was.partPrices:
		return nil
	case p == parts{}:
		err := tx.queue(`DELETE FROM step_usage WHERE segment = $1 AND run_id = $2 AND step_uuid = $3`, row.segment, runID, row.ID[:])
		return err
	}
	err := tx.queue(`INSERT INTO step_usage (segment, run_id, step_uuid, cached_tokens, cache_write_tokens, cache_write_1h_tokens,
			reasoning_tokens, service_tier, reported_nanos, cached_picos, cache_write_picos, cache_write_1h_picos, reasoning_picos)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
		ON CONFLICT (segment, run_id, step_uuid) DO UPDATE SET cached_tokens = excluded.cached_tokens,
			cache_write_tokens = excluded.cache_write_tokens, cache_write_1h_tokens = excluded.cache_write_1h_tokens,
			reasoning_tokens = excluded.reasoning_tokens, service_tier = excluded.service_tier,
			reported_nanos = excluded.reported_nanos, cached_picos = excluded.cached_picos,
			cache_write_picos = excluded.cache_write_picos, cache_write_1h_picos = excluded.cache_write_1h_picos,
			reasoning_picos = excluded.reasoning_picos`,
		row.segment, runID, row.ID[:], p.cached, p.cacheWrite, p.cacheWrite1h, p.reasoning, int64(p.tier), p.reportedCost,
		at.cached, at.cacheWrite, at.cacheWrite1h, at.reasoning)
	return err
}

// toolPrefix is before a tool's name where a price is for its calls.
const toolPrefix = "tool:"

// findTool gives a call of a tool the entry that prices it, if there is one. In the books
// it then has that entry's name as its model.
func (row *stepRow) findTool(tx *Tx, ws *cachedWorkspace) error {
	if !ws.hasToolPrices || row.Type != ToolCall || row.ToolName == nil || row.model.Valid {
		return nil
	}
	id, err := tx.cache.modelIDs.get(tx, nameKey{ws.key, toolPrefix + *row.ToolName})
	if err != nil {
		return ignoreNotFound(err)
	}
	price, err := tx.cache.price(tx, idKey{ws.key, id.id})
	if err == nil && price != nil {
		row.model = nullZero(id.id)
	}
	return err
}

// costsByCall reports whether the call itself has a price, so that it costs
// something without any tokens.
func (row *stepRow) costsByCall(tx *Tx, ws *cachedWorkspace) (bool, error) {
	if err := row.findTool(tx, ws); err != nil || !row.model.Valid {
		return false, err
	}
	price, err := tx.cache.price(tx, idKey{ws.key, row.model.Int64})
	return price != nil && price.rates.PerCall != 0, err
}

// EventKind is what a workspace's endpoints can be told of. The values are
// stored, as bits of endpoints.events too: never renumber.
type EventKind uint8

// The kinds of events.
const (
	BudgetThreshold EventKind = 1 // half, most or all of a budget or limit is spent
	BudgetForecast  EventKind = 2 // at the rate of the last hour a budget will be spent today
	SpendSpike      EventKind = 3 // more is being spent than usual
	// KillSwitchChanged: turned on or off.
	KillSwitchChanged EventKind = 4
	// Of reviews: asked for, decided, run out, or not waited for.
	ReviewRequested EventKind = 5
	ReviewDecided   EventKind = 6
	ReviewExpired   EventKind = 7
	ReviewBypassed  EventKind = 8
	// LoopDetected: an agent repeats an action more often than a policy allows.
	LoopDetected      EventKind = 9
	UnpricedModelUsed EventKind = 10
	// KeyRegenerated: somebody may have to bring the new key to agents.
	KeyRegenerated EventKind = 11
	// SignInRefused: a sign-in to the workspace's account failed.
	SignInRefused EventKind = 12
	VerifyFailed  EventKind = 13 // of the server, as those below
	// Of the server itself, told to its operator.
	BackupFailed EventKind = 14
	DiskLow      EventKind = 15
	// TestEvent is sent to one endpoint when it is asked for, and cannot be chosen.
	TestEvent EventKind = 16
)

// eventNames are the API's words, in the order of their values from 1.
func eventNames() []string {
	return []string{
		"budget.threshold", "budget.forecast", "spend.spike", "kill_switch.changed",
		"review.requested", "review.decided", "review.expired", "review.bypassed", "loop.detected",
		"model.unpriced", "key.regenerated", "sign_in.refused",
		"verify.failed", "backup.failed", "disk.low", "test",
	}
}

// String is the word that the API uses.
func (k EventKind) String() string { return enumName("event", int(k), eventNames()...) }

// EventNames lists the events that an endpoint can ask for.
func EventNames() []string { return eventNames()[:TestEvent-1] }

// ParseEvent is the reverse of String; 0 for any other word.
func ParseEvent(s string) EventKind { return EventKind(enumValue(s, eventNames()...)) }

// Events is a set of kinds.
type Events int64

// AllEvents has every event, also those of later versions.
const AllEvents Events = -1

// EventsOf is the set of some kinds.
func EventsOf(kinds ...EventKind) (all Events) {
	for _, k := range kinds {
		all |= 1 << k
	}
	return all
}

// Has reports whether an event is in the set.
func (e Events) Has(k EventKind) bool { return e&(1<<k) != 0 }

// Names lists the API's words; "*" for AllEvents.
func (e Events) Names() []string {
	if e == AllEvents {
		return []string{"*"}
	}
	names := make([]string, 0, bits.OnesCount64(uint64(e)))
	for k := BudgetThreshold; k < TestEvent; k++ {
		if e.Has(k) {
			names = append(names, k.String())
		}
	}
	return names
}

// DeliveryState is how far a delivery has come. The values are stored: never renumber.
type DeliveryState uint8

// The states of a delivery.
const (
	// DeliveryPending: due now or later.
	DeliveryPending DeliveryState = 1
	// DeliveryDelivered: the endpoint has taken it.
	DeliveryDelivered DeliveryState = 2
	DeliveryFailed    DeliveryState = 3 // given up
	DeliveryCancelled DeliveryState = 4 // its endpoint was switched off
)

// DeliveryStates lists the words of DeliveryState, in the order of their values from 1.
func DeliveryStates() []string { return []string{"pending", "delivered", "failed", "cancelled"} }

// String is the word that the API uses.
func (d DeliveryState) String() string {
	return enumName("delivery state", int(d), DeliveryStates()...)
}

// ParseDeliveryState is the reverse of String; 0 for any other word.
func ParseDeliveryState(s string) DeliveryState {
	return DeliveryState(enumValue(s, DeliveryStates()...))
}

package policies

import (
	"slices"
	"strings"

	"github.com/pikarc/server/plans"
)

// Effect is what a policy does where it objects. The values are stored: never
// renumber. A larger one is asked before, and stands above, a smaller one.
type Effect uint8

// The effects.
const (
	Log    Effect = 1 // says so, and changes no answer
	Review Effect = 2 // a person decides
	Deny   Effect = 3
)

// effects are the words of Effect.
var effects = words[Effect]{{Deny, "deny"}, {Review, "review"}, {Log, "log"}}

// String is the word of the API.
func (e Effect) String() string { return effects.word(e) }

// ParseEffect is the reverse of String; false for any other word.
func ParseEffect(word string) (Effect, bool) { return effects.value(word) }

// Measure is what a limit counts. The values are stored: never renumber.
type Measure uint8

// The measures.
const (
	MeasureUSD     Measure = 1 // what steps cost, in nano-USD
	MeasureTokens  Measure = 2 // prompt and completion tokens
	MeasureCalls   Measure = 3 // steps that were allowed, with the one that asks
	MeasureRuns    Measure = 4 // runs that were allowed to start, with the one that asks
	MeasureRepeats Measure = 5 // the same action in a row, with the one that asks: see Repeats
)

// measures are the words of Measure.
var measures = words[Measure]{
	{MeasureUSD, "usd"}, {MeasureTokens, "tokens"}, {MeasureCalls, "calls"}, {MeasureRuns, "runs"}, {MeasureRepeats, "repeats"},
}

// String is the word of the API.
func (m Measure) String() string { return measures.word(m) }

// ParseMeasure is the reverse of String; false for any other word.
func ParseMeasure(word string) (Measure, bool) { return measures.value(word) }

// Window is the time over which a limit counts. The values are stored: never renumber.
type Window uint8

// The windows. A run's and the total never begin anew.
const (
	// WindowRun begins and ends with the run.
	WindowRun Window = 1
	// Minutes and hours are those of the clock, whatever the time zone.
	WindowMinute Window = 2
	WindowHour   Window = 3
	// Days, weeks and months begin by the workspace's time zone and first day of the week.
	WindowDay   Window = 4
	WindowWeek  Window = 5
	WindowMonth Window = 6
	// WindowTotal never begins anew.
	WindowTotal Window = 7
)

// windows are the words of Window.
var windows = words[Window]{
	{WindowRun, "run"}, {WindowMinute, "minute"}, {WindowHour, "hour"}, {WindowDay, "day"},
	{WindowWeek, "week"}, {WindowMonth, "month"}, {WindowTotal, "total"},
}

// String is the word of the API.
func (w Window) String() string { return windows.word(w) }

// ParseWindow is the reverse of String; false for any other word.
func ParseWindow(word string) (Window, bool) { return windows.value(word) }

// Policy is one rule of a workspace.
type Policy struct {
	Name, Description string
	Enabled           bool
	Priority          int64 // a lower one is asked first
	Match             Match
	When              string // CEL; empty always holds
	Limit             *Limit // nil: it objects whenever Match and When hold
	Effect            Effect
	Message           string // what the agent hears
	Review            ReviewTerms

	// Version and ID are the ledger's: Parse leaves them 0, and JSON leaves them out.
	Version, ID int64
}

// DefaultPriority is that of a policy which names none.
const DefaultPriority = 100

// Match says which steps and runs a policy is about: all that are given must
// hold, and of a list one entry. `*` stands for any number of characters. What
// a step does not have, such as the tool of a model call, matches no pattern.
type Match struct {
	Types, Tools, Models, Users []string
	Tags                        map[string]string
}

// NamesUser reports whether one of the patterns of users matches a user's id.
func (m Match) NamesUser(user string) bool {
	return slices.ContainsFunc(m.Users, func(pattern string) bool { return matchGlob(pattern, user) })
}

// ReviewTerms say how a review goes. They are zero where the effect is another.
type ReviewTerms struct {
	ExpiresSeconds int64
	Approvals      int64
	OnExpiry       string
}

// DefaultReview holds the terms of a policy that names none. The published
// client waits for 300 seconds: the answer must be there before.
func DefaultReview() ReviewTerms {
	return ReviewTerms{ExpiresSeconds: 290, Approvals: 1, OnExpiry: "deny"}
}

// Limit lets a policy object once enough was used in a window.
type Limit struct {
	Measure Measure
	Per     string // workspace, user, run, tool, model, or tag:KEY
	Window  Window
	// Amount is nano-USD where it measures USD, and a count otherwise. The
	// policy objects where what was used has reached it. Calls, Runs and Repeats
	// count what asks: those that Amount allows are Amount of Calls and Runs, and
	// the Amount-th repeat is the first that is objected to.
	Amount int64
	// Rolling windows end now and begin a window's length before; others begin
	// with the hour, day, week or month of the workspace's calendar.
	Rolling bool
}

// Money is the amount of a limit in USD.
func (l *Limit) Money() plans.Money { return plans.Money(l.Amount) }

// Scope is whose use the limit counts: the value of Per among the facts, and
// "" for the workspace. Runs without the tag of a `tag:KEY` share the scope "",
// so that leaving a tag away is no way around a limit.
func (l *Limit) Scope(f *Facts) string {
	switch l.Per {
	case "user":
		return f.User
	case "run":
		return f.Run
	case "tool":
		return f.Tool
	case "model":
		return f.Model
	default:
		if key, ok := l.tag(); ok {
			return f.Tags[key]
		}
		return ""
	}
}

// tag returns the key of the tag that a limit counts by, if it counts by one.
func (l *Limit) tag() (key string, ok bool) { return strings.CutPrefix(l.Per, "tag:") }

// Reached reports whether the policy objects where so much was used: in the
// window, or by the step that asks for Repeats.
func (l *Limit) Reached(used int64) bool { return used >= l.Amount }

// StepTypes are the types that a step can have.
func StepTypes() []string {
	return []string{"MODEL_CALL", "TOOL_CALL", "INPUT", "OUTPUT", "REASONING", "SYSTEM"}
}

// words pairs the values of a small type with the API's words.
type words[T comparable] []struct {
	v    T
	word string
}

// word returns a value's word, "" if it has none.
func (w words[T]) word(v T) string {
	for _, pair := range w {
		if pair.v == v {
			return pair.word
		}
	}
	return ""
}

// value returns a word's value.
func (w words[T]) value(word string) (v T, ok bool) {
	for _, pair := range w {
		if pair.word == word {
			return pair.v, true
		}
	}
	return v, false
}

// all lists the words as a sentence does: "a, b or c".
func (w words[T]) all() string {
	list := make([]string, len(w))
	for i, pair := range w {
		list[i] = pair.word
	}
	last := len(list) - 1
	return strings.Join(list[:last], ", ") + " or " + list[last]
}

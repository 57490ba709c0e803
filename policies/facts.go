package policies

import (
	"time"

	"cel.dev/cel-go/common/types/ref"
	"github.com/pikarc/server/plans"
)

// Facts are what a policy can ask about: a step of a run, or a run's start.
// One goroutine at a time uses them: what was decoded for one rule is kept for
// the next.
type Facts struct {
	Start bool // a run's start: there is no step, so no Type, Tool, Model or Input

	Type, Tool, Model, User, Run string
	Tags                         map[string]string
	Metadata, Input              []byte // JSON, or nil

	Steps int64 // of the run, before this one
	// What the run has spent before this call, in nano-USD.
	Spent     plans.Money
	StartedAt time.Time
	Now       time.Time
	Repeats   int64 // see Repeats; 0 where no policy needs it

	metadata, input ref.Val // decoded
}

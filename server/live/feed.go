package live

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	maxPending = 256  // events of a workspace kept for a round
	maxTouched = 4096 // changes of runs remembered between two spend.changed
	maxRuns    = 50   // runs in a spend.changed
)

// feed holds what a workspace's streams have not been sent yet.
type feed struct {
	ws      storage.WorkspaceKey
	streams map[*Stream]struct{} // guarded by the hub's mu

	// The rest belongs to the hub's goroutine.
	events    []storage.Change // in the order of their commits
	touched   []int64          // runs whose figures changed, the latest last; with repeats
	spend     bool             // some figure changed
	published time.Time        // when spend.changed was last published
	missed    bool
	recheck   bool           // a credential may have ended
	external  bool           // another process may have changed the configuration
	elsewhere bool           // another node has committed
	told      time.Time      // when that was last told
	config    storage.Config // as last published
}

// add queues a change.
func (f *feed) add(c storage.Change) {
	switch c.Kind {
	case storage.RunStarted, storage.RunDenied, storage.RunEnded, storage.StepDenied,
		storage.ModelUnpriced, storage.SpendCapped, storage.ReviewAsked, storage.ReviewResolved:
		f.spend = true
		f.events = append(f.events, c)
	case storage.RunProgressed:
		f.spend = true
	case storage.ConfigChanged:
		if !slices.Contains(f.events, c) { // twice in a round says no more than once
			f.events = append(f.events, c)
		}
	case storage.CredentialsChanged:
		f.recheck = true
	}
	if c.Kind == storage.RunProgressed || c.Kind == storage.StepDenied {
		// The older half goes: only the latest maxRuns of them will be sent.
		if len(f.touched) == maxTouched {
			f.touched = append(f.touched[:0], f.touched[maxTouched/2:]...)
		}
		f.touched = append(f.touched, c.Run)
	}
	// More than a page could show. It is told to read everything again instead.
	if len(f.events) > maxPending {
		f.events, f.missed = nil, true
	}
}

// pending reports whether anything waits to be published.
func (f *feed) pending() bool {
	return f.spend || f.missed || f.recheck || f.external || f.elsewhere || len(f.events) > 0
}

// latest returns the runs touched, each once, the latest first.
func (f *feed) latest() (runs []int64) {
	seen := make(map[int64]bool, maxRuns)
	for _, id := range slices.Backward(f.touched) {
		if seen[id] {
			continue
		}
		if len(runs) == maxRuns {
			break
		}
		seen[id] = true
		runs = append(runs, id)
	}
	return runs
}

// collect reads what is pending and due in one snapshot, and encodes it. What
// cannot be read now is missed.
func (h *Hub) collect(ctx context.Context, f *feed) []byte {
	if f.external || slices.ContainsFunc(f.events,
		func(c storage.Change) bool { return c.Kind == storage.ConfigChanged }) {
		h.compareConfig(ctx, f)
	}
	if f.elsewhere && time.Since(f.told) >= tellEvery { // what it was, only a page's own reading finds out
		f.missed, f.elsewhere, f.told = true, false, time.Now()
	}
	spend := f.spend && time.Since(f.published) >= spendEvery
	// Figures change with every step, so they are only due once in spendEvery.
	if !spend && !f.missed && len(f.events) == 0 {
		return nil
	}
	// Runs are read once for all events of the round; a run with ten new steps costs one look-up.
	var touched, asked []int64
	if spend {
		touched = f.latest()
		asked = slices.Clone(touched)
	}
	for _, c := range f.events {
		if c.Run != 0 {
			asked = append(asked, c.Run)
		}
	}
	events := f.events
	f.events = nil
	var frames frames
	if len(asked) > 0 || spend {
		// One snapshot, so that a run and the day's spend beside it are of one moment.
		m, err := h.store.Snapshot(ctx, f.ws, asked)
		if err != nil {
			h.log.Warn("read what event streams are to be sent", "error", err.Error())
			f.missed, f.published = true, time.Now()
			return nil // published in a later round
		}
		frames.events(events, m)
		if spend {
			f.spend, f.touched, f.published = false, f.touched[:0], time.Now()
			frames.spend(m, touched)
		}
	} else {
		frames.events(events, storage.Snapshot{})
	}
	if f.missed {
		f.missed = false
		frames.add("missed", struct{}{})
	}
	return frames
}

// compareConfig adds an event for each part that another process changed.
func (h *Hub) compareConfig(ctx context.Context, f *feed) {
	now, err := h.store.Config(ctx, f.ws)
	if err != nil {
		return // read again in the next round
	}
	was := f.config
	f.config, f.external = now, false
	changed := func(part storage.ConfigPart) {
		f.add(storage.Change{Workspace: f.ws, Kind: storage.ConfigChanged, Part: part})
	}
	if now.Keys != was.Keys {
		changed(storage.PartAPIKey)
	}
	// An event of its own, and then no difference of the workspace any more.
	if now.Workspace.Plan != was.Workspace.Plan {
		changed(storage.PartPlan)
		was.Workspace.Plan = now.Workspace.Plan
	}
	if now.Workspace != was.Workspace {
		changed(storage.PartWorkspace)
	}
}

// frames are events as they go over the wire.
type frames []byte

// add appends an event. wire.Encode writes no line breaks, so the data is one line.
func (b *frames) add(event string, data any) {
	*b = append(*b, "event: "...)
	*b = append(*b, event...)
	*b = append(*b, "\ndata: "...)
	*b = append(*b, wire.MustEncode(data)...)
	*b = append(*b, "\n\n"...)
}

// events appends what happened, in its order. A run that has been deleted since is left out.
func (b *frames) events(changes []storage.Change, m storage.Snapshot) {
	for _, c := range changes {
		run, found := m.Runs[c.Run]
		switch {
		case c.Kind == storage.ConfigChanged:
			b.add("config.changed", struct {
				What string `json:"what"`
			}{c.Part.String()})
		// The run was deleted or erased since; there is nothing to show of it.
		case !found:
		case c.Kind == storage.StepDenied:
			b.add("step.denied", struct {
				Run      wire.Run        `json:"run"`
				Step     uuid.UUID       `json:"step_id"`
				Decision json.RawMessage `json:"decision"`
			}{wire.RunOf(run), c.Denial.Step, wire.AppendDecision(nil, c.Denial.Decision, false)})
		case c.Kind == storage.ModelUnpriced:
			b.add("model.unpriced", struct {
				Model wire.NullString `json:"model"`
				Run   wire.Run        `json:"run"`
				Step  uuid.UUID       `json:"step_id"`
			}{wire.NullString(c.Model), wire.RunOf(run), c.Step})
		case c.Kind == storage.SpendCapped:
			b.add("spend.capped", struct {
				Run  wire.Run  `json:"run"`
				Step uuid.UUID `json:"step_id"`
			}{wire.RunOf(run), c.Step})
		case c.Kind == storage.ReviewAsked || c.Kind == storage.ReviewResolved:
			b.add("reviews.changed", struct {
				Run        wire.Run        `json:"run"`
				Step       uuid.UUID       `json:"step_id"`
				Review     uuid.UUID       `json:"review_id"`
				Status     string          `json:"status"`
				Resolution wire.NullString `json:"resolution"`
			}{wire.RunOf(run), c.Step, c.Review, c.As.Status(), wire.NullString(c.As.String())})
		default:
			b.add(runEvent(c.Kind), wire.RunOf(run))
		}
	}
}

// runEvent returns the name of an event of a whole run.
func runEvent(kind storage.ChangeKind) string {
	switch kind {
	case storage.RunStarted:
		return "run.started"
	case storage.RunDenied:
		return "run.denied"
	default:
		return "run.ended"
	}
}

// spend appends the workspace's figures, with the runs whose figures changed.
func (b *frames) spend(m storage.Snapshot, touched []int64) {
	runs := make([]wire.Run, 0, len(touched))
	for _, id := range touched {
		if r, found := m.Runs[id]; found {
			runs = append(runs, wire.RunOf(r))
		}
	}
	b.add("spend.changed", struct {
		Today       wire.Totals `json:"today"`
		RunningRuns int64       `json:"running_runs"`
		Runs        []wire.Run  `json:"runs"`
	}{wire.TotalsOf(m.Today), m.RunningRuns, runs})
}

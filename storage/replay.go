package storage

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"database/sql"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

// Replay calls each with what was allowed in a workspace from one time to another,
// in the order of time: starts of runs, and steps. Of an event's facts those are
// read that the policies need. It holds no snapshot for its whole length, so what
// is erased meanwhile may be missing.
func (s *Store) Replay(
	ctx context.Context, ws WorkspaceKey, from, to time.Time, needs *policies.Set, each func(*policies.Event) error,
) error {
	r := &replaying{
		store: s, ctx: ctx, ws: ws, from: from.UnixMilli(), to: to.UnixMilli(), needs: needs, each: each,
		runs: make(map[int64]*replayedRun),
	}
	spans, err := r.load()
	if err != nil {
		return fmt.Errorf("replay steps: %w", err)
	}
	for _, span := range spans {
		if err := r.emit(span.first); err != nil {
			return err
		}
		if err := r.loadSteps(span); err != nil {
			return fmt.Errorf("replay steps: %w", err)
		}
	}
	return r.emit(math.MaxInt64)
}

// replaying is a call of Replay that is under way. Steps lie in segments of a few
// hundred, which are all but in the order of time: those that overlap are held
// at once, and no others.
type replaying struct {
	store    *Store
	ctx      context.Context
	ws       WorkspaceKey
	from, to int64 // milliseconds
	needs    *policies.Set
	each     func(*policies.Event) error

	runs    map[int64]*replayedRun
	starts  []*replayedRun // those within the time, the oldest first
	pending replayedSteps
}

// replayedRun is what policies may ask about a run of the past.
type replayedRun struct {
	id       int64
	uuid     uuid.UUID
	text     string // the uuid's
	user     string
	started  int64
	tags     map[string]string
	metadata []byte
	isLarge  bool // the metadata is read when it is needed
}

// replayedStep is a step that was read, and not told yet.
type replayedStep struct {
	run          *replayedRun
	id           uuid.UUID
	at, booked   int64 // milliseconds; booked is 0 where nothing was
	kind         StepType
	cost, tokens int64

	tool, model, input sql.NullString
	payload            payloadPlace // of the input
	isLarge            bool         // the input is read when the step is told
}

// replayedSpan is a segment, and when its first step was asked for. Of segment 0,
// which has all steps of the oldest versions, it is one run.
type replayedSpan struct{ segment, fromRun, toRun, first int64 }

// largeReplayed is from how many bytes on a payload is not held with others.
const largeReplayed = 16 << 10

// load reads which runs there are, and which segments.
func (r *replaying) load() (spans []replayedSpan, err error) {
	// Ids of runs begin with the time of their start, so runs of later are left out by them.
	before := idFloor(time.UnixMilli(r.to).UTC())
	err = r.store.read(r.ctx, func(tx *Tx) error {
		if err := r.loadRuns(tx, before); err != nil {
			return err
		}
		return r.loadSpans(tx, before, func(span replayedSpan) { spans = append(spans, span) })
	})
	slices.SortFunc(spans, func(a, b replayedSpan) int {
		return cmp.Or(cmp.Compare(a.first, b.first), cmp.Compare(a.segment, b.segment), cmp.Compare(a.fromRun, b.fromRun))
	})
	return spans, err
}

// loadSpans finds the segments with steps in the window, and splits the old steps, which lie
// outside segments, by their runs. Each span is then read and sorted by itself, which bounds the
// memory.
func (r *replaying) loadSpans(tx *Tx, before uuid.UUID, add func(replayedSpan)) error {
	const ofRuns = `FROM runs r JOIN run_segments l ON l.run_id = r.id
		WHERE r.workspace_id = $1 AND r.uuid < $2 AND r.last_call_at >= $3`
	args := []any{r.ws, before[:], r.from}
	err := tx.each(`SELECT s.segment, min(s.created_at) FROM steps s
		WHERE s.segment > 0 AND s.segment IN (SELECT l.segment `+ofRuns+`)
		GROUP BY s.segment HAVING max(s.created_at) >= $3 AND min(s.created_at) < $4`,
		append(args, r.to), func(rows scanner) error {
			span := replayedSpan{toRun: math.MaxInt64}
			err := rows.Scan(&span.segment, &span.first)
			add(span)
			return err
		})
	if err != nil {
		return err
	}
	return tx.each(`SELECT r.id, r.started_at `+ofRuns+` AND l.segment = 0`, args, func(rows scanner) error {
		var span replayedSpan
		err := rows.Scan(&span.fromRun, &span.first)
		// A span of one run, because segment 0 may hold millions of steps.
		span.toRun = span.fromRun
		add(span)
		return err
	})
}

// loadRuns reads the runs of the window. Metadata is read only if a policy asks for it. Denied
// starts are left out: they never ran.
func (r *replaying) loadRuns(tx *Tx, before uuid.UUID) error {
	metadata := `NULL`
	if r.needs.NeedsTags() || r.needs.NeedsMetadata() {
		metadata = `(SELECT m.metadata FROM run_metadata m WHERE m.run_id = r.id)`
	}
	return tx.each(`SELECT r.id, r.uuid, u.external_id, r.started_at, r.status = $4 AND r.ended_by IS NULL, `+metadata+`
		FROM runs r JOIN users u ON u.id = r.user_id
		WHERE r.workspace_id = $1 AND r.uuid < $2 AND r.last_call_at >= $3 ORDER BY r.uuid`,
		[]any{r.ws, before[:], r.from, int64(RunBlocked)}, func(rows scanner) error {
			run := &replayedRun{}
			var denied bool
			var metadata sql.NullString
			err := rows.Scan(&run.id, &run.uuid, &run.user, &run.started, &denied, &metadata)
			if err != nil || denied {
				return err
			}
			run.text = run.uuid.String()
			if r.needs.NeedsTags() {
				run.tags, _ = policies.TagsOf([]byte(metadata.String))
			}
			if run.isLarge = len(metadata.String) > largeReplayed; r.needs.NeedsMetadata() && !run.isLarge {
				run.metadata = jsonOf(metadata)
			}
			r.runs[run.id] = run
			// A run that began before is known by its steps, but its start is not replayed.
			if run.started >= r.from {
				r.starts = append(r.starts, run)
			}
			return nil
		})
}

// loadSteps reads the steps of a span, and emits them in the order in which they were asked for.
func (r *replaying) loadSteps(span replayedSpan) error {
	input, join := `NULL, 0, NULL`, ``
	args := []any{span.segment, span.fromRun, span.toRun, r.from, r.to, int64(StepBlocked)}
	if r.needsInput() {
		input = `CASE WHEN length(p.input_data) <= $7 THEN p.input_data END, coalesce(length(p.input_data), 0), s.input_payload`
		join = `LEFT JOIN step_payloads p ON p.run_id = s.run_id AND p.step_uuid = s.uuid`
		args = append(args, int64(largeReplayed))
	}
	return r.store.read(r.ctx, func(tx *Tx) error {
		var steps []replayedStep
		err := tx.each(`SELECT s.run_id, s.uuid, s.created_at, s.type, s.tool_name, m.name,
				coalesce(s.cost_nanos, 0), coalesce(s.prompt_tokens, 0) + coalesce(s.completion_tokens, 0),
				CASE WHEN s.booked_day IS NULL THEN 0 ELSE coalesce(s.completed_at, s.created_at) END, `+input+`
			FROM steps s LEFT JOIN models m ON m.id = s.model_id `+join+`
			WHERE s.segment = $1 AND s.run_id >= $2 AND s.run_id <= $3
				AND s.created_at >= $4 AND s.created_at < $5 AND s.status <> $6`,
			args, func(rows scanner) error {
				var s replayedStep
				var run, length int64
				err := rows.Scan(&run, &s.id, &s.at, &s.kind, &s.tool, &s.model, &s.cost, &s.tokens, &s.booked,
					&s.input, &length, &s.payload)
				if s.run = r.runs[run]; s.run == nil || err != nil {
					return err // of another workspace
				}
				s.isLarge = length > largeReplayed
				steps = append(steps, s)
				return nil
			})
		tx.expectPayloads(r.ws, len(steps), func(i int) payloadPlace { return steps[i].payload })
		for _, s := range steps {
			if s.payload.Valid && err == nil {
				s.input, err = r.input(tx, s.payload)
				if s.isLarge = len(s.input.String) > largeReplayed; s.isLarge {
					s.input = sql.NullString{}
				}
			}
			// Steps of the next segments may be older than some of these, so they are sorted in the
			// heap.
			heap.Push(&r.pending, s)
		}
		return err
	})
}

// input reads an input from its block.
func (r *replaying) input(tx *Tx, at payloadPlace) (sql.NullString, error) {
	texts, err := tx.payload(r.ws, at)
	return sql.NullString{String: string(texts.Input), Valid: texts.Input != nil}, err
}

// needsInput reports whether the steps' inputs are needed: for a condition, or to recognize
// repeats.
func (r *replaying) needsInput() bool { return r.needs.NeedsInput() || r.needs.NeedsRepeats() }

// emit tells what happened before a time.
func (r *replaying) emit(until int64) error {
	for len(r.pending) > 0 && r.pending[0].at < until {
		step, _ := heap.Pop(&r.pending).(replayedStep)
		// A run starts before its steps, also where both are of one millisecond.
		if err := r.emitStarts(step.at + 1); err != nil {
			return err
		}
		if err := r.emitStep(&step); err != nil {
			return err
		}
	}
	return r.emitStarts(until)
}

// emitStarts emits the starts of runs before a time, so that starts and steps come in one order.
func (r *replaying) emitStarts(until int64) error {
	for len(r.starts) > 0 && r.starts[0].started < until {
		e, err := r.event(r.starts[0], r.starts[0].started)
		if err != nil {
			return err
		}
		r.starts = r.starts[1:]
		e.Start = true
		if err := r.each(e); err != nil {
			return err
		}
	}
	return nil
}

// event returns the facts of a run as they were at a time.
func (r *replaying) event(run *replayedRun, at int64) (*policies.Event, error) {
	e := &policies.Event{At: time.UnixMilli(at).UTC()}
	e.Run, e.User, e.Tags, e.Metadata = run.text, run.user, run.tags, run.metadata
	if run.isLarge && r.needs.NeedsMetadata() {
		metadata, err := r.payload(`SELECT metadata FROM run_metadata WHERE run_id = $1`, run.id)
		if err != nil {
			return nil, err
		}
		e.Metadata = jsonOf(metadata)
	}
	return e, nil
}

// emitStep passes a step on with the usage that was reported of it.
func (r *replaying) emitStep(s *replayedStep) error {
	e, err := r.event(s.run, s.at)
	if err != nil {
		return err
	}
	if s.isLarge {
		if s.input, err = r.largeInput(s); err != nil {
			return err
		}
	}
	action := NewStep{Type: s.kind, InputData: jsonOf(s.input)}
	if s.tool.Valid {
		action.ToolName = &s.tool.String
	}
	// The entry that prices a tool is no model that a caller has named.
	if s.model.Valid && s.model.String != toolPrefix+s.tool.String {
		action.Model, e.Model = &s.model.String, s.model.String
	}
	e.Step, e.Type, e.Tool, e.Input = s.id.String(), s.kind.String(), s.tool.String, action.InputData
	e.Cost, e.Tokens = plans.Money(s.cost), s.tokens
	if s.booked != 0 {
		e.BookedAt = time.UnixMilli(s.booked).UTC()
	}
	if r.needs.NeedsRepeats() {
		e.Action = shortHash(actionHash(action))
	}
	return r.each(e)
}

// largeInput reads an input that was too large to be held; nothing when it is gone by now.
func (r *replaying) largeInput(s *replayedStep) (input sql.NullString, err error) {
	if !s.payload.Valid {
		return r.payload(`SELECT input_data FROM step_payloads WHERE run_id = $1 AND step_uuid = $2`, s.run.id, s.id[:])
	}
	err = r.store.read(r.ctx, func(tx *Tx) error {
		var at payloadPlace
		err := tx.get(`SELECT input_payload FROM run_steps WHERE run_id = $1 AND uuid = $2`, []any{s.run.id, s.id[:]}, &at)
		if err == nil && at.Valid {
			input, err = r.input(tx, at)
		}
		return ignoreNotFound(err)
	})
	if err != nil {
		return input, fmt.Errorf("replay a payload: %w", err)
	}
	return input, nil
}

// payload reads one that was too large to be held; nothing when it is gone by now.
func (r *replaying) payload(query string, args ...any) (text sql.NullString, err error) {
	err = r.store.read(r.ctx, func(tx *Tx) error { return tx.get(query, args, &text) })
	if err = ignoreNotFound(err); err != nil {
		return text, fmt.Errorf("replay a payload: %w", err)
	}
	return text, nil
}

// replayedSteps is a heap by time, and by id where that is the same.
type replayedSteps []replayedStep

// Len, Less and Swap sort steps by time. Steps of one millisecond are sorted by their id, so that a
// replay always gives the same result.
func (s replayedSteps) Len() int { return len(s) }

func (s replayedSteps) Less(i, j int) bool {
	return s[i].at < s[j].at || s[i].at == s[j].at && bytes.Compare(s[i].id[:], s[j].id[:]) < 0
}

func (s replayedSteps) Swap(i, j int) { s[i], s[j] = s[j], s[i] }

// Push implements heap.Interface.
func (s *replayedSteps) Push(x any) {
	if one, ok := x.(replayedStep); ok {
		*s = append(*s, one)
	}
}

// Pop implements heap.Interface.
func (s *replayedSteps) Pop() any {
	last := len(*s) - 1
	one := (*s)[last]
	// So that its input can be freed.
	(*s)[last] = replayedStep{}
	*s = (*s)[:last]
	return one
}

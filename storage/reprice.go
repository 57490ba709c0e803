package storage

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// Re-pricing gives steps of the past the price that their model has by now, and
// books the difference on the day on which they were first booked. It needs no
// memory of how far it has come: a step that has the price already changes no
// more, so that whoever was stopped, or killed, begins anew.
//
// A reader looks for the steps that would change, some thousand at a time, and
// the writer changes them in slices, each with all counters that it moves.

// Repricing says which steps are to be priced anew.
type Repricing struct {
	Model        string    // "" for all
	From, To     time.Time // UTC midnights between which their usage is booked; zero for no bound
	OnlyUnpriced bool      // leave those that have a price
	DryRun       bool      // change nothing, and say what would change
	// Wait is about how long a call takes before it returns with a cursor; 0 for as long as it
	// needs.
	Wait   time.Duration
	Cursor string // of the call before; "" at the beginning
}

// Repriced is what a call has changed, or would have.
type Repriced struct {
	Steps         int64
	Before, After plans.Money // of these steps; nothing for those without a price
	Days          []RepricedDay
	Next          string // the cursor to go on with; "" when all is done
}

// RepricedDay is by how much a day has become dearer.
type RepricedDay struct {
	Date       time.Time
	Difference plans.Money
}

// Difference is by how much all has become dearer.
func (r Repriced) Difference() plans.Money { return r.After - r.Before }

// add counts one step's change in the totals and on its day.
func (r *Repriced) add(c priceChange) {
	r.Steps++
	r.Before, r.After = r.Before+c.before, r.After+c.after
	i, found := slices.BinarySearchFunc(r.Days, c.day, func(d RepricedDay, day int64) int { return cmp.Compare(dayOf(d.Date), day) })
	if !found {
		r.Days = slices.Insert(r.Days, i, RepricedDay{Date: dayStart(c.day)})
	}
	r.Days[i].Difference += c.after - c.before
}

// priceChange is what one step cost, and costs now.
type priceChange struct {
	day           int64
	before, after plans.Money
}

// stepPlace is where a step is, in the order in which they are priced anew.
type stepPlace struct {
	run     uuid.UUID
	segment int64
	step    uuid.UUID
}

// stepPlaceSize is the length of a place in a cursor: run, segment, step.
const stepPlaceSize = len(uuid.UUID{}) + 8 + len(uuid.UUID{})

// cursor encodes the place to continue from.
func (p stepPlace) cursor(ws WorkspaceKey) string {
	key := binary.BigEndian.AppendUint64(slices.Clone(p.run[:]), uint64(p.segment))
	return cursor(listReprice, int64(ws), append(key, p.step[:]...))
}

// parseStepPlace decodes a cursor; an empty one is the beginning.
func parseStepPlace(ws WorkspaceKey, text string) (p stepPlace, err error) {
	if text == "" {
		return p, nil
	}
	key, err := parseCursor(listReprice, int64(ws), text, stepPlaceSize)
	if err != nil {
		return p, err
	}
	p.segment = int64(binary.BigEndian.Uint64(key[len(p.run):]))
	copy(p.run[:], key)
	copy(p.step[:], key[stepPlaceSize-len(p.step):])
	return p, nil
}

// Reprice prices steps anew. With an error it returns what it has changed
// before, which stays. ErrBadCursor, and ErrBusy never: nobody waits for it.
func (s *Store) Reprice(ctx context.Context, ws WorkspaceKey, in Repricing) (out Repriced, err error) {
	after, err := parseStepPlace(ws, in.Cursor)
	if err != nil {
		return out, err
	}
	job := repricing{Repricing: in, ws: ws, catalogue: s.cache.catalogue, actor: actorOf(ctx)}
	job.from, job.to = math.MinInt64, math.MaxInt64
	if !in.From.IsZero() {
		job.from = dayOf(in.From)
	}
	if !in.To.IsZero() {
		job.to = dayOf(in.To)
	}
	// Reading finds what would change, without holding up the writer; writing then looks at each
	// step again, since it may have changed meanwhile.
	began := time.Now() // the machine's time: how long somebody waits, not what day it is
	for more := true; more; {
		var found []stepPlace
		next := after
		err := s.read(ctx, func(tx *Tx) (err error) {
			found, next, more, err = job.look(tx, after)
			return err
		})
		if err == nil {
			err = s.repriceAll(ctx, &job, found)
		}
		if err != nil {
			return job.out, fmt.Errorf("price steps anew: %w", err)
		}
		after = next
		if more && in.Wait > 0 && time.Since(began) >= in.Wait {
			job.out.Next = after.cursor(ws)
			break
		}
	}
	return job.out, nil
}

// repricing is a call of Reprice that is under way.
type repricing struct {
	Repricing
	ws        WorkspaceKey
	from, to  int64 // days
	catalogue *prices.Catalogue
	actor     Actor
	entry     uuid.UUID // in the audit log; uuid.Nil until something has changed
	out       Repriced

	// dry has the counters as a dry run has moved them. It is never written.
	dry *cache
}

// Somebody waits for a re-pricing, so it rests less than upkeep does, and pays
// for a commit more seldom: it takes at most half of the writer's time, in
// slices of the length of a commit.
const (
	repriceHold    = time.Millisecond
	repriceBackoff = 1 // times as long as a slice took
)

// How much look reads in one snapshot, so that none holds up checkpoints.
const (
	// How much one look reads. It holds no lock, but a long read keeps the WAL from being
	// checkpointed.
	repriceRuns  = 500
	repriceSteps = 2000
)

// look looks through the next steps for those that would change, and returns
// where it has stopped. A dry run counts them, and finds none.
func (j *repricing) look(tx *Tx, after stepPlace) (found []stepPlace, last stepPlace, more bool, err error) {
	tx.cache = j.dry
	if tx.cache == nil {
		tx.cache = newCache(DefaultCacheSize, j.catalogue)
	}
	// A dry run moves the counters in a cache of its own. Each step must see what those before it
	// have moved, because a day that is full cuts what comes after.
	if j.DryRun {
		j.dry = tx.cache
		defer func() { j.dry.dirty = nil }() // the rows stay as they were moved, and nobody writes them
	}
	model, err := j.modelID(tx)
	if err != nil {
		return nil, after, false, ignoreNotFound(err)
	}
	runs, err := runsFrom(tx, j.ws, after.run)
	if err != nil {
		return nil, after, false, err
	}
	left := repriceSteps
	for _, run := range runs {
		// The next run: from its first step.
		if run.uuid != after.run {
			after = stepPlace{run: run.uuid, segment: math.MinInt64}
		}
		steps, err := j.stepsFrom(tx, run.id, model, after, left)
		if err != nil {
			return nil, after, false, err
		}
		for _, p := range steps {
			change, changes, err := j.reprice(tx, p)
			if err != nil {
				return nil, after, false, err
			}
			switch {
			case changes && j.DryRun:
				j.out.add(change)
			case changes:
				found = append(found, p)
			}
			after = p
		}
		if left -= len(steps); left == 0 {
			return found, after, true, nil
		}
		after = stepPlace{run: run.uuid, segment: math.MaxInt64}
	}
	return found, after, len(runs) == repriceRuns, nil
}

// modelID is that of the model that is asked for; 0 for all, and ErrNotFound
// for one that nothing is known of.
func (j *repricing) modelID(tx *Tx) (id int64, err error) {
	if j.Model == "" {
		return 0, nil
	}
	err = tx.get(`SELECT id FROM models WHERE workspace_id = $1 AND name = $2`, []any{j.ws, j.Model}, &id)
	return id, err
}

// runPlace names a run inside and outside of the database.
type runPlace struct {
	id   int64
	uuid uuid.UUID
}

// runsFrom lists the next runs by id, which is by their start.
func runsFrom(tx *Tx, ws WorkspaceKey, first uuid.UUID) (runs []runPlace, err error) {
	err = tx.each(`SELECT id, uuid FROM runs WHERE workspace_id = $1 AND uuid >= $2 ORDER BY uuid LIMIT $3`,
		[]any{ws, first[:], repriceRuns}, func(rows scanner) error {
			var r runPlace
			err := rows.Scan(&r.id, &r.uuid)
			runs = append(runs, r)
			return err
		})
	return runs, err
}

// stepsFrom lists a run's steps that have booked usage, and may be asked for.
func (j *repricing) stepsFrom(tx *Tx, runID, model int64, after stepPlace, limit int) (steps []stepPlace, err error) {
	err = tx.each(`SELECT segment, uuid FROM run_steps WHERE run_id = $1 AND (segment, uuid) > ($2, $3)
			AND booked_day >= $4 AND booked_day < $5 AND (input_picos IS NULL OR $6 = 0) AND (model_id = $7 OR $7 = 0)
		ORDER BY segment, uuid LIMIT $8`,
		[]any{runID, after.segment, after.step[:], j.from, j.to, boolInt(j.OnlyUnpriced), model, int64(limit)},
		func(rows scanner) error {
			p := stepPlace{run: after.run}
			err := rows.Scan(&p.segment, &p.step)
			steps = append(steps, p)
			return err
		})
	return steps, err
}

// repriceAll changes the steps that were found.
func (s *Store) repriceAll(ctx context.Context, j *repricing, found []stepPlace) error {
	for len(found) > 0 {
		var done int
		var out Repriced
		var entry uuid.UUID
		err := s.runChunks(ctx, j.ws, modeSQL, repriceBackoff, func(tx *Tx) (more bool, err error) {
			done, out, entry, err = j.slice(tx, found)
			return false, err
		})
		if err != nil {
			return err
		}
		found, j.out, j.entry = found[done:], out, entry
	}
	return nil
}

// slice changes some of the steps, and has all that was changed until then in the audit log.
func (j *repricing) slice(tx *Tx, found []stepPlace) (done int, out Repriced, entry uuid.UUID, err error) {
	out, entry = j.out, j.entry
	out.Days = slices.Clone(out.Days)
	for began := time.Now(); done < len(found) && !tx.cache.nearlyFull() && (done == 0 || time.Since(began) < repriceHold); done++ {
		change, changes, err := j.reprice(tx, found[done])
		if err != nil {
			return done, out, entry, err
		}
		if changes {
			out.add(change)
		}
	}
	if out.Steps > j.out.Steps {
		entry, err = j.record(tx, out)
	}
	return done, out, entry, err
}

// record writes the call's entry of the audit log, or replaces what it says was done.
func (j *repricing) record(tx *Tx, out Repriced) (entry uuid.UUID, err error) {
	after := attributes{
		"only_unpriced": j.OnlyUnpriced, "steps": out.Steps,
		"before_usd": out.Before, "after_usd": out.After, "difference_usd": out.Difference(),
	}
	if !j.From.IsZero() {
		after["since"] = j.From.Format(time.DateOnly)
	}
	if !j.To.IsZero() {
		after["until"] = j.To.Format(time.DateOnly)
	}
	return recordProgress(tx, j.actor, j.entry, auditEvent{ws: j.ws, action: ActionReprice, target: j.Model, after: after})
}

// reprice prices one step anew, with all counters that it moves. Nothing
// changes for one that is gone meanwhile. On a reader it moves the counters in
// memory alone.
func (j *repricing) reprice(tx *Tx, p stepPlace) (c priceChange, changes bool, err error) {
	ws, err := tx.cache.workspaces.get(tx, j.ws)
	if err != nil {
		return c, false, err
	}
	r, err := tx.cache.runs.get(tx, runKey{j.ws, p.run})
	if err != nil {
		return c, false, ignoreNotFound(err)
	}
	row, err := readStep(tx, p.segment, r.id, p.step)
	if err != nil {
		return c, false, ignoreNotFound(err)
	}
	was, counted := row.stepProgress, row.counted()
	// Looked at in the transaction that changes it: a report may have priced the step meanwhile.
	if j.OnlyUnpriced && was.used.inputPrice.Valid {
		return c, false, nil
	}
	if changes, err = row.reprice(tx, ws, r); err != nil || !changes {
		return c, false, err
	}
	// As a report is booked, so that counters, limits and alerts follow in the same way.
	posts, err := row.counted().since(tx, counted, j.ws, r)
	if err != nil {
		return c, false, err
	}
	limits, err := row.limitPostingsSince(tx, ws, was.used, row.used)
	if err != nil {
		return c, false, err
	}
	if !tx.reader {
		if err := saveStep(tx, r.id, row, was.used); err != nil {
			return c, false, err
		}
	}
	tx.recordChange(Change{Workspace: j.ws, Kind: RunProgressed, Run: r.id})
	posts.book(tx)
	limits.book(tx)
	return priceChange{row.bookedDay.Int64, plans.Money(was.used.cost.Int64), plans.Money(row.used.cost.Int64)}, true, nil
}

// reprice gives the step the price that its model has by now for the moment at
// which it was reported. A step whose model has no price keeps what it has.
func (row *stepRow) reprice(tx *Tx, ws *cachedWorkspace, r *cachedRun) (changes bool, err error) {
	if !row.bookedDay.Valid {
		return false, nil
	}
	defer func(now time.Time) { tx.now = now }(tx.now)
	tx.now = row.reportedAt()
	was := *row
	row.clearPrice()
	err = row.findTool(tx, ws)
	if err == nil {
		err = row.findPrice(tx, ws.key)
	}
	same := false
	if err == nil && row.used.inputPrice.Valid {
		same, err = row.costsAs(tx, ws.key, was)
	}
	if err != nil || same || !row.used.inputPrice.Valid && was.used.cost.Valid {
		*row = was
		return false, err
	}
	if err := row.fit(tx, ws, r, was.used); err != nil {
		return false, err
	}
	if !row.used.cost.Valid { // there is still no price
		*row = was
	}
	return row.used.cost.Valid, nil
}

// reportedAt is when the step's usage was first reported, as far as is known:
// on the day on which it is booked.
func (row *stepRow) reportedAt() time.Time {
	for _, at := range []time.Time{timeOf(row.completedAt), row.CreatedAt} {
		if !at.IsZero() && dayOf(at) == row.bookedDay.Int64 {
			return at
		}
	}
	return dayStart(row.bookedDay.Int64)
}

// costsAs reports whether the step has the same prices by the same entry as
// before, be it of another version.
func (row *stepRow) costsAs(tx *Tx, ws WorkspaceKey, was stepRow) (bool, error) {
	if row.Price.Source != was.Price.Source || row.Price.Name != was.Price.Name || (row.used.point == 0) != (was.used.point == 0) {
		return false, nil
	}
	if row.used.point == 0 {
		return row.used.inputPrice == was.used.inputPrice && row.used.outputPrice == was.used.outputPrice, nil
	}
	rates, err := row.chargedRates(tx, ws)
	if err != nil {
		return false, err
	}
	kept, err := was.chargedRates(tx, ws)
	return err == nil && rates.String() == kept.String(), err
}

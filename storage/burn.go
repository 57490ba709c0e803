package storage

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// Money is also counted by the minute, for those who must see at once that it
// burns. A step's cost counts in the minute of its report, so that the ledger
// proves each minute, and a correction or a re-pricing is no burning of now.
// After an hour or two minutes are folded into quarters of an hour, by which all
// zones' hours can be told, and which are kept as long as is needed to tell what
// is usual.
const (
	minutesPerHour = 60
	minutesPerDay  = 24 * minutesPerHour
	minutesPerPart = 15 // a quarter of an hour
	partsPerHour   = minutesPerHour / minutesPerPart
	millisPerMin   = 60_000

	burnMinutes = 60 // that are told
	usualDays   = 14 // of whose same hours the usual is the median
	leastUsual  = 3  // days that say what is usual
	hoursKept   = (usualDays + 1) * 24
	burnRuns    = 11 // that are listed: one more than a page shows
)

// minuteOf returns a time's minute since 1970, the unit of spend_minutes.
func minuteOf(t time.Time) int64 { return floorDiv(t.UnixMilli(), millisPerMin) }

// minute is that in which the step's cost counts: of its completion, or of its
// creation until then, where that is on the day on which it is booked; 0 where
// neither is.
func (row *stepRow) minute() int64 {
	if !row.bookedDay.Valid {
		return 0
	}
	for _, at := range [2]int64{row.completedAt.Int64, row.CreatedAt.UnixMilli()} {
		if floorDiv(at, millisPerDay) == row.bookedDay.Int64 {
			return floorDiv(at, millisPerMin)
		}
	}
	return 0
}

// minuteKey names a workspace's minute.
type minuteKey struct {
	ws     WorkspaceKey
	minute int64
}

// workspace makes minuteKey a rowKey.
func (k minuteKey) workspace() WorkspaceKey { return k.ws }

// cachedMinute is what a workspace spent in a minute, and which run spent most.
type cachedMinute struct {
	cached
	minuteKey
	spend, topRun, topSpend int64
}

// loadMinute reads what was spent in a minute; a minute without a row has spent nothing.
func loadMinute(tx *Tx, key minuteKey) (*cachedMinute, error) {
	m := &cachedMinute{minuteKey: key}
	err := tx.get(`SELECT spend_nanos, top_run_id, top_nanos FROM spend_minutes WHERE workspace_id = $1 AND minute = $2`,
		[]any{key.ws, key.minute}, &m.spend, &m.topRun, &m.topSpend)
	return m, ignoreNotFound(err)
}

// save writes the minute's sum and its most expensive run.
func (m *cachedMinute) save(tx *Tx) error {
	return tx.queueOne(`INSERT INTO spend_minutes (workspace_id, minute, spend_nanos, top_run_id, top_nanos)
		VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (workspace_id, minute) DO UPDATE SET spend_nanos = excluded.spend_nanos,
			top_run_id = excluded.top_run_id, top_nanos = excluded.top_nanos`,
		m.ws, m.minute, m.spend, m.topRun, m.topSpend)
}

// burn is what a run spent in the latest minute in which it spent something,
// and in the one before.
type burn struct{ minute, spend, before int64 }

// add counts what was spent in a minute, and answers what is known of it then.
// Of minutes further back nothing is kept.
func (b *burn) add(minute, spend int64) (known int64) {
	switch {
	case minute > b.minute:
		before := int64(0)
		if b.minute == minute-1 {
			before = b.spend
		}
		*b = burn{minute, spend, before}
	case minute == b.minute:
		b.spend += spend
	case minute == b.minute-1:
		b.before += spend
		return b.before
	default:
		return 0
	}
	return b.spend
}

// minutePosting is a change of what was spent in a minute.
type minutePosting struct {
	at, spend int64
	minute    *cachedMinute // nil if it is folded into its quarter already
}

// burn finds the minutes that a step's cost moves. What belongs to a quarter that
// is folded already changes that at once.
func (p *postings) burn(tx *Tx, ws WorkspaceKey, was, now contribution) error {
	if was.minute == now.minute {
		return p.addMinute(tx, ws, now.minute, now.used.spend-was.used.spend)
	}
	err := p.addMinute(tx, ws, was.minute, -was.used.spend)
	if err == nil {
		err = p.addMinute(tx, ws, now.minute, now.used.spend)
	}
	return err
}

// addMinute adds spend to a minute, or to its hour if the minutes that old are folded already.
// Spend before spendFrom is in neither: the database is older than these counters.
func (p *postings) addMinute(tx *Tx, ws WorkspaceKey, minute, spend int64) error {
	if minute == 0 || spend == 0 {
		return nil
	}
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil {
		return err
	}
	b := minutePosting{at: minute, spend: spend}
	switch {
	case minute >= w.minutesFrom:
		b.minute, err = tx.cache.minutes.get(tx, minuteKey{ws, minute})
	case minute >= w.spendFrom && !tx.reader:
		err = addToQuarter(tx, ws, minute/minutesPerPart, spend)
	}
	p.burns[p.burned] = b
	p.burned++
	return err
}

// addToQuarter adds to the sum of a quarter of an hour whose minutes are no longer kept. A
// correction may make it smaller.
func addToQuarter(tx *Tx, ws WorkspaceKey, quarter, spend int64) error {
	return tx.execOne(`INSERT INTO spend_quarter_hours (workspace_id, quarter, spend_nanos) VALUES ($1, $2, $3)
		ON CONFLICT (workspace_id, quarter) DO UPDATE SET spend_nanos = spend_quarter_hours.spend_nanos + excluded.spend_nanos`,
		ws, quarter, spend)
}

// book moves the minute and what its run burns.
func (b minutePosting) book(tx *Tx, r *cachedRun) {
	known := r.burn.add(b.at, b.spend)
	tx.cache.markDirty(r)
	m := b.minute
	if m == nil {
		return
	}
	m.spend += b.spend
	switch {
	case m.topRun == r.id:
		m.topSpend += b.spend
	case known > m.topSpend:
		m.topRun, m.topSpend = r.id, known
	}
	tx.cache.markDirty(m)
}

// FoldMinutes adds up minutes of more than an hour ago into their quarters, and
// forgets quarters of more than 15 days ago. It returns how many workspaces had any.
func (s *Store) FoldMinutes(ctx context.Context) (folded int, err error) {
	var due []WorkspaceKey
	err = s.read(ctx, func(tx *Tx) error {
		due, err = workspacesToFold(tx)
		return err
	})
	for _, ws := range due {
		if err == nil {
			err = s.runUpkeep(ctx, ws, modeSQL, func(tx *Tx) (bool, error) { return false, foldMinutes(tx, ws) })
		}
		if err == nil {
			folded++
		}
	}
	if err != nil {
		return folded, fmt.Errorf("fold minutes into quarters of an hour: %w", err)
	}
	return folded, nil
}

// workspacesToFold lists the workspaces with minutes or hours older than foldedBefore keeps. It
// only reads, so the job that folds them takes the writer lock for one workspace at a time.
func workspacesToFold(tx *Tx) (due []WorkspaceKey, err error) {
	var all []WorkspaceKey
	err = tx.each(`SELECT id FROM workspaces`, nil, func(row scanner) error {
		var ws WorkspaceKey
		err := row.Scan(&ws)
		all = append(all, ws)
		return err
	})
	minute, quarter := foldedBefore(tx.now)
	for _, ws := range all {
		if err != nil {
			break
		}
		var old int64
		err = ignoreNotFound(tx.get(`SELECT 1 FROM spend_minutes WHERE workspace_id = $1 AND minute < $2 LIMIT 1`,
			[]any{ws, minute}, &old))
		if err == nil && old == 0 {
			err = ignoreNotFound(tx.get(`SELECT 1 FROM spend_quarter_hours WHERE workspace_id = $1 AND quarter < $2 LIMIT 1`,
				[]any{ws, quarter}, &old))
		}
		if old == 1 {
			due = append(due, ws)
		}
	}
	return due, err
}

// foldedBefore is the minute from which minutes stay, the start of the hour
// before this one, and the quarter from which quarters do.
func foldedBefore(now time.Time) (minute, quarter int64) {
	this := floorDiv(now.UnixMilli(), millisPerMin*minutesPerHour)
	return (this - 1) * minutesPerHour, (dayOf(now)*24 - hoursKept) * partsPerHour
}

// foldMinutes never lowers what a workspace keeps from: where the clock has
// gone back, minutes count in quarters until it has caught up.
func foldMinutes(tx *Tx, ws WorkspaceKey) error {
	minute, quarter := foldedBefore(tx.now)
	tx.cache.invalidate(ws)
	quarters := map[int64]int64{}
	err := tx.each(`SELECT minute, spend_nanos FROM spend_minutes WHERE workspace_id = $1 AND minute < $2`,
		[]any{ws, minute}, sumMinutes(quarters, minutesPerPart))
	for _, at := range slices.Sorted(maps.Keys(quarters)) {
		if err == nil {
			err = addToQuarter(tx, ws, at, quarters[at])
		}
	}
	if err == nil {
		_, err = tx.exec(`DELETE FROM spend_minutes WHERE workspace_id = $1 AND minute < $2`, ws, minute)
	}
	if err == nil {
		_, err = tx.exec(`DELETE FROM spend_quarter_hours WHERE workspace_id = $1 AND quarter < $2`, ws, quarter)
	}
	if err == nil {
		_, err = tx.exec(`UPDATE workspaces SET
				minutes_from = CASE WHEN minutes_from < $2 THEN $2 ELSE minutes_from END,
				spend_from = CASE WHEN spend_from < $3 THEN $3 ELSE spend_from END WHERE id = $1`, ws, minute, quarter*minutesPerPart)
	}
	return err
}

// sumMinutes adds up rows of minutes into spans of so many minutes.
func sumMinutes(spans map[int64]int64, length int64) func(scanner) error {
	return func(row scanner) error {
		var minute, spend int64
		err := row.Scan(&minute, &spend)
		spans[floorDiv(minute, length)] += spend
		return err
	}
}

// Burn is how fast a workspace spends, beside what is usual.
type Burn struct {
	At        time.Time
	Minutes   []MinuteSpend // the last 60, oldest first; the last one goes on
	PerMinute plans.Money   // spent in the last 60 seconds
	Usual     *plans.Money  // a minute, at this hour; nil while too few days are known
	Today     plans.Money
	// What was spent on those days until this time; nil where it is not known.
	Yesterday, LastWeek *plans.Money
	Runs                []BurningRun // RUNNING, dearest first, at most 11
	NearestUser         *SpendOfUser // who spent most today
	UsersAtBudget       int64        // who have spent their daily budget
	Budget              plans.Budget // of the day
	UserBudget          plans.Budget
	Stop                *Stop // while the kill switch is on
	ReviewsWaiting      int64 // steps that wait for a person
}

// MinuteSpend is what was spent in a minute.
type MinuteSpend struct {
	Spend plans.Money
	Run   uuid.UUID // that spent most; Nil when nothing was spent, or it is gone
	Top   plans.Money
}

// BurningRun is a RUNNING run.
type BurningRun struct {
	Run
	PerMinute plans.Money
	Doing     *Doing // its latest step
}

// Doing is what a run does: a step.
type Doing struct {
	Type     StepType
	Model    string // "" where there is none
	ToolName string
	At       time.Time
}

// Burn reads how fast a workspace spends. It looks at rollups and at the
// running runs alone, whatever the file holds.
func (s *Store) Burn(ctx context.Context, ws WorkspaceKey) (b Burn, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		b.At = tx.now
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		if b.Minutes, err = lastMinutes(tx, ws); err != nil {
			return err
		}
		// Of the minute before, the part that is within the last 60 seconds.
		before := int64(b.Minutes[burnMinutes-2].Spend)
		b.PerMinute = b.Minutes[burnMinutes-1].Spend + plans.Money(before/60*secondsLeft(tx.now))
		if err := b.compare(tx, ws); err != nil {
			return err
		}
		if b.Runs, err = burningRuns(tx, ws); err != nil {
			return err
		}
		b.Budget, b.UserBudget, b.ReviewsWaiting = w.DailyBudget, w.UserDailyBudget, w.PendingReviews
		if w.KillSwitch {
			if b.Stop, err = lastStop(tx, ws); err != nil {
				return err
			}
		}
		return b.nearestUser(tx, w)
	})
	return b, err
}

// secondsLeft is how much is left of this minute.
func secondsLeft(now time.Time) int64 { return int64(60 - now.Second()) }

// lastMinutes returns the last hour by minutes, the current one last; a minute without a row has
// spent nothing.
func lastMinutes(tx *Tx, ws WorkspaceKey) ([]MinuteSpend, error) {
	minutes := make([]MinuteSpend, burnMinutes)
	first := minuteOf(tx.now) - burnMinutes + 1
	err := tx.each(`SELECT m.minute, m.spend_nanos, r.uuid, m.top_nanos
		FROM spend_minutes m LEFT JOIN runs r ON r.id = m.top_run_id AND r.workspace_id = m.workspace_id
		WHERE m.workspace_id = $1 AND m.minute >= $2 AND m.minute < $3`,
		[]any{ws, first, first + burnMinutes}, func(row scanner) error {
			var minute int64
			var run []byte
			var m MinuteSpend
			err := row.Scan(&minute, &m.Spend, &run, &m.Top)
			if id, noID := uuid.FromBytes(run); noID == nil {
				m.Run = id
			}
			minutes[minute-first] = m
			return err
		})
	return minutes, err
}

// hourSpends are what a workspace spent by hours, minutes included.
type hourSpends struct {
	by    map[int64]int64
	first int64 // from which on they are known
}

// readHours sums up the hours that the usual spend is computed from: folded ones from spend_hours,
// later ones from their minutes.
func readHours(tx *Tx, ws WorkspaceKey) (h hourSpends, err error) {
	h.by = map[int64]int64{}
	from := (dayOf(tx.now) - usualDays) * 24
	err = tx.each(`SELECT quarter * 15, spend_nanos FROM spend_quarter_hours WHERE workspace_id = $1 AND quarter >= $2`,
		[]any{ws, from * partsPerHour}, sumMinutes(h.by, minutesPerHour))
	if err == nil {
		err = tx.each(`SELECT minute, spend_nanos FROM spend_minutes WHERE workspace_id = $1 AND minute >= $2`,
			[]any{ws, from * minutesPerHour}, sumMinutes(h.by, minutesPerHour))
	}
	for hour := range h.by {
		if h.first == 0 || hour < h.first {
			h.first = hour
		}
	}
	return h, err
}

// compare tells what is usual at this hour, and what other days had spent by now.
func (b *Burn) compare(tx *Tx, ws WorkspaceKey) error {
	h, err := readHours(tx, ws)
	if err != nil {
		return err
	}
	today, hour := dayOf(tx.now), int64(tx.now.UTC().Hour())
	var same []int64
	for day := today - usualDays; day < today; day++ {
		if at := day*24 + hour; len(h.by) > 0 && at >= h.first {
			same = append(same, h.by[at])
		}
	}
	if len(same) >= leastUsual {
		b.Usual = new(plans.Money(median(same) / minutesPerHour))
	}
	b.Yesterday, b.LastWeek = h.until(today-1, tx.now), h.until(today-7, tx.now)
	err = tx.get(`SELECT spend_nanos FROM workspace_days WHERE workspace_id = $1 AND day = $2`, []any{ws, today}, &b.Today)
	return ignoreNotFound(err)
}

// until is what was spent on a day until this time of it; of the hour that
// goes on, the part that has gone by.
func (h hourSpends) until(day int64, now time.Time) *plans.Money {
	if len(h.by) == 0 || h.first > day*24+23 {
		return nil
	}
	midnight := dayStart(dayOf(now))
	hour := int64(now.Sub(midnight) / time.Hour)
	sum := h.by[day*24+hour] / 3600 * int64(now.Sub(midnight.Add(time.Duration(hour)*time.Hour))/time.Second)
	for i := range hour {
		sum += h.by[day*24+i]
	}
	return new(plans.Money(sum))
}

// median returns the middle value and sorts its argument. It ignores the few hours in which an
// agent ran wild, which a mean would call usual.
func median(of []int64) int64 {
	slices.Sort(of)
	half := len(of) / 2
	if len(of)%2 == 1 {
		return of[half]
	}
	return (of[half-1] + of[half]) / 2
}

// perMinute is what a run (r) spent in the last 60 seconds: $2 is this minute,
// and $3 how many seconds are left of it.
const perMinute = `CASE WHEN r.burn_minute = $2 THEN r.burn_nanos + r.burn_before_nanos / 60 * $3
		WHEN r.burn_minute = $2 - 1 THEN r.burn_nanos / 60 * $3 ELSE 0 END`

// burningRuns lists the RUNNING runs by what they burn. They are found by their
// status and sorted; the concurrency limit keeps them few.
func burningRuns(tx *Tx, ws WorkspaceKey) (runs []BurningRun, err error) {
	type place struct{ id, spend int64 }
	var top []place
	err = tx.each(`SELECT r.id, `+perMinute+` FROM runs r WHERE r.workspace_id = $1 AND r.status = $4`,
		[]any{ws, minuteOf(tx.now), secondsLeft(tx.now), int64(RunRunning)}, func(row scanner) error {
			var p place
			err := row.Scan(&p.id, &p.spend)
			top = append(top, p)
			return err
		})
	slices.SortFunc(top, func(a, b place) int {
		return cmp.Or(cmp.Compare(b.spend, a.spend), cmp.Compare(b.id, a.id))
	})
	for _, p := range top[:min(len(top), burnRuns)] {
		if err != nil {
			return nil, err
		}
		r := BurningRun{PerMinute: plans.Money(p.spend)}
		err = tx.each(selectRun+` AND r.id = $2`, []any{ws, p.id}, func(row scanner) error {
			r.Run, err = scanRun(row.Scan)
			return err
		})
		if err == nil {
			r.Doing, err = doing(tx, p.id)
		}
		runs = append(runs, r)
	}
	return runs, err
}

// doing finds a run's latest step; nil when it has none.
func doing(tx *Tx, run int64) (*Doing, error) {
	var d Doing
	var model, tool sql.NullString
	var created int64
	err := tx.get(`SELECT s.type, m.name, s.tool_name, s.created_at
		FROM steps s LEFT JOIN models m ON m.id = s.model_id
		WHERE s.segment = (SELECT max(segment) FROM run_segments WHERE run_id = $1) AND s.run_id = $1
		ORDER BY s.uuid DESC LIMIT 1`, []any{run}, &d.Type, &model, &tool, &created)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	d.Model, d.ToolName, d.At = model.String, tool.String, time.UnixMilli(created).UTC()
	return &d, err
}

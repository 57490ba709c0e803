package storage

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

// Run is the summary of a run.
type Run struct {
	ID         uuid.UUID
	UserID     string
	Title      string // the first words of what it does; "" when its metadata has none
	Agent      string // the tag of that name; "" when its metadata has none
	Status     RunStatus
	DenyReason guard.Reason // of its start, or of its latest denied step; an ended run's only where there is no other
	StartedAt  time.Time
	EndedAt    time.Time // zero while RUNNING
	EndedBy    EndedBy
	// Counters of the run's own row, which verify recomputes from the steps.
	StepCount, BlockedStepCount    int64
	PromptTokens, CompletionTokens int64
	Spend                          plans.Money // of what has a price
	UnpricedTokens                 int64       // of these, those that no price was known for
	CallsWithoutUsage              int64       // completed model calls that reported no tokens
	LastCallAt                     time.Time
}

// RunFilter narrows a list of runs; zero values ask for all.
type RunFilter struct {
	// Zero values do not filter.
	Status RunStatus
	UserID string
	Key    uuid.UUID    // that started it
	Denied bool         // a rule objected, to the start or to a step
	Reason guard.Reason // this rule did
	Since  time.Time    // inclusive
	Until  time.Time    // exclusive
	// ByLastCall lists the RUNNING runs alone, those first that were silent longest.
	ByLastCall bool
	Limit      int64
	Cursor     string

	UserPrefix    string   `json:",omitempty"` // of the user's id
	Text          string   // its words begin words of the run, or it begins its id
	Models, Tools []string // one of them
	Tags          []Tag    // one value of each key
	// What the filter asks of the run's figures; each makes the list a search (IsSearch).
	MinCost     plans.Money
	MinDuration time.Duration
	Order       RunOrder
}

// agentTag is the key of the tag that says which agent a run is of.
const agentTag = "agent"

// selectRun reads what scanRun scans; $1 is the workspace.
const selectRun = `SELECT r.uuid, u.external_id, r.title, r.status, r.deny_reason, r.started_at, r.ended_at, r.ended_by,
		r.step_count, r.blocked_step_count, r.prompt_tokens, r.completion_tokens, r.spend_nanos,
		r.unpriced_tokens, r.calls_without_usage, r.last_call_at,
		(SELECT g.value FROM run_tags g WHERE g.run_id = r.id AND g.key = '` + agentTag + `')
	FROM runs r JOIN users u ON u.id = r.user_id WHERE r.workspace_id = $1`

// Runs lists runs, newest first, and the cursor of the next page ("" at the end).
// A run's id begins with its start, so ids serve as bounds in time and as cursor.
func (s *Store) Runs(ctx context.Context, ws WorkspaceKey, f RunFilter) (runs []Run, next string, err error) {
	if f.ByLastCall {
		return s.runsByLastCall(ctx, ws, f)
	}
	if f.IsSearch() {
		return s.searchRuns(ctx, ws, f)
	}
	before, from, err := idBounds(listRuns, ws, f.Since, f.Until, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	query, args := runsQuery(f, []any{ws, before[:], from[:], f.Limit + 1})
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(query+` ORDER BY r.uuid DESC LIMIT $4`, args, func(rows scanner) error {
			if int64(len(runs)) == f.Limit {
				last := runs[len(runs)-1].ID
				next = cursor(listRuns, int64(ws), last[:])
				return nil
			}
			r, err := scanRun(rows.Scan)
			runs = append(runs, r)
			return err
		})
	})
	return runs, next, err
}

// ExportRuns hands over all runs that a filter finds, newest first, as one
// snapshot of the database has them. It holds one run at a time.
func (s *Store) ExportRuns(ctx context.Context, ws WorkspaceKey, f RunFilter, each func(Run) error) error {
	before, from, err := idBounds(listRuns, ws, f.Since, f.Until, "")
	if err != nil {
		return err
	}
	return s.read(ctx, func(tx *Tx) error {
		q := newSearch(tx, ws, f, before, from)
		set, _, err := q.smallest(s.searched)
		if err != nil {
			return err
		}
		var sc scope
		if set >= 0 {
			sc = q.setScope(set)
		} else if sc, err = q.walkScope(0); err != nil {
			return err
		}
		query := strings.Replace(selectRun, "r.workspace_id = $1", sc.where, 1) + ` ORDER BY r.uuid DESC`
		err = tx.each(query, q.args, func(rows scanner) error {
			r, err := scanRun(rows.Scan)
			if err != nil {
				return err
			}
			return each(r)
		})
		if err != nil {
			return fmt.Errorf("export runs: %w", err)
		}
		return nil
	})
}

// runsByLastCall lists the RUNNING runs. No index has their last calls, because
// each call would have to update it. They are found by their status and sorted;
// the concurrency limit keeps them few. A run that calls between two pages may
// be listed twice.
func (s *Store) runsByLastCall(ctx context.Context, ws WorkspaceKey, f RunFilter) (runs []Run, next string, err error) {
	const size = 8 + 16
	key := make([]byte, size)
	if f.Cursor != "" {
		if key, err = parseCursor(listRunsByCall, int64(ws), f.Cursor, size); err != nil {
			return nil, "", err
		}
	}
	const page = `FROM (SELECT id FROM runs WHERE workspace_id = $1 AND status = $5 AND (last_call_at, uuid) > ($2, $3)
		ORDER BY last_call_at, uuid LIMIT $4) page JOIN runs r ON r.id = page.id`
	query := strings.Replace(selectRun, "FROM runs r", page, 1) + ` ORDER BY r.last_call_at, r.uuid LIMIT $4`
	args := []any{ws, int64(binary.BigEndian.Uint64(key)), key[8:], f.Limit + 1, int64(RunRunning)}
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(query, args, func(rows scanner) error {
			if int64(len(runs)) == f.Limit {
				last := runs[len(runs)-1]
				key := binary.BigEndian.AppendUint64(nil, uint64(last.LastCallAt.UnixMilli()))
				next = cursor(listRunsByCall, int64(ws), append(key, last.ID[:]...))
				return nil
			}
			r, err := scanRun(rows.Scan)
			runs = append(runs, r)
			return err
		})
	})
	return runs, next, err
}

// runsQuery adds a filter's conditions and their values. Asked in one piece,
// SQLite walks all of the workspace's runs instead of the index by status or by
// reason: so it finds a page of ids first. A user's runs it finds by itself.
func runsQuery(f RunFilter, args []any) (string, []any) {
	var more string
	add := func(condition string, value any) {
		args = append(args, value)
		more += condition + strconv.Itoa(len(args))
	}
	if f.Status != 0 {
		add(` AND r.status = $`, int64(f.Status))
	}
	if f.Key != uuid.Nil {
		add(` AND r.key_id = (SELECT id FROM api_keys WHERE workspace_id = $1 AND uuid = $`, f.Key[:])
		more += `)`
	}
	if f.UserID != "" {
		add(` AND r.user_id = (SELECT id FROM users WHERE workspace_id = $1 AND external_id = $`, f.UserID)
		more += `)`
	}
	const page = `SELECT r.id FROM runs r WHERE r.workspace_id = $1 AND r.uuid < $2 AND r.uuid >= $3`
	ids := page + more + ` ORDER BY r.uuid DESC LIMIT $4`
	switch {
	case f.Denied || f.Reason != guard.None:
		ids, args = deniedPages(f.Reason, page+more, args)
	case f.UserID != "" || more == "":
		return selectRun + ` AND r.uuid < $2 AND r.uuid >= $3` + more, args
	case f.Key != uuid.Nil && f.Status == RunRunning:
		// Few runs are RUNNING, and a key may have started any number. SQLite
		// would not begin with the few by itself.
		ids = strings.NewReplacer("r.uuid <", "coalesce(r.uuid, r.uuid) <", "r.uuid >", "coalesce(r.uuid, r.uuid) >", "r.key_id =", "r.key_id + 0 =").Replace(ids)
	}
	return strings.Replace(selectRun, "FROM runs r", "FROM ("+ids+") page JOIN runs r ON r.id = page.id", 1), args
}

// deniedPages asks for a page of each part of the index by reason: a run is in
// one part, and the rule that is asked for may have objected before the one
// that the run is filed under.
func deniedPages(reason guard.Reason, page string, args []any) (string, []any) {
	var asked string
	if reason != guard.None {
		args = append(args, int64(reason))
		asked = ` AND EXISTS (SELECT 1 FROM denials d WHERE d.run_id = r.id AND d.reason = $` + strconv.Itoa(len(args)) + `)`
	}
	var parts []string
	for i := range guard.Reasons() {
		part := page + ` AND r.deny_reason = ` + strconv.Itoa(i+int(guard.RunAlreadyEnded)) + asked
		parts = append(parts, `SELECT id FROM (`+part+` ORDER BY r.uuid DESC LIMIT $4) part`)
	}
	return strings.Join(parts, " UNION ALL "), args
}

// idBounds are the ids that a page of a newest-first list lies between: below
// before, and from there on back to from.
func idBounds(l cursorKind, ws WorkspaceKey, since, until time.Time, cursor string) (before, from uuid.UUID, err error) {
	before = idCeiling()
	if !until.IsZero() {
		before = idFloor(roundUp(until))
	}
	if !since.IsZero() {
		from = idFloor(roundUp(since))
	}
	if cursor == "" {
		return before, from, nil
	}
	key, err := parseCursor(l, int64(ws), cursor, len(before))
	if err == nil && string(key) < string(before[:]) {
		copy(before[:], key)
	}
	return before, from, err
}

// roundUp is the first whole millisecond at or after t: starts are kept in milliseconds.
func roundUp(t time.Time) time.Time {
	if whole := t.Truncate(time.Millisecond); !whole.Equal(t) {
		return whole.Add(time.Millisecond)
	}
	return t
}

// scanRun scans a run as lists show it, and more columns after it.
func scanRun(scan func(...any) error, more ...any) (Run, error) {
	var r Run
	var started, lastCall int64
	var reason, ended, endedBy sql.NullInt64
	var title, agent sql.NullString
	err := scan(append([]any{
		&r.ID, &r.UserID, &title, &r.Status, &reason, &started, &ended, &endedBy,
		&r.StepCount, &r.BlockedStepCount, &r.PromptTokens, &r.CompletionTokens, &r.Spend,
		&r.UnpricedTokens, &r.CallsWithoutUsage, &lastCall, &agent,
	}, more...)...)
	r.Title, r.Agent = title.String, agent.String
	r.DenyReason, r.EndedBy = guard.Reason(reason.Int64), EndedBy(endedBy.Int64)
	r.StartedAt, r.EndedAt, r.LastCallAt = time.UnixMilli(started).UTC(), timeOf(ended), time.UnixMilli(lastCall).UTC()
	return r, err
}

// RunDetail is a run with what was decided and done in it.
type RunDetail struct {
	Run
	Key       *RunKey // that started it; nil for runs that are older than such a record
	Metadata  []byte  // JSON object, or nil
	Decision  guard.Decision
	Denied    *DeniedStep // the latest; nil when every step was allowed
	Repairs   Repairs     // of the run itself
	Steps     []Step
	NextSteps string // cursor; "" at the end
}

// DeniedStep is a step that a rule objected to.
type DeniedStep struct {
	ID       uuid.UUID
	Sequence int64
	Decision guard.Decision
}

// RunKey names the key that started a run.
type RunKey struct {
	ID            uuid.UUID
	Prefix, Label string
}

// Run reads a run with a page of its steps.
func (s *Store) Run(ctx context.Context, ws WorkspaceKey, id uuid.UUID, stepsCursor string) (d RunDetail, err error) {
	return s.RunWithSteps(ctx, ws, id, stepsCursor, MaxSteps)
}

// RunWithSteps reads a run with so many of its steps, MaxSteps at most.
func (s *Store) RunWithSteps(ctx context.Context, ws WorkspaceKey, id uuid.UUID, stepsCursor string, most int) (d RunDetail, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		query := strings.Replace(selectRun, "FROM runs r", `, r.id, m.metadata, d.reason, d.limit_value, d.used_value, d.resets_at,
				coalesce(x.fields, 0), k.uuid, k.prefix, k.label
			FROM runs r LEFT JOIN run_metadata m ON m.run_id = r.id
			LEFT JOIN denials d ON d.run_id = r.id AND d.step_uuid = $3
			LEFT JOIN repairs x ON x.run_id = r.id AND x.step_uuid = $3
			LEFT JOIN api_keys k ON k.id = r.key_id`, 1) + ` AND r.uuid = $2`
		var runID int64
		var metadata, keyPrefix, keyLabel sql.NullString
		var key uuid.NullUUID
		var reason, limit, used, resets sql.NullInt64
		scan := func(dest ...any) error { return tx.get(query, []any{ws, id[:], []byte{}}, dest...) }
		if d.Run, err = scanRun(scan, &runID, &metadata, &reason, &limit, &used, &resets, &d.Repairs, &key, &keyPrefix, &keyLabel); err != nil {
			return err
		}
		d.Metadata = jsonOf(metadata)
		if key.Valid {
			d.Key = &RunKey{ID: key.UUID, Prefix: keyPrefix.String, Label: keyLabel.String}
		}
		d.Decision = recordedDecision(guard.Start, reason, limit, used, resets)
		if err := readPolicy(tx, runID, []byte{}, &d.Decision); err != nil {
			return err
		}
		if d.BlockedStepCount > 0 {
			if d.Denied, err = latestDenial(tx, runID); err != nil {
				return err
			}
		}
		d.Steps, d.NextSteps, err = readSteps(tx, ws, runID, d.Status, stepsCursor, most)
		return err
	})
	return d, err
}

// latestDenial reads the step that a run was stopped at, wherever in it that is. That
// a run had already ended says nothing about why, so it counts only where nothing else does.
func latestDenial(tx *Tx, runID int64) (*DeniedStep, error) {
	var step DeniedStep
	var reason, limit, used, resets sql.NullInt64
	find := func(besides guard.Reason) error {
		return tx.get(`SELECT step_uuid, reason, limit_value, used_value, resets_at FROM denials
			WHERE run_id = $1 AND step_uuid > $3 AND reason <> $2 ORDER BY step_uuid DESC LIMIT 1`,
			[]any{runID, int64(besides), []byte{}}, &step.ID, &reason, &limit, &used, &resets)
	}
	err := find(guard.RunAlreadyEnded)
	if errors.Is(err, ErrNotFound) {
		err = find(guard.None)
	}
	if err != nil {
		return nil, err
	}
	step.Decision = recordedDecision(guard.Step, reason, limit, used, resets)
	if err := readPolicy(tx, runID, step.ID[:], &step.Decision); err != nil {
		return nil, err
	}
	err = tx.get(`SELECT sequence FROM run_steps WHERE run_id = $1 AND uuid = $2`, []any{runID, step.ID[:]}, &step.Sequence)
	return &step, err
}

// RunTotals is what the runs of a filter add up to.
type RunTotals struct {
	RunSums
	AtLeast bool // more runs match than were looked at
	// Of the pieces of time, if they were asked for and there is a run: how long each is, where
	// they begin, and those that have runs.
	Piece        time.Duration
	Since, Until time.Time
	ByTime       []RunBucket
	// Indexing says that the newest run is not found by its words yet, and perhaps older ones.
	Indexing bool
}

// RunSums are figures of some runs.
type RunSums struct {
	Runs, DeniedRuns, Denials           int64
	Spend                               plans.Money
	UnpricedTokens                      int64
	Running, Completed, Failed, Blocked int64
}

// RunBucket is the runs that started in a piece of time.
type RunBucket struct {
	Since time.Time
	RunSums
}

// selectSums counts and sums up runs, in the order of RunSums.dest.
const selectSums = `SELECT count(*), coalesce(sum(CASE WHEN r.deny_reason IS NOT NULL THEN 1 ELSE 0 END), 0),
		coalesce(sum(r.blocked_step_count + CASE WHEN r.status = 4 AND r.ended_by IS NULL THEN 1 ELSE 0 END), 0),
		coalesce(sum(r.spend_nanos), 0), coalesce(sum(r.unpriced_tokens), 0),
		coalesce(sum(CASE WHEN r.status = 1 THEN 1 ELSE 0 END), 0), coalesce(sum(CASE WHEN r.status = 2 THEN 1 ELSE 0 END), 0),
		coalesce(sum(CASE WHEN r.status = 3 THEN 1 ELSE 0 END), 0), coalesce(sum(CASE WHEN r.status = 4 THEN 1 ELSE 0 END), 0)`

// dest returns where the columns of selectSums are scanned to.
func (t *RunSums) dest() []any {
	return []any{
		&t.Runs, &t.DeniedRuns, &t.Denials, &t.Spend, &t.UnpricedTokens, &t.Running, &t.Completed, &t.Failed, &t.Blocked,
	}
}

// add adds up sums of different runs.
func (t *RunSums) add(u RunSums) {
	t.Runs += u.Runs
	t.DeniedRuns += u.DeniedRuns
	t.Denials += u.Denials
	t.Spend += u.Spend
	t.UnpricedTokens += u.UnpricedTokens
	t.Running += u.Running
	t.Completed += u.Completed
	t.Failed += u.Failed
	t.Blocked += u.Blocked
}

// RunPieces says by which pieces of time runs are added up; the zero value for none.
type RunPieces struct {
	Length time.Duration  // of each, from RunFilter.Since on; or
	Most   int64          // of a length that makes so many at most, from the first run on that is kept
	Zone   *time.Location // whose clocks they keep to; nil for UTC
}

// RunTotals adds up the runs that a filter finds.
func (s *Store) RunTotals(ctx context.Context, ws WorkspaceKey, f RunFilter, by RunPieces) (t RunTotals, err error) {
	before, from, err := idBounds(listRuns, ws, f.Since, f.Until, "")
	if err != nil {
		return t, err
	}
	err = s.read(ctx, func(tx *Tx) error {
		q := newSearch(tx, ws, f, before, from)
		sc, err := q.scope(s.searched)
		if err != nil {
			return err
		}
		t.AtLeast = sc.bounded
		err = tx.get(`SELECT coalesce((SELECT id FROM runs WHERE workspace_id = $1 ORDER BY uuid DESC LIMIT 1), 0) > run_id
			FROM run_index WHERE id = 1`, []any{ws}, &t.Indexing)
		if err != nil {
			return err
		}
		if by.Length == 0 && by.Most == 0 {
			return tx.get(selectSums+` FROM runs r WHERE `+sc.where, q.args, t.dest()...)
		}
		return q.byTime(&t, f, by, sc)
	})
	return t, err
}

// byTime adds up the runs of a scope by pieces of time.
func (q *runSearch) byTime(t *RunTotals, f RunFilter, by RunPieces, sc scope) error {
	t.Since, t.Until, by.Zone = f.Since, q.tx.now, cmp.Or(by.Zone, time.UTC)
	if !f.Until.IsZero() && f.Until.Before(t.Until) {
		t.Until = f.Until
	}
	if by.Most > 0 {
		var first uuid.UUID
		err := q.tx.get(`SELECT uuid FROM runs WHERE workspace_id = $1 AND uuid < $2 AND uuid >= $3 ORDER BY uuid LIMIT 1`,
			append(q.args[:2:2], sc.first(q.args[2])), &first)
		if err != nil {
			t.Since, t.Until = time.Time{}, time.Time{}
			return ignoreNotFound(err)
		}
		t.Since = time.UnixMilli(idMillis(first)).UTC()
		by.Length = policies.AtMost(by.Most, by.Zone, t.Since, t.Until).Length
	}
	if floor := time.UnixMilli(idMillis(sc.floor)).UTC(); sc.bounded && floor.After(t.Since) {
		t.Since = floor // what is before it was not looked at
	}
	t.Piece = by.Length
	pieces := policies.NewPieces(by.Length, by.Zone, t.Since, t.Until)
	return q.tx.each(selectSums+`, `+q.pieceOf(pieces)+` AS bucket FROM runs r WHERE `+sc.where+` GROUP BY bucket ORDER BY bucket`,
		q.args, func(rows scanner) error {
			var b RunBucket
			var n int64
			err := rows.Scan(append(b.dest(), &n)...)
			b.Since = pieces.Start(n)
			t.ByTime = append(t.ByTime, b)
			t.add(b.RunSums)
			return err
		})
}

// first is the id that the runs of a scope begin with, where the filter's since is from.
func (sc scope) first(from any) any {
	if sc.bounded {
		return sc.floor[:]
	}
	return from
}

// pieceOf is the number of the piece of time that a run started in.
func (q *runSearch) pieceOf(p policies.Pieces) string {
	last := len(p.Stretches) - 1
	at := "r.started_at + " + q.arg(p.Stretches[last].Ahead)
	if last > 0 {
		var cases strings.Builder
		for _, s := range p.Stretches[:last] {
			cases.WriteString(" WHEN r.started_at < " + q.arg(s.Until) + " THEN r.started_at + " + q.arg(s.Ahead))
		}
		at = "CASE" + cases.String() + " ELSE " + at + " END"
	}
	return "(" + at + ") / " + q.arg(p.Length.Milliseconds())
}

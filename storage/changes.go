package storage

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// ChangeKind is what a Change is about.
type ChangeKind uint8

// What can change.
const (
	RunStarted         ChangeKind = iota + 1
	RunDenied                     // at its start
	RunEnded                      // by whom ever
	RunProgressed                 // its steps, tokens or spend
	StepDenied                    // has a Denial
	ConfigChanged                 // has a Part
	CredentialsChanged            // some of the workspace's credentials have ended
	ModelUnpriced                 // a step used the first tokens of a day that its Model has no price for
	SpendCapped                   // a step used more than its day or run had room for, and filled it
	ReviewAsked                   // a Step waits for a person
	ReviewResolved                // it waits no more
)

// ConfigPart is a part of a workspace's configuration.
type ConfigPart uint8

// The parts that can change.
const (
	PartWorkspace ConfigPart = iota + 1 // limits, kill switch, name
	PartAPIKey
	PartPrices
	PartUsers // blocked ones
	PartPlan
	PartEndpoints
	PartPolicies // and their grants
)

// String is the word that the API uses.
func (p ConfigPart) String() string {
	return enumName("part", int(p), "workspace", "api_key", "prices", "users", "plan", "endpoints", "policies")
}

// Change is something that a committed write did.
type Change struct {
	Workspace WorkspaceKey
	Kind      ChangeKind
	Part      ConfigPart // of ConfigChanged
	Run       int64      // internal id, for Snapshot; 0 where no run is concerned
	Step      uuid.UUID  // of ModelUnpriced, SpendCapped and reviews
	Model     string     // of ModelUnpriced; "" for a step without a model
	Denial    *Denial    // of StepDenied
	Review    uuid.UUID  // of ReviewAsked and ReviewResolved
	As        Resolution // of ReviewResolved
}

// Denial is a step that was denied, and why.
type Denial struct {
	Step     uuid.UUID
	Decision guard.Decision
}

// publisher collects the changes of the batch that is being written, and hands
// them over after its commit. Only the writer uses it.
type publisher struct {
	watch   func([]Change) // nil while nobody watches
	pending []Change
	sends   bool // the batch has written to the outbox
}

// wakeSender has whoever sends notifications look at the outbox after the commit.
func (p *publisher) wakeSender() { p.sends = true }

// recordChange keeps a change until the batch is committed. It costs nothing
// while nobody watches.
func (tx *Tx) recordChange(c Change) {
	if tx.publisher != nil && tx.publisher.watch != nil {
		tx.publisher.pending = append(tx.publisher.pending, c)
	}
}

// reset begins a new batch, for whoever watches now.
func (p *publisher) reset(s *Store) {
	*p = publisher{}
	if watch := s.watcher.Load(); watch != nil {
		p.watch = *watch
	}
}

// publish hands over the changes of a committed batch.
func (p *publisher) publish(outbox chan<- struct{}) {
	if p.sends {
		select {
		case outbox <- struct{}{}:
		default: // it will look anyway
		}
	}
	if len(p.pending) > 0 {
		p.watch(p.pending)
	}
}

// Watch calls watch with the changes of every batch after its commit, in the
// order of the commits, until Unwatch. There is one watcher at a time. All that
// is committed after Watch returns is published. The writer calls watch, which
// must not block, and which owns the list. Errors are those of a write.
func (s *Store) Watch(ctx context.Context, watch func([]Change)) error {
	s.watcher.Store(&watch)
	// A batch that has already begun publishes nothing; this write comes after it.
	commits, err := s.externalCommits(ctx)
	if err != nil {
		s.Unwatch()
		return err
	}
	s.lastReported.Store(commits)
	return nil
}

// Unwatch ends what Watch began. The batch that is being written may still be published.
func (s *Store) Unwatch() { s.watcher.Store(nil) }

// LookElsewhereEvery is how often it is worth while to ask ChangedElsewhere:
// more often where other nodes decide too.
func (s *Store) LookElsewhereEvery() time.Duration {
	if s.engine.shared() {
		return 250 * time.Millisecond
	}
	return time.Second
}

// ChangedElsewhere lists those of some workspaces, which FollowElsewhere was told
// of, in which another process may have committed since the last time that they
// were asked for. Of a file it cannot tell the workspaces apart.
func (s *Store) ChangedElsewhere(ctx context.Context, of []WorkspaceKey) (changed []WorkspaceKey, err error) {
	if s.engine.shared() {
		found, err := s.engine.versions(ctx, of)
		if err != nil {
			return nil, err
		}
		return s.elsewhere.compare(of, found), nil
	}
	commits, err := s.externalCommits(ctx)
	if err == nil && s.lastReported.Swap(commits) != commits {
		changed = of
	}
	return changed, err
}

// externalCommits returns how often other processes have committed, as far as the writer has
// noticed. Only the writer's connection notices, so the question is a write that changes nothing.
func (s *Store) externalCommits(ctx context.Context) (commits int64, err error) {
	return commits, s.writeIn(ctx, noWorkspace, modeCached, func(tx *Tx) error {
		commits = tx.cache.externalCommits
		return nil
	})
}

// noteChange remembers when something was committed that readers can see, or when the writer
// noticed that another process has committed. The writer calls it after each commit.
func (s *Store) noteChange() {
	if commits := s.cache.externalCommits; len(s.changed) > 0 || commits != s.noticed {
		s.noticed = commits
		s.changedAfter.Store(int64(s.now().Sub(s.opened)))
	}
}

// Quiet returns for how long nobody has changed anything. Where other nodes decide
// too it is 0: when they committed is not known.
func (s *Store) Quiet(ctx context.Context) (time.Duration, error) {
	if s.engine.shared() {
		return 0, nil
	}
	if _, err := s.externalCommits(ctx); err != nil {
		return 0, err
	}
	return max(0, s.now().Sub(s.opened)-time.Duration(s.changedAfter.Load())), nil
}

// elsewhere knows of the workspaces that are followed up to which version this
// node has seen them, and whether others have committed.
type elsewhere struct {
	mu    sync.Mutex
	all   int64 // of the whole database
	known map[WorkspaceKey]int64
	stale map[WorkspaceKey]bool // another node has committed, and nobody has asked since
}

// newElsewhere returns the state of a node that follows no workspace yet.
func newElsewhere() elsewhere {
	return elsewhere{known: make(map[WorkspaceKey]int64), stale: make(map[WorkspaceKey]bool)}
}

// begun notes the versions that the writer has found, and committed those that it has left.
func (e *elsewhere) begun(found versions) { e.note(found, true) }

// committed notes versions that this node has made itself; they are no news to it.
func (e *elsewhere) committed(left versions) { e.note(left, false) }

// note remembers newer versions. others tells whether another node may have made them; then the
// workspace is stale until compare has reported it. A new version of the whole database marks all
// that are followed.
func (e *elsewhere) note(v versions, others bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if v.all > e.all {
		for ws := range e.known {
			e.stale[ws] = e.stale[ws] || others && e.all != 0
		}
		e.all = v.all
	}
	for _, w := range v.of {
		if known, asked := e.known[w.ws]; asked && w.version > known {
			e.known[w.ws] = w.version
			e.stale[w.ws] = e.stale[w.ws] || others
		}
	}
}

// compare lists the workspaces that others have changed.
func (e *elsewhere) compare(of []WorkspaceKey, found versions) (changed []WorkspaceKey) {
	e.note(found, true)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ws := range of {
		if e.stale[ws] {
			changed = append(changed, ws)
			delete(e.stale, ws)
		}
	}
	return changed
}

// FollowElsewhere has ChangedElsewhere tell what others commit in a workspace
// from now on, until UnfollowElsewhere.
func (s *Store) FollowElsewhere(ctx context.Context, ws WorkspaceKey) error {
	if !s.engine.shared() {
		return nil
	}
	found, err := s.engine.versions(ctx, []WorkspaceKey{ws})
	if err != nil {
		return err
	}
	s.elsewhere.note(versions{all: found.all}, true) // of those followed so far
	s.elsewhere.mu.Lock()
	defer s.elsewhere.mu.Unlock()
	for _, w := range found.of {
		s.elsewhere.known[w.ws] = w.version
	}
	return nil
}

// UnfollowElsewhere ends what FollowElsewhere began.
func (s *Store) UnfollowElsewhere(ws WorkspaceKey) {
	s.elsewhere.mu.Lock()
	defer s.elsewhere.mu.Unlock()
	delete(s.elsewhere.known, ws)
	delete(s.elsewhere.stale, ws)
}

// Snapshot is the state of a workspace at one moment.
type Snapshot struct {
	Today       Totals
	RunningRuns int64
	Runs        map[int64]Run // those asked for that exist, by internal id
}

// Snapshot reads the state of a workspace, and summaries of some of its runs, by
// the internal ids that changes carry.
func (s *Store) Snapshot(ctx context.Context, ws WorkspaceKey, runs []int64) (m Snapshot, err error) {
	m.Runs = make(map[int64]Run, len(runs))
	err = s.read(ctx, func(tx *Tx) error {
		today := dayOf(tx.now)
		if m.Today, err = totalsOf(tx, ws, today, today); err != nil {
			return err
		}
		if m.RunningRuns, err = runningRuns(tx, ws); err != nil {
			return err
		}
		for part := range slices.Chunk(runs, runsAtOnce) {
			if err := readRuns(tx, ws, part, m.Runs); err != nil {
				return err
			}
		}
		return nil
	})
	return m, err
}

// runsAtOnce is how many runs one query reads.
const runsAtOnce = 50

// readRuns reads up to runsAtOnce runs. One query for all takes a tenth of the
// time of one for each; those that are not there are left out.
func readRuns(tx *Tx, ws WorkspaceKey, ids []int64, into map[int64]Run) error {
	// Asked for the workspace as it is, SQLite walks all of its runs.
	query := strings.NewReplacer("FROM runs r", `, r.id FROM runs r`, "r.workspace_id = $1", `r.workspace_id + 0 = $1 AND r.id IN (`).Replace(selectRun)
	args := []any{ws}
	for i := range runsAtOnce { // always as many, so that it is always the same query
		id := int64(0)
		if i < len(ids) {
			id = ids[i]
		}
		if i > 0 {
			query += ", "
		}
		args = append(args, id)
		query += "$" + strconv.Itoa(len(args))
	}
	return tx.each(query+`)`, args, func(rows scanner) error {
		var id int64
		r, err := scanRun(rows.Scan, &id)
		into[id] = r
		return err
	})
}

// Config is what other processes, the commands, can change of a workspace.
// Two of them can be compared.
type Config struct {
	Workspace Workspace
	Keys      KeysVersion
}

// KeysVersion is another one when a key was made, revoked or given another end.
type KeysVersion struct{ newest, open, ending int64 }

// Config reads a workspace with the version of its keys.
func (s *Store) Config(ctx context.Context, ws WorkspaceKey) (c Config, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		if c.Workspace, err = workspace(tx, ws); err != nil {
			return err
		}
		return tx.get(`SELECT coalesce(max(id), 0), count(*), coalesce(sum(expires_at), 0) FROM api_keys
			WHERE workspace_id = $1 AND revoked_at IS NULL`, []any{ws}, &c.Keys.newest, &c.Keys.open, &c.Keys.ending)
	})
	return c, err
}

// Several nodes number their runs and fill their segments side by side. So a run
// may be committed after one with a higher number, and a step in a segment below
// one that others fill, when IndexRuns has passed them. Now and then it compares
// what all nodes have committed with what is in the index.

// sweepEvery is how long a run or a step that was passed may be missing from searches.
const sweepEvery = time.Minute

// indexSweep is a part of the runs and segments.
type indexSweep struct{ fromRun, toRun, fromSegment, toSegment int64 }

// beginSweep returns what may be compared: no node will commit any more of it. For
// a moment nobody else writes, and as the version of the database is another
// afterwards, all nodes begin new segments.
func (s *Store) beginSweep(ctx context.Context) (part indexSweep, err error) {
	now := s.now()
	if !s.engine.shared() || now.Sub(s.swept).Abs() < sweepEvery {
		return part, nil
	}
	err = s.write(ctx, modeCached, func(tx *Tx) error {
		err := tx.get(`SELECT swept_run_id, (SELECT coalesce(max(id), 0) FROM runs),
				swept_segment, (SELECT coalesce(max(segment), 0) FROM steps) FROM ledger_version`, nil,
			&part.fromRun, &part.toRun, &part.fromSegment, &part.toSegment)
		if err != nil {
			return err
		}
		tx.cache.wrote = true // which leaves another version of the whole database
		return nil
	})
	if part.toSegment < part.fromSegment { // all have expired meanwhile
		part.fromSegment = 0
	}
	if err == nil {
		s.swept = now
	}
	return part, err
}

// sweepIndex indexes what of a part is not in the index, and returns how many terms that were.
func (s *Store) sweepIndex(ctx context.Context, part indexSweep) (late int, err error) {
	const runs, segments = 20_000, 64 // are compared at once
	for from := part.fromRun; from < part.toRun; from += runs {
		to := min(from+runs, part.toRun)
		n, err := s.sweepTitles(ctx, from, to)
		if late += n; err == nil {
			err = s.sweptTo(ctx, `UPDATE ledger_version SET swept_run_id = $1`, to)
		}
		if err != nil {
			return late, err
		}
	}
	for from := part.fromSegment; from < part.toSegment; from += segments {
		to := min(from+segments, part.toSegment)
		n, err := s.sweepSegments(ctx, from, to)
		if late += n; err == nil {
			err = s.sweptTo(ctx, `UPDATE ledger_version SET swept_segment = $1`, to)
		}
		if err != nil {
			return late, err
		}
	}
	return late, nil
}

func (s *Store) sweptTo(ctx context.Context, update string, to int64) error {
	return s.writeIn(ctx, noWorkspace, modeCached, func(tx *Tx) error { return tx.execOne(update, to) })
}

// sweepTitles indexes the words of runs that have none in the index.
func (s *Store) sweepTitles(ctx context.Context, from, to int64) (late int, err error) {
	var missing []indexedRun
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT r.workspace_id, r.id FROM runs r WHERE r.id > $1 AND r.id <= $2
			AND NOT EXISTS (SELECT 1 FROM run_terms t WHERE t.run_id = r.id AND t.kind = $3) ORDER BY r.id`,
			[]any{from, to, int64(termWord)}, func(rows scanner) error {
				var r indexedRun
				err := rows.Scan(&r.ws, &r.id)
				missing = append(missing, r)
				return err
			})
	})
	for part := range slices.Chunk(missing, indexedAtOnce) {
		if err == nil {
			of := func(r indexedRun) WorkspaceKey { return r.ws }
			err = writeIndex(ctx, s, part, of, func(tx *Tx) error { return addTitles(tx, part) })
		}
	}
	return len(missing), err
}

// sweepSegments indexes the models and tools of steps that are not in the index.
func (s *Store) sweepSegments(ctx context.Context, from, to int64) (late int, err error) {
	var missing []runTerm
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`WITH terms AS (SELECT DISTINCT s.run_id, $3 + 0 AS kind, m.name AS term FROM steps s
				JOIN models m ON m.id = s.model_id WHERE s.segment > $1 AND s.segment <= $2
				UNION SELECT DISTINCT run_id, $4 + 0, tool_name FROM steps
				WHERE segment > $1 AND segment <= $2 AND tool_name IS NOT NULL)
			SELECT r.workspace_id, n.run_id, n.kind, n.term FROM terms n JOIN runs r ON r.id = n.run_id WHERE NOT EXISTS
				(SELECT 1 FROM run_terms t WHERE t.run_id = n.run_id AND t.kind = n.kind AND t.term = n.term)`,
			[]any{from, to, int64(termModel), int64(termTool)}, func(rows scanner) error {
				var m runTerm
				err := rows.Scan(&m.ws, &m.runID, &m.kind, &m.term)
				missing = append(missing, m)
				return err
			})
	})
	if err == nil {
		err = s.addTerms(ctx, missing)
	}
	return len(missing), err
}

// limitIndexPosition has the index go on where new runs and steps begin, when the
// newest have expired: their numbers are given again.
func limitIndexPosition(tx *Tx) error {
	_, err := tx.exec(`UPDATE run_index SET run_id = (SELECT coalesce(max(id), 0) FROM runs)
		WHERE id = 1 AND run_id > (SELECT coalesce(max(id), 0) FROM runs)`)
	if err != nil {
		return err
	}
	_, err = tx.exec(`UPDATE run_index SET segment = (SELECT coalesce(max(segment), 0) + 1 FROM steps)
		WHERE id = 1 AND segment > (SELECT coalesce(max(segment), 0) + 1 FROM steps)`)
	return err
}

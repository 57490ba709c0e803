package storage

import (
	"errors"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pikarc/server/prices"
)

// memory is what the writer remembers of the rows that decisions read and
// count in, so that a decision asks the database for nothing it has just read
// or written. Only the writer touches it, inside its transaction.
//
// The database stays the truth. Rows are invalidated when another process has
// committed, when a write has changed some behind the memory's back, and when
// the clock went back a day; those of one workspace alone when its own
// configuration was changed here. They are not dropped but read again, each
// when it is next asked for, so an invalidation costs nothing by itself.
//
// Rows changed here are written by flush, before the batch's COMMIT and before
// any job that reads them by SQL. Jobs run their own SQL first and change
// memory last, when nothing can fail any more, so a job that is rolled back
// leaves no trace here; if the whole batch is, everything is forgotten.
type memory struct {
	clock    int64                 // counts invalidations; a row was read at one of its values
	allFrom  int64                 // rows read before are read again
	someFrom [workspaceSlots]int64 // the same of some workspaces' rows, by workspaceSlot
	version  int64                 // counts commits by other processes, as far as they were noticed
	seen     int64                 // SQLite's data_version, which tells of them; -1 on a new connection
	today    int64                 // day of the latest job
	dirty    []row

	segment      int64 // that is being filled; 0 before the first step
	segmentSteps int64 // that it has, about

	workspaces *table[WorkspaceKey, *heldWorkspace]
	keys       *table[idKey, *heldKey]
	users      *table[idKey, *heldUser]
	userIDs    *table[name, *heldID]
	models     *table[idKey, *heldModel]
	modelIDs   *table[name, *heldID]
	runs       *table[runKey, *heldRun]
	days       *table[dayKey, *heldDay]
	userDays   *table[partKey, *heldUserDay]
	modelDays  *table[partKey, *heldModelDay]
	keyDays    *table[partKey, *heldKeyDay]
	points     *table[idKey, *heldPoint]

	catalogue *prices.Catalogue // of published prices; nil for none
}

// How many rows of each kind may be held. MinHeld keeps a row that a batch has
// changed from being evicted before the batch is written: no batch touches so many.
const (
	MinHeld     = 4 * maxBatch
	DefaultHeld = 20_000
)

// newMemory makes one that holds at most so many rows of each kind.
func newMemory(limit int, catalogue *prices.Catalogue) *memory {
	return &memory{
		catalogue:  catalogue,
		workspaces: newTable(limit, loadWorkspace),
		keys:       newTable(limit, loadKey),
		users:      newTable(limit, loadUser),
		userIDs:    newTable(limit, loadUserID),
		models:     newTable(limit, loadModel),
		modelIDs:   newTable(limit, loadModelID),
		runs:       newTable(limit, loadRun),
		days:       newTable(limit, loadDay),
		userDays:   newTable(limit, loadUserDay),
		modelDays:  newTable(limit, loadModelDay),
		keyDays:    newTable(limit, loadKeyDay),
		points:     newTable(limit, loadPoint),
	}
}

// begin is called after BEGIN IMMEDIATE: from then on nobody else can commit.
func (m *memory) begin(tx *Tx) error {
	var version int64
	err := tx.get("PRAGMA data_version", nil, &version)
	if err == nil && version != m.seen {
		m.seen = version
		m.version++
		m.invalidateAll()
	}
	return err
}

// invalidateAll has every row read again when it is next asked for. Changed
// ones must have been flushed.
func (m *memory) invalidateAll() {
	m.clock++
	m.allFrom = m.clock
}

// workspaceSlots is how many workspaces are told apart when one of them is
// invalidated. Two in one slot cost each other a few reads.
const workspaceSlots = 1024

func workspaceSlot(ws WorkspaceKey) int { return int(uint64(ws) % workspaceSlots) }

// invalidate is invalidateAll for the rows of one workspace.
func (m *memory) invalidate(ws WorkspaceKey) {
	m.clock++
	m.someFrom[workspaceSlot(ws)] = m.clock
}

// valid reports whether a row of a workspace was read after all that may have changed it.
func (m *memory) valid(h *held, ws WorkspaceKey) bool {
	return h.readAt >= m.allFrom && h.readAt >= m.someFrom[workspaceSlot(ws)]
}

// atDay notices midnight. The row of a new day takes in the sums of those
// before, which must be in the file by then. When the clock went back over it,
// the sums of the days that then lie ahead may still change.
func (m *memory) atDay(tx *Tx) error {
	day := dayOf(tx.now)
	back := day < m.today
	if day == m.today {
		return nil
	}
	m.today = day
	if back {
		defer m.invalidateAll()
	}
	return m.flush(tx)
}

// changed notes a row to be written by the next flush.
func (m *memory) changed(r row) {
	if h := r.state(); !h.dirty {
		h.dirty = true
		m.dirty = append(m.dirty, r)
	}
}

// full tells a job of many rows to stop, so that what it has changed is written
// before it could be evicted.
func (m *memory) full() bool { return len(m.dirty) > MinHeld/2 }

// flush writes what has changed. It runs outside of every job's savepoint.
func (m *memory) flush(tx *Tx) error {
	for i, r := range m.dirty {
		if err := r.save(tx); err != nil {
			return fmt.Errorf("write %T: %v", r, err) // not %w: that a row is gone is no caller's "not found"
		}
		r.state().dirty = false
		m.dirty[i] = nil
	}
	m.dirty = m.dirty[:0]
	return nil
}

// forget drops everything, after a rollback of what was flushed or was to be.
func (m *memory) forget() {
	m.dirty = nil
	for _, t := range []interface{ forgetAll() }{
		m.workspaces, m.keys, m.users, m.userIDs, m.models, m.modelIDs, m.runs, m.days, m.userDays, m.modelDays, m.keyDays, m.points,
	} {
		t.forgetAll()
	}
}

// row is one row in memory.
type row interface {
	state() *held
	save(*Tx) error
}

// held is the part that all rows in memory have.
type held struct {
	readAt int64 // the memory's clock
	dirty  bool  // differs from the database
}

func (h *held) state() *held { return h }

// rowKey names a row of a workspace.
type rowKey interface {
	comparable
	workspace() WorkspaceKey
}

// table holds the most recently used rows of one kind.
type table[K rowKey, R row] struct {
	rows *lru.LRU[K, R]
	load func(*Tx, K) (R, error)
}

func newTable[K rowKey, R row](limit int, load func(*Tx, K) (R, error)) *table[K, R] {
	rows, err := lru.NewLRU[K, R](limit, nil)
	if err != nil {
		panic(err) // the limit is checked by Open
	}
	return &table[K, R]{rows: rows, load: load}
}

// get returns a row as this transaction sees it: ErrNotFound when there is none.
func (t *table[K, R]) get(tx *Tx, key K) (R, error) {
	if r, ok := t.rows.Get(key); ok {
		if h := r.state(); h.dirty || tx.memory.valid(h, key.workspace()) {
			return r, nil
		}
	}
	r, err := t.load(tx, key)
	if err != nil {
		if errors.Is(err, ErrNotFound) {
			t.rows.Remove(key)
		}
		return r, err
	}
	t.put(tx, key, r)
	return r, nil
}

// put remembers a row that the job has just read or inserted, unless the job fails.
func (t *table[K, R]) put(tx *Tx, key K, r R) {
	r.state().readAt = tx.memory.clock
	t.rows.Add(key, r)
	tx.undo = append(tx.undo, func() { t.drop(key) })
}

// drop forgets a row that is not changed.
func (t *table[K, R]) drop(key K) { t.rows.Remove(key) }

func (t *table[K, R]) forgetAll() { t.rows.Purge() }

package storage

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"
	lru "github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/storage/payload"
	"github.com/pikarc/server/storage/postgres"
)

// cache holds the rows that decisions read and the counters that they change,
// so that a decision does not query what was just read or written. Only the
// writer uses it, inside its transaction.
//
// The database stays the truth. Rows are invalidated when the version that a
// transaction finds is not the one remembered, because another process has
// committed. All rows are when a job has changed rows by SQL, and when the clock went
// back over midnight. A change of one workspace's configuration invalidates
// the rows of that workspace alone. An invalid row is read again when it is
// next needed, so an invalidation costs nothing by itself.
//
// flush writes the changed rows: before the batch's COMMIT, and before any job
// that reads them by SQL. A job runs its SQL first and changes cached rows
// last, when nothing can fail any more. So a job that is rolled back leaves
// nothing behind in the cache. When a whole batch is rolled back, the cache is
// purged.
type cache struct {
	generation      int64                         // counts invalidations; every row has the one it was read in
	allSince        int64                         // rows of an earlier generation are invalid
	slotSince       [workspaceSlots]int64         // the same for the workspaces of one slot
	externalCommits int64                         // counts other processes' commits, as far as they were seen
	outdated        uint64                        // counts how often rows that were read before became invalid by them
	known           int64                         // version of the database that valid rows were read under
	knownOf         *lru.LRU[WorkspaceKey, int64] // and of workspaces, where the engine knows them
	today           int64                         // day of the latest job
	wrote           bool                          // the job has written something
	dirty           []cacheRow

	blocks    map[blockKey]*cachedBlock // of payloads, that flush is to store
	newBlocks [newBlocks]*cachedBlock   // that it stored last
	nextNew   int
	// Memory of blocks that were stored before those.
	spareBlocks []payload.Block

	segment      int64 // the one being filled; 0 before the first step
	segmentSteps int64 // about how many steps it has

	workspaces *table[WorkspaceKey, *cachedWorkspace]
	keys       *table[idKey, *cachedKey]
	users      *table[idKey, *cachedUser]
	userIDs    *table[nameKey, *cachedID]
	models     *table[idKey, *cachedModel]
	modelIDs   *table[nameKey, *cachedID]
	runs       *table[runKey, *cachedRun]
	days       *table[dayKey, *cachedDay]
	userDays   *table[partKey, *cachedUserDay]
	modelDays  *table[partKey, *cachedModelDay]
	keyDays    *table[partKey, *cachedKeyDay]
	tagDays    *table[tagDayKey, *cachedTagDay]
	tagValues  *table[dayKey, *cachedTagValues]
	minutes    *table[minuteKey, *cachedMinute]
	points     *table[idKey, *cachedPoint]

	limits         *table[limitKey, *cachedLimit]
	limitReads     int         // since the last flush
	policySets     *policySets // the Store's
	reviewsDecided bool        // by the batch

	catalogue *prices.Catalogue // of published prices; nil for none
	unsaved   []pricePoint      // by -1-id: those that a dry run has come upon
}

// How many rows of each kind may be cached. MinCacheSize is more than a batch
// can touch, so that no changed row is evicted before it is written.
const (
	// MinCacheSize is what a full batch may change, and some more.
	MinCacheSize     = 4 * maxBatch
	DefaultCacheSize = 20_000
)

// newCache returns an empty cache for up to size rows of each kind.
func newCache(size int, catalogue *prices.Catalogue) *cache {
	return &cache{
		catalogue:  catalogue,
		blocks:     make(map[blockKey]*cachedBlock),
		knownOf:    newLRU[WorkspaceKey, int64](size),
		workspaces: newTable(size, loadWorkspace),
		keys:       newTable(size, loadKey),
		users:      newTable(size, loadUser),
		userIDs:    newTable(size, loadUserID),
		models:     newTable(size, loadModel),
		modelIDs:   newTable(size, loadModelID),
		runs:       newTable(size, loadRun),
		days:       newTable(size, loadDay),
		userDays:   newTable(size, loadUserDay),
		modelDays:  newTable(size, loadModelDay),
		keyDays:    newTable(size, loadKeyDay),
		tagDays:    newTable(size, loadTagDay),
		tagValues:  newTable(size, loadTagValues),
		minutes:    newTable(size, loadMinute),
		points:     newTable(size, loadPoint),
		limits:     newTable(max(size, 4*MinCacheSize), loadLimit),
	}
}

// begin compares the versions that a transaction finds with those remembered.
// From then on nobody else can commit what concerns them.
func (c *cache) begin(found versions) {
	if found.all != c.known {
		c.externalCommits++
		if c.known != 0 {
			c.outdated++
		}
	}
	if found.all != c.known || found.everything {
		c.segment, c.segmentSteps = 0, 0 // so that segments only grow, whoever fills them
		c.invalidateAll()
	}
	for _, w := range found.of {
		if known, ok := c.knownOf.Get(w.ws); !ok || known != w.version {
			c.externalCommits++
			if ok {
				c.outdated++
			}
			c.invalidate(w.ws)
		}
	}
	c.remember(found)
}

// remember keeps the versions that a transaction has found, or left.
func (c *cache) remember(v versions) {
	c.known = v.all
	for _, w := range v.of {
		c.knownOf.Add(w.ws, w.version)
	}
}

// invalidateAll makes every row be read again when it is next needed. Changed
// rows must have been flushed.
func (c *cache) invalidateAll() {
	c.generation++
	c.allSince = c.generation
}

// workspaceSlots is how many workspaces are told apart when one of them is
// invalidated. Two in one slot cost each other a few reads.
const workspaceSlots = 1024

// workspaceSlot returns the slot of a workspace. The conversion makes negative ids positive.
func workspaceSlot(ws WorkspaceKey) int { return int(uint64(ws) % workspaceSlots) }

// invalidate is invalidateAll for the rows of one workspace.
func (c *cache) invalidate(ws WorkspaceKey) {
	c.generation++
	c.slotSince[workspaceSlot(ws)] = c.generation
}

// valid reports whether a row of a workspace was read after the latest
// invalidation that concerns it.
func (c *cache) valid(r *cached, ws WorkspaceKey) bool {
	return r.readAt >= c.allSince && r.readAt >= c.slotSince[workspaceSlot(ws)]
}

// startDay flushes at midnight: a new day's row sums up the days before it,
// which must be in the file by then. When the clock went back over midnight,
// it also invalidates, because a later day's row sums up days that are open again.
func (c *cache) startDay(tx *Tx) error {
	day := dayOf(tx.now)
	back := day < c.today
	if day == c.today {
		return nil
	}
	c.today = day
	if back {
		defer c.invalidateAll()
	}
	return c.flush(tx)
}

// markDirty has the next flush write a row.
func (c *cache) markDirty(r cacheRow) {
	c.wrote = true
	if e := r.entry(); !e.dirty {
		e.dirty = true
		c.dirty = append(c.dirty, r)
	}
}

// nearlyFull reports whether a job of many rows must stop, so that its changes
// are written before they could be evicted.
func (c *cache) nearlyFull() bool { return len(c.dirty) > MinCacheSize/2 }

// flush writes what has changed. It runs outside of every job's savepoint.
func (c *cache) flush(tx *Tx) error {
	for i, r := range c.dirty {
		if err := r.save(tx); err != nil {
			return fmt.Errorf("write %T: %v", r, err) // not %w: that a row is gone is no caller's "not found"
		}
		r.entry().dirty = false
		c.dirty[i] = nil
	}
	c.dirty, c.limitReads = c.dirty[:0], 0
	return nil
}

// giveUp forgets what a batch has read and changed, which was rolled back. One that
// is run again has changed its own workspaces alone.
func (s *Store) giveUp(err error) {
	if s.engine.again(err) {
		s.cache.abandon(s.scopes)
	} else {
		s.cache.purge()
	}
}

// abandon drops what a batch of some scopes has read and changed, after a rollback.
func (c *cache) abandon(scopes []WorkspaceKey) {
	if slices.Contains(scopes, wholeDatabase) {
		c.purge()
		return
	}
	for i, r := range c.dirty {
		r.entry().dirty = false
		c.dirty[i] = nil
	}
	c.dirty, c.limitReads = c.dirty[:0], 0
	c.segment, c.segmentSteps = 0, 0
	clear(c.blocks)
	clear(c.newBlocks[:])
	for _, ws := range scopes {
		c.invalidate(ws)
	}
}

// purge drops all rows, after a rollback of what was flushed or was to be flushed.
func (c *cache) purge() {
	c.dirty = nil
	clear(c.blocks)
	clear(c.newBlocks[:])
	for _, t := range []interface{ purge() }{
		c.workspaces, c.keys, c.users, c.userIDs, c.models, c.modelIDs, c.runs, c.days, c.userDays, c.modelDays, c.keyDays, c.tagDays,
		c.tagValues, c.minutes, c.points, c.limits,
	} {
		t.purge()
	}
}

// keepBlock keeps a block that was stored, in place of one that was stored earlier. The memory of
// that one is for the next block.
func (c *cache) keepBlock(b *cachedBlock) {
	last := &c.newBlocks[c.nextNew]
	c.nextNew = (c.nextNew + 1) % len(c.newBlocks)
	if *last != nil && len(c.spareBlocks) < len(c.newBlocks) && (*last).Memory() <= 2*payload.BlockSize {
		(*last).Reuse()
		c.spareBlocks = append(c.spareBlocks, (*last).Block)
		(*last).Block = payload.Block{}
	}
	*last = b
}

// emptyBlock is a block with nothing in it, with memory of an earlier one where there is some.
func (c *cache) emptyBlock() (b payload.Block) {
	if last := len(c.spareBlocks) - 1; last >= 0 {
		b, c.spareBlocks = c.spareBlocks[last], c.spareBlocks[:last]
	}
	return b
}

// cacheRow is a row of some kind in the cache.
type cacheRow interface {
	entry() *cached
	save(*Tx) error
}

// cached is embedded in every kind of row in the cache.
type cached struct {
	readAt int64 // generation of the cache
	dirty  bool  // differs from the database
}

// entry returns the part that all kinds of rows have.
func (c *cached) entry() *cached { return c }

// rowKey names a row of a workspace.
type rowKey interface {
	comparable
	workspace() WorkspaceKey
}

// table holds the most recently used rows of one kind.
type table[K rowKey, R cacheRow] struct {
	rows *lru.LRU[K, R]
	load func(*Tx, K) (R, error)
}

// newTable returns an empty table that reads missing rows with load.
func newTable[K rowKey, R cacheRow](size int, load func(*Tx, K) (R, error)) *table[K, R] {
	return &table[K, R]{rows: newLRU[K, R](size), load: load}
}

// newLRU returns an LRU map. It is not safe for concurrent use; only the writer uses it.
func newLRU[K comparable, V any](size int) *lru.LRU[K, V] {
	rows, err := lru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // Open has checked the size
	}
	return rows
}

// get returns a row as this transaction sees it: ErrNotFound when there is none. A row with
// unwritten changes was changed in this transaction, so it is right whatever was invalidated since;
// reading it again would lose the changes.
func (t *table[K, R]) get(tx *Tx, key K) (R, error) {
	if tx.scope != wholeDatabase && tx.scope != key.workspace() {
		var none R // it may be outdated: nobody has asked whether somebody else has changed it
		return none, fmt.Errorf("a write in scope %d asks for a row of workspace %d", tx.scope, key.workspace())
	}
	if r, ok := t.rows.Get(key); ok {
		if e := r.entry(); e.dirty || tx.cache.valid(e, key.workspace()) {
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

// peek returns a row that is cached and valid.
func (t *table[K, R]) peek(tx *Tx, key K) (r R, ok bool) {
	if r, ok = t.rows.Peek(key); ok {
		e := r.entry()
		ok = e.dirty || tx.cache.valid(e, key.workspace())
	}
	return r, ok
}

// put caches a row that the job has just read or inserted, unless the job fails.
func (t *table[K, R]) put(tx *Tx, key K, r R) {
	r.entry().readAt = tx.cache.generation
	t.rows.Add(key, r)
	tx.undo = append(tx.undo, func() { t.remove(key) })
}

// remove drops a row that has no changes.
func (t *table[K, R]) remove(key K) { t.rows.Remove(key) }

// purge drops the rows of one kind, changed ones too.
func (t *table[K, R]) purge() { t.rows.Purge() }

// knownCall is what a job is known to read: the rows of its caller, of a run and of a model.
type knownCall struct {
	Caller
	run   uuid.UUID // uuid.Nil for none
	model *string
}

// ahead are rows that are read before the jobs that need them, all together.
type ahead struct {
	tx   *Tx
	seen map[any]bool
	fns  []func(postgres.Reader)
}

// readAhead reads the rows that a batch is known to need and that are not cached,
// as after another node has written in their workspace. Where that is not all, or
// a row is gone, a job reads for itself.
func (s *Store) readAhead(batch []*job) error {
	list := ahead{tx: s.transaction()}
	for _, j := range batch {
		c := j.call
		if c.Workspace == 0 {
			continue
		}
		ws := c.Workspace
		today := dayKey{ws, dayOf(list.tx.now)}
		if c.Key != 0 {
			want(&list, s.cache.keys, idKey{ws, int64(c.Key)})
		}
		want(&list, s.cache.workspaces, ws)
		want(&list, s.cache.days, today)
		if c.model != nil {
			want(&list, s.cache.modelIDs, nameKey{ws, *c.model})
		}
		if c.run == uuid.Nil {
			continue
		}
		key := runKey{ws, c.run}
		want(&list, s.cache.runs, key)
		if r, ok := s.cache.runs.rows.Peek(key); ok { // perhaps outdated, but of the same user
			want(&list, s.cache.users, idKey{ws, r.userID})
			want(&list, s.cache.userDays, partKey{today, r.userID})
		}
	}
	if len(list.fns) < 2 {
		return nil
	}
	return list.tx.pipeline.Together(list.tx.ctx, list.fns)
}

// want adds a row to those that are read ahead, unless it is there.
func want[K rowKey, R cacheRow](list *ahead, t *table[K, R], key K) {
	if r, ok := t.rows.Peek(key); ok && list.tx.cache.valid(r.entry(), key.workspace()) {
		return
	}
	of := struct{ table, key any }{t, key}
	if list.seen == nil {
		list.seen = make(map[any]bool)
	}
	if list.seen[of] {
		return
	}
	list.seen[of] = true
	list.fns = append(list.fns, func(r postgres.Reader) {
		tx := *list.tx
		tx.conn, tx.scope, tx.undo = r, key.workspace(), nil
		_, _ = t.get(&tx, key) // the job that needs it reads it again, and then has the error
	})
}

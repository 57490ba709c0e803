package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
)

// add is a write whose effect is one row of that name.
func add(name string) func(*Tx) error {
	return func(tx *Tx) error {
		return tx.execOne(`INSERT INTO idempotency_keys (workspace_id, run_id, key, fingerprint, answer, created_at)
			VALUES (0, 0, $1, $2, $2, 0)`, name, []byte{})
	}
}

const countRows = `SELECT count(*) FROM idempotency_keys`

func (w *world) rows(name string) int64 {
	w.t.Helper()
	return w.number(countRows+` WHERE key = $1`, name)
}

// submit queues a write without waiting for it.
func (w *world) submit(ctx context.Context, fn func(*Tx) error) *job {
	w.t.Helper()
	return w.submitAs(ctx, modeBulkSQL, fn)
}

func (w *world) submitAs(ctx context.Context, mode txMode, fn func(*Tx) error) *job {
	w.t.Helper()
	j := &job{ctx: ctx, mode: mode, fn: fn, done: make(chan error, 1)}
	w.must(w.enqueue(j, false))
	return j
}

// hold keeps the writer inside a write of its own until release is called, so
// that whatever is queued meanwhile is one batch.
func (w *world) hold() (release func()) {
	w.t.Helper()
	started, freed := make(chan struct{}), make(chan struct{})
	j := w.submit(context.Background(), func(*Tx) error {
		close(started)
		<-freed
		return nil
	})
	<-started
	return func() {
		w.t.Helper()
		close(freed)
		w.must(<-j.done)
	}
}

func TestFailedOrPanickedWriteHarmsNoOtherInItsBatch(t *testing.T) {
	w := newWorld(t)
	release := w.hold()
	broken := errors.New("broken")
	before := w.submit(t.Context(), add("before"))
	fails := w.submit(t.Context(), func(tx *Tx) error { return errors.Join(add("fails")(tx), broken) })
	between := w.submit(t.Context(), add("between"))
	panics := w.submit(t.Context(), func(tx *Tx) error { panic(add("panics")(tx)) })
	refused := w.submit(t.Context(), func(tx *Tx) error { return errors.Join(add("refused")(tx), add("refused")(tx)) })
	after := w.submit(t.Context(), add("after"))
	release()

	for name, j := range map[string]*job{"before": before, "between": between, "after": after} {
		if err := <-j.done; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n := w.rows(name); n != 1 {
			t.Errorf("%s: %d rows", name, n)
		}
	}
	for want, j := range map[error]*job{broken: fails, errJobPanicked: panics, nil: refused} {
		err := <-j.done
		if err == nil || errors.Is(err, ErrUnavailable) || want != nil && !errors.Is(err, want) {
			t.Errorf("answer is %v, want %v alone", err, want)
		}
	}
	for _, name := range []string{"fails", "panics", "refused"} {
		if n := w.rows(name); n != 0 {
			t.Errorf("%s left %d rows", name, n)
		}
	}
}

func TestWriteWhoseContextEndedBeforeItsTurnDoesNotRun(t *testing.T) {
	w := newWorld(t)
	release := w.hold()
	ctx, cancel := context.WithCancel(t.Context())
	gone := w.submit(ctx, add("gone"))
	stays := w.submit(t.Context(), add("stays"))
	cancel()
	release()
	if err := <-gone.done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled write: %v", err)
	}
	w.must(<-stays.done)
	if w.rows("gone") != 0 || w.rows("stays") != 1 {
		t.Error("the cancelled write ran, or took its neighbour with it")
	}
}

func TestWriteThatStartedAnswersTheTruthThoughItsContextEnds(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	err := w.write(ctx, modeBulkSQL, func(tx *Tx) error {
		cancel()
		return add("done")(tx)
	})
	if err != nil || w.rows("done") != 1 {
		t.Errorf("err %v, %d rows", err, w.rows("done"))
	}
}

func TestAnswerComesOnlyAfterTheCommit(t *testing.T) {
	w := newWorld(t)
	release := w.hold()
	committed := false
	first := w.submit(t.Context(), func(tx *Tx) error {
		w.onCommit(func() bool {
			committed = true
			if w.rows("row") != 0 {
				t.Error("another connection sees the row before the commit")
			}
			return true
		})
		return add("row")(tx)
	})
	// Another write of the same batch lies between the first one's end and the commit.
	second := w.submit(t.Context(), func(*Tx) error {
		if len(first.done) != 0 {
			t.Error("answered while its batch still runs")
		}
		return nil
	})
	release()
	w.must(<-first.done)
	if !committed || w.rows("row") != 1 {
		t.Error("answered before the commit")
	}
	w.must(<-second.done)
}

func TestWhatIsQueuedSharesOneCommit(t *testing.T) {
	const jobs = 2*maxBatch + 1
	w := newWorld(t)
	var commits []int64
	ran := int64(0) // of the queued writes; none of them is in the holder's commit
	w.onCommit(func() bool {
		commits = append(commits, ran)
		return true
	})
	release := w.hold()
	queued := make([]*job, jobs)
	for i := range queued {
		queued[i] = w.submit(t.Context(), func(tx *Tx) error {
			ran++
			return add(fmt.Sprint(i))(tx)
		})
	}
	release()
	for _, j := range queued {
		w.must(<-j.done)
	}
	if fmt.Sprint(commits) != fmt.Sprint([]int64{0, maxBatch, 2 * maxBatch, jobs}) {
		t.Errorf("%d queued writes were committed up to the numbers %v", jobs, commits)
	}
	if n := w.number(countRows); n != jobs {
		t.Errorf("%d rows", n)
	}
}

func TestLoneWriteWaitsForNoCompany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		started := time.Now()
		w.must(w.write(t.Context(), modeBulkSQL, add("lone")))
		if waited := time.Since(started); waited != 0 {
			t.Errorf("waited %v on a timer", waited)
		}
	})
}

func TestFullQueueIsBusyAtOnceAndOnlyWhileFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where waiting for a place would be a deadlock
		w := newWorld(t, func(o *Options) { o.QueueSize = 2 })
		release := w.hold()
		queued := []*job{w.submit(t.Context(), add("a")), w.submit(t.Context(), add("b"))}
		if err := w.write(t.Context(), modeBulkSQL, add("c")); !errors.Is(err, ErrBusy) {
			t.Errorf("third write: %v", err)
		}
		release()
		for _, j := range queued {
			w.must(<-j.done)
		}
		w.must(w.write(t.Context(), modeBulkSQL, add("d")))
		if w.rows("c") != 0 || w.rows("d") != 1 {
			t.Error("the refused write ran, or the later one did not")
		}
	})
}

func TestCloseAnswersWhatIsQueuedAndRefusesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		release := w.hold()
		var queued []*job
		for i := range 5 {
			queued = append(queued, w.submit(t.Context(), add(fmt.Sprint(i))))
		}
		closed := make(chan error, 1)
		go func() { closed <- w.Close() }()
		synctest.Wait() // Close now waits for the writer
		if err := w.write(t.Context(), modeBulkSQL, add("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("write while closing: %v", err)
		}
		if len(closed) != 0 {
			t.Error("closed while a write was under way")
		}
		release()
		for _, j := range queued {
			w.must(<-j.done)
		}
		w.must(<-closed)
		if err := w.write(t.Context(), modeBulkSQL, add("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("write after closing: %v", err)
		}
		w.must(w.Close()) // again
		if n := w.number(countRows); n != 5 {
			t.Errorf("%d of 5 queued writes were kept", n)
		}
	})
}

func TestLockOfAnotherProcessIsUnavailableUntilReleased(t *testing.T) {
	lock, unlock, patience := "BEGIN IMMEDIATE", "ROLLBACK", sqlite.BusyTimeout
	inBubble := synctest.Test // where a file's patience takes no time
	if onPostgres != nil {
		patience = 200 * time.Millisecond
		lock, unlock = fmt.Sprintf(`SELECT pg_advisory_lock(%d)`, postgres.LedgerLock), `SELECT pg_advisory_unlock_all()`
		inBubble = func(t *testing.T, f func(*testing.T)) { f(t) }
	}
	inBubble(t, func(t *testing.T) {
		w := newWorld(t, func(o *Options) { o.AnswerTimeout = patience })
		other := w.conn()
		_, err := other.ExecContext(t.Context(), lock)
		w.must(err)
		started := time.Now()
		release := make(chan error, 2)
		for _, name := range []string{"a", "b"} {
			go func() { release <- w.write(t.Context(), modeBulkSQL, add(name)) }()
		}
		for range 2 {
			if err := <-release; !errors.Is(err, ErrUnavailable) {
				t.Errorf("write under another's lock: %v", err)
			}
		}
		if waited := time.Since(started); waited < patience || onPostgres == nil && waited > 2*patience {
			t.Errorf("gave up after %v", waited)
		}
		_, err = other.ExecContext(t.Context(), unlock)
		w.must(err)
		w.must(w.write(t.Context(), modeBulkSQL, add("c")))
		if n := w.number(countRows); n != 1 {
			t.Errorf("%d rows, want that of the last write alone", n)
		}
	})
}

func TestFailedCommitIsUnavailableToTheWholeBatch(t *testing.T) {
	for name, breakIt := range map[string]func(*world) *job{
		// The database finds something only then: SQLite keeps the transaction open ...
		"left open": func(w *world) *job {
			if w.url != "" {
				_, err := w.otherProcess.ExecContext(w.t.Context(), `ALTER TABLE api_keys ALTER CONSTRAINT api_keys_workspace_id_fkey
					DEFERRABLE INITIALLY DEFERRED`)
				w.must(err)
			}
			return w.submit(w.t.Context(), func(tx *Tx) error {
				var err error
				if w.url == "" {
					_, err = tx.exec(`PRAGMA defer_foreign_keys = 1`)
				}
				_, err2 := tx.exec(w.bytesIn(`INSERT INTO api_keys (uuid, workspace_id, prefix, hash, sealed, label, created_at, is_first)
					VALUES (x'', 404, '', x'', x'', '', 0, 0)`))
				return errors.Join(err, err2)
			})
		},
		// ... or the transaction is rolled back already.
		"rolled back": func(w *world) *job {
			return w.submit(w.t.Context(), func(tx *Tx) error {
				w.onCommit(func() bool { return false })
				return add("breaks")(tx)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			release := w.hold()
			ran := false
			jobs := []*job{w.submit(t.Context(), add("a")), nil, nil, nil}
			jobs[1] = breakIt(w)
			jobs[2] = w.submit(t.Context(), add("b"))
			jobs[3] = w.submit(t.Context(), func(*Tx) error { ran = true; return ErrNotFound })
			w.mustFailAll(release, jobs)
			if !ran {
				t.Error("the last write of the batch never ran")
			}
			w.onCommit(nil)
			w.must(w.write(t.Context(), modeBulkSQL, add("later")))
			if n := w.number(countRows); n != 1 {
				t.Errorf("%d rows, want that of the later write alone", n)
			}
		})
	}
}

// mustFailAll releases the writer and wants every job unavailable, whatever it had found.
func (w *world) mustFailAll(release func(), jobs []*job) {
	w.t.Helper()
	release()
	for i, j := range jobs {
		if err := <-j.done; !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrNotFound) {
			w.t.Errorf("job %d of a lost batch: %v", i, err)
		}
	}
}

func TestFullDiskInAWriteLosesTheBatchWholeAndHeals(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	limitPages := func(n int64) {
		limit := func() error { return w.file().writer.Run(fmt.Sprintf(`PRAGMA max_page_count = %d`, n)) }
		w.must(w.write(t.Context(), modeBulkSQL, func(*Tx) error { return limit() }))
		w.hooks().onReopen = limit
	}
	limitPages(w.number(`PRAGMA page_count`) + 2)
	rows := `SELECT (SELECT count(*) FROM runs) + (SELECT count(*) FROM run_metadata) + (SELECT count(*) FROM idempotency_keys)
		+ (SELECT count(*) FROM users) + (SELECT count(*) FROM workspace_days) + (SELECT sum(running_runs) FROM workspaces)`
	before := w.number(rows)
	large := NewRun{UserID: "u", Metadata: bytes.Repeat([]byte(" "), 100_000)}

	release := w.hold()
	jobs := []*job{
		w.submit(t.Context(), add("a")),
		w.submit(t.Context(), func(*Tx) error { return ErrNotFound }),
		w.submit(t.Context(), func(tx *Tx) error {
			_, err := startRun(tx, Caller{Workspace: ws}, large, guard.Decide, nil)
			if err == nil || !strings.Contains(err.Error(), "full") {
				t.Errorf("the large run: %v", err)
			}
			return err
		}),
		w.submit(t.Context(), add("b")),
	}
	w.mustFailAll(release, jobs)
	if after := w.number(rows); after != before {
		t.Errorf("%d rows stayed of a lost batch", after-before)
	}
	if _, err := w.StartRun(t.Context(), Caller{Workspace: ws}, large, guard.Decide); !errors.Is(err, ErrUnavailable) ||
		!errors.Is(err, ErrNoSpace) || !strings.Contains(err.Error(), "no space left on "+filepath.Dir(w.path)) {
		t.Errorf("alone, on a full disk: %v", err)
	}

	limitPages(1 << 30)
	if _, err := w.StartRun(t.Context(), Caller{Workspace: ws}, large, guard.Decide); err != nil {
		t.Errorf("after there is room again: %v", err)
	}
}

package storage

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/dbfile"
)

// clock is the time of a test's store: it stands still until moved.
type clock struct{ nanos atomic.Int64 }

func (c *clock) Now() time.Time          { return time.Unix(0, c.nanos.Load()).UTC() }
func (c *clock) Set(t time.Time)         { c.nanos.Store(t.UnixNano()) }
func (c *clock) Advance(d time.Duration) { c.nanos.Add(int64(d)) }

// noon is when every test's clock starts: the middle of a day and of a month.
func noon() time.Time { return time.Date(2026, 11, 15, 12, 0, 0, 0, time.UTC) }

// world is a store on a real file of the current schema, with its clock. Its
// helpers end the test on an error, so other goroutines call the Store itself.
type world struct {
	*Store
	*clock
	t     testing.TB
	path  string
	aside *sql.DB      // connections of its own, as another process would have
	made  atomic.Int64 // accounts
}

// emptyDatabase is a migrated file, made once: migrating takes a second with the race detector.
var emptyDatabase = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "pikarc-storage-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "pikarc.db")
	if _, err := dbfile.Migrate(context.Background(), path, embed.Migrations()); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: new(clock), path: filepath.Join(t.TempDir(), "pikarc.db")}
	w.clock.Set(noon())
	empty, err := emptyDatabase()
	w.must(err)
	w.must(os.WriteFile(w.path, empty, 0o600))
	w.aside, err = sql.Open("sqlite", "file:"+w.path)
	w.must(err)
	t.Cleanup(func() { w.must(w.aside.Close()) })
	w.Store = openStore(t, w.path, w.clock.Now, change...)
	return w
}

// openStore opens a migrated file, and closes it at the end of the test.
func openStore(t testing.TB, path string, now func() time.Time, change ...func(*Options)) *Store {
	t.Helper()
	secret, err := auth.LoadSecret(filepath.Dir(path), "a secret that only tests of the store use")
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Migrations: embed.Migrations(), Secret: secret, Now: now}
	for _, c := range change {
		c(&opts)
	}
	s, err := Open(t.Context(), path, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// workspace makes an account, and returns its workspace as the plan starts it.
func (w *world) workspace(plan plans.ID) WorkspaceKey {
	w.t.Helper()
	in := NewAccount{Email: fmt.Sprintf("a%d@example.com", w.made.Add(1)), PasswordHash: "x", Plan: plan}
	_, ws, _, err := w.CreateAccount(context.Background(), in)
	w.must(err)
	return ws.Key()
}

// roomy makes a workspace that no limit stops: scale, with the largest concurrency.
func (w *world) roomy() WorkspaceKey {
	w.t.Helper()
	ws, most := w.workspace(plans.Scale), int64(plans.MaxConcurrency)
	_, err := w.UpdateWorkspace(context.Background(), ws, WorkspaceChange{MaxConcurrentRuns: &most})
	w.must(err)
	return ws
}

// caller is the workspace's first key, as the writer is told of it.
func (w *world) caller(ws WorkspaceKey) Caller {
	w.t.Helper()
	c := Caller{Workspace: ws}
	w.must(w.read(context.Background(), func(tx *Tx) error {
		return tx.get(`SELECT id FROM api_keys WHERE workspace_id = $1 AND is_first = 1`, []any{ws}, &c.Key)
	}))
	return c
}

func (w *world) start(ws WorkspaceKey, user string) Answer {
	w.t.Helper()
	a, err := w.StartRun(context.Background(), w.caller(ws), NewRun{UserID: user}, guard.Decide)
	w.must(err)
	return a
}

// step asks for a model call of "gpt-4o".
func (w *world) step(ws WorkspaceKey, run uuid.UUID) Answer {
	w.t.Helper()
	model := "gpt-4o"
	a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
	w.must(err)
	return a
}

// patch completes a step with its tokens.
func (w *world) patch(ws WorkspaceKey, run, step uuid.UUID, prompt, completion int64) Step {
	w.t.Helper()
	in := StepUpdate{Status: StepCompleted, PromptTokens: &prompt, CompletionTokens: &completion}
	s, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in)
	w.must(err)
	return s.Step
}

func (w *world) end(ws WorkspaceKey, run uuid.UUID, status RunStatus) RunEnd {
	w.t.Helper()
	e, err := w.EndRun(context.Background(), Caller{Workspace: ws}, run, status, EndedByClient)
	w.must(err)
	return e
}

// price sets a model's price, in pico-USD a token.
func (w *world) price(ws WorkspaceKey, model string, input, output plans.Price) {
	w.t.Helper()
	_, err := w.SetPrice(context.Background(), ws, ModelPrice{Model: model, Input: input, Output: output, Active: true})
	w.must(err)
}

// file is what keeps the store in a file, for tests of what is SQLite's alone.
func (w *world) file() *sqliteEngine { return w.engine.(*sqliteEngine) }

// conn is a connection that takes no part in the store's transactions, and
// never waits for a lock.
func (w *world) conn() *sql.Conn {
	w.t.Helper()
	conn, err := w.aside.Conn(context.Background())
	w.must(err)
	w.t.Cleanup(func() { w.must(conn.Close()) })
	return conn
}

// number runs a query of one integer, aside of the store.
func (w *world) number(query string, args ...any) (n int64) {
	w.t.Helper()
	w.must(w.aside.QueryRowContext(context.Background(), query, args...).Scan(&n))
	return n
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/postgres"
)

// These tests need PostgreSQL, so they run when the others do on it. TestMain
// leaves them out on SQLite.

// columnsOf lists the tables of a database with their columns and whether each
// can be null.
func columnsOf(t *testing.T, db *sql.DB, query string) map[string][]string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][]string)
	for rows.Next() {
		var table, column string
		var required bool
		if err := rows.Scan(&table, &column, &required); err != nil {
			t.Fatal(err)
		}
		all[table] = append(all[table], fmt.Sprint(column, " required: ", required))
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		t.Fatal(err)
	}
	for _, columns := range all {
		slices.Sort(columns)
	}
	return all
}

// A migration of one engine needs its like for the other.
func TestPostgresHasTheTablesOfSQLite(t *testing.T) {
	w := newWorld(t)
	here := columnsOf(t, w.otherProcess, `SELECT table_name, column_name, is_nullable = 'NO' FROM information_schema.columns
		WHERE table_schema = 'public'`)
	lite, err := sql.Open("sqlite", "file:"+migrated(t, embed.Migrations()))
	w.must(err)
	defer func() { w.must(lite.Close()) }()
	there := columnsOf(t, lite, `SELECT m.name, c.name, c."notnull" OR c.pk > 0 AND m.type = 'table'
		FROM sqlite_master m, pragma_table_info(m.name) c
		WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite%'`)
	for _, own := range []string{"goose_db_version", "writers", "ledger_version"} {
		delete(here, own)
		delete(there, own)
	}
	own := func(column string) bool { return strings.HasPrefix(column, "version ") }
	here["workspaces"] = slices.DeleteFunc(here["workspaces"], own)
	for _, table := range slices.Sorted(maps.Keys(there)) {
		if table != "run_steps" && !slices.Equal(here[table], there[table]) { // of a view nobody says what can be null
			t.Errorf("%s\n in PostgreSQL has %q,\n in SQLite %q", table, here[table], there[table])
		}
		delete(here, table)
	}
	if len(here) > 0 {
		t.Errorf("in PostgreSQL alone: %q", here)
	}
}

// What one node has committed holds for the very next decision of another.
func TestWhatOneNodeChangesHoldsForTheOthersNextDecision(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	other, run := w.second(), w.start(ws, "u").ID
	model := "gpt-4o"
	for i := range 100 {
		for _, active := range []bool{true, false} {
			_, err := w.SetKillSwitch(t.Context(), ws, active, "")
			w.must(err)
			a, err := other.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
			w.must(err)
			if a.Decision.Allowed() == active {
				t.Fatalf("round %d: the kill switch is %v, and the other node says %+v", i, active, a.Decision)
			}
		}
		w.step(ws, run) // so that either node's cache has what the other has outdated
	}
	w.mustVerify()
}

// A node that has found for a while what it expected asks for versions no longer. It
// decides on what another one has changed all the same, and books once.
func TestABatchThatExpectedAnotherVersionIsRunAgain(t *testing.T) {
	w := newWorld(t)
	ws, aside := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	writer := w.engine.(*postgresEngine).writer
	other, run := w.second(), w.start(ws, "u").ID
	for name, change := range map[string]func(active bool) error{
		"the workspace": func(active bool) error {
			_, err := other.SetKillSwitch(t.Context(), ws, active, "")
			return err
		},
		"everything": func(active bool) error {
			return other.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
				return tx.execOne(`UPDATE workspaces SET kill_switch = $2 WHERE id = $1`, ws, boolInt(active))
			})
		},
	} {
		for round := range 10 {
			for _, active := range []bool{true, false} {
				for range 2 * trusted { // of both workspaces, so that each is expected
					w.step(aside, w.start(aside, "u").ID)
					w.step(ws, run)
				}
				before := writer.RoundTrips()
				w.step(ws, run)
				if n := writer.RoundTrips() - before; n != 1 {
					t.Fatalf("%s, round %d: a step has asked before, in %d round trips", name, round, n)
				}
				w.must(change(active))
				if a := w.step(ws, run); a.Decision.Allowed() == active {
					t.Fatalf("%s, round %d: the kill switch is %v, and the other node says %+v", name, round, active, a.Decision)
				}
			}
		}
	}
	w.mustVerify()
	w.mustRememberTheTruth()
}

// Statements of one text are sent as one of many rows. They leave what they would
// leave one after another, whatever rows they are about and in whatever order.
func TestStatementsOfManyRowsDoWhatEachWouldDo(t *testing.T) {
	w := newWorld(t)
	c, random := w.engine.(*postgresEngine).writer.Conn, rand.New(rand.NewPCG(1, 2))
	type statement struct {
		query string
		args  []any
	}
	some := func(n int) sql.NullInt64 {
		return sql.NullInt64{Int64: int64(random.IntN(n)), Valid: random.IntN(3) > 0}
	}
	text := func() *string {
		if random.IntN(3) == 0 {
			return nil
		}
		s := fmt.Sprint("a {\"b\"} NULL \\ ", random.IntN(9))
		return &s
	}
	next := int64(0)
	make := func() statement {
		id := []byte{byte(random.IntN(4))}
		switch random.IntN(7) {
		case 0:
			next++
			return statement{`INSERT INTO one (a, b, n, s) VALUES ($1, $2, $3, $4)`, []any{next + 100, id, some(9), text()}}
		case 1:
			return statement{`INSERT INTO one (a, b, n) VALUES ($1, $2, 1) ON CONFLICT (a, b) DO UPDATE SET n = coalesce(one.n, 0) + 1`,
				[]any{WorkspaceKey(random.IntN(4)), id}}
		case 2:
			return statement{`INSERT INTO one (a, b, s) VALUES ($1, $2, $3) ON CONFLICT (a, b) DO NOTHING`, []any{int64(random.IntN(4)), id, text()}}
		case 3:
			return statement{`UPDATE one SET n = $3, s = $4 WHERE a = $1 AND b = $2`, []any{int64(random.IntN(4)), id, some(9), text()}}
		case 4:
			return statement{`UPDATE one SET n = n + $1 WHERE b = $3 AND a = $2`, []any{int64(1), int64(random.IntN(4)), id}}
		case 5:
			return statement{`INSERT INTO other (a, s) VALUES ($1, $2) ON CONFLICT (a) DO UPDATE SET s = excluded.s`, []any{int64(random.IntN(4)), text()}}
		}
		return statement{`DELETE FROM one WHERE a = $1`, []any{int64(random.IntN(4))}}
	}
	const dump = `SELECT coalesce(string_agg(r, '|'), '') FROM (SELECT one::text AS r FROM one UNION ALL SELECT other::text FROM other ORDER BY 1) rows`
	after := func(send func(statement) error, all []statement) (left string) {
		for _, s := range append([]statement{
			{query: `BEGIN`},
			{query: `CREATE TEMPORARY TABLE one (a bigint, b bytea, n bigint, s text, PRIMARY KEY (a, b)) ON COMMIT DROP`},
			{query: `CREATE TEMPORARY TABLE other (a bigint PRIMARY KEY, s text) ON COMMIT DROP`},
		}, all...) {
			w.must(send(s))
		}
		w.must(c.Query(t.Context(), dump, nil, func(row postgres.Row) error { return row.Scan(&left) }))
		w.must(c.Run(t.Context(), `ROLLBACK`))
		return left
	}
	for round := range 100 {
		var all []statement
		for range random.IntN(60) {
			all = append(all, make())
		}
		each := after(func(s statement) error { _, err := c.Exec(t.Context(), s.query, s.args); return err }, all)
		together := after(func(s statement) error {
			if strings.HasPrefix(s.query, "CREATE") {
				return c.Run(t.Context(), s.query) // before others are prepared
			}
			return c.Queue(s.query, s.args, false)
		}, all)
		if each != together {
			t.Fatalf("round %d: %v\neach by itself leaves\n%s\ntogether they leave\n%s", round, all, each, together)
		}
	}
}

// Of many rows each must be there that one alone would have to be.
func TestAStatementOfManyRowsMissesNone(t *testing.T) {
	w := newWorld(t)
	ws, there, gone := w.unlimitedWorkspace(), w.unlimitedWorkspace(), WorkspaceKey(999)
	for _, missing := range []bool{false, true} {
		err := w.writeIn(t.Context(), ws, modeSQL, func(tx *Tx) error {
			var errs []error
			for _, id := range []WorkspaceKey{ws, there, gone} {
				if missing || id != gone {
					errs = append(errs, tx.queueOne(`UPDATE workspaces SET pending_reviews = $2 WHERE id = $1`, id, int64(0)))
				}
			}
			return errors.Join(errs...)
		})
		if missing != errors.Is(err, postgres.ErrNothingChanged) {
			t.Errorf("one is missing: %v, %v", missing, err)
		}
	}
}

// Of one slot that is left exactly one start gets it, whichever node is asked.
func TestTwoNodesGiveAwayTheLastSlotOnce(t *testing.T) {
	w := newWorld(t)
	ws, one := w.unlimitedWorkspace(), int64(1)
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{MaxConcurrentRuns: &one})
	w.must(err)
	nodes, caller := []*Store{w.Store, w.second()}, w.caller(ws)
	var allowed atomic.Int64
	together(200, func(i int) {
		a, err := nodes[i%2].StartRun(context.Background(), caller, NewRun{UserID: fmt.Sprint("u", i%7)}, guard.Decide)
		if err != nil {
			t.Error(err)
		}
		if err == nil && a.Decision.Allowed() {
			allowed.Add(1)
		}
	})
	if allowed.Load() != 1 {
		t.Errorf("%d runs got the one slot", allowed.Load())
	}
	w.mustVerify()
}

// What is wrong with a database is said, and never with its password.
func TestAWrongDatabaseIsRefusedWithoutItsPassword(t *testing.T) {
	w := newWorld(t)
	free := onPostgres.URL(w.name())
	for name, url := range map[string]string{
		"no such port":     "postgres://u:hunter2@127.0.0.1:99999/d",
		"no database":      "postgres://u:hunter2@127.0.0.1:5432",
		"malformed":        "postgres://u:hunter2@[::1/d",
		"an odd setting":   "postgres://u:hunter2@127.0.0.1/d?sslmode=nonsense",
		"nobody listens":   "postgres://u:hunter2@127.0.0.1:1/d",
		"another database": strings.Replace(free, "/"+w.name(), "/none", 1) + "&password=hunter2",
		"TLS is required":  strings.Replace(free, "sslmode=disable", "sslmode=require", 1) + "&password=hunter2",
	} {
		_, err := Open(t.Context(), url, Options{Migrations: embed.PostgresMigrations()})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(t.Context(), free, Options{Migrations: migrationsPlusOne(t)}); !errors.Is(err, ErrSchemaOld) {
		t.Errorf("an older schema: %v", err)
	}
	w.must(w.alter(`UPDATE goose_db_version SET version_id = 99999`))
	if _, err := Open(t.Context(), free, Options{Migrations: embed.PostgresMigrations()}); !errors.Is(err, ErrSchemaNewer) {
		t.Errorf("a newer schema: %v", err)
	}
	if err := w.Ready(t.Context()); err != nil {
		t.Errorf("ready, beside a newer node: %v", err)
	}
	w.must(w.alter(`UPDATE ledger_version SET serves_from = 99999`))
	w.probe.at = time.Time{}
	if err := w.Ready(t.Context()); !errors.Is(err, ErrSchemaNewer) {
		t.Errorf("ready: %v", err)
	}
	w.must(w.alter(`UPDATE goose_db_version SET version_id = 21 WHERE version_id = 99999`))
	w.must(w.alter(`ALTER DATABASE ` + w.name() + ` SET default_transaction_read_only = on`))
	if _, err := Open(t.Context(), free, Options{Migrations: embed.PostgresMigrations()}); !errors.Is(err, postgres.ErrReadOnly) {
		t.Errorf("read only: %v", err)
	}
}

// name is that of the world's database.
func (w *world) name() string {
	return w.url[strings.LastIndex(w.url, "/")+1 : strings.Index(w.url, "?")]
}

func (w *world) alter(statement string) error {
	_, err := w.otherProcess.ExecContext(w.t.Context(), statement)
	return err
}

// A text that PostgreSQL cannot keep fails alone.
func TestATextWithANULHarmsNoOtherWrite(t *testing.T) {
	w := newWorld(t)
	release := w.hold()
	before := w.submit(t.Context(), add("before"))
	odd := w.submit(t.Context(), add("o\x00dd"))
	after := w.submit(t.Context(), add("after"))
	release()
	if err := errors.Join(<-before.done, <-after.done); err != nil {
		t.Error(err)
	}
	if err := <-odd.done; !errors.Is(err, postgres.ErrBadText) {
		t.Error(err)
	}
}

// The figures tell of the server's answers, of other nodes, and of a connection that was lost.
func TestTheFiguresTellOfPostgresAndOfOtherNodes(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	other, before := w.second(), w.Stats()
	for range 3 {
		w.start(ws, "u")
	}
	alone := w.Stats()
	if n := alone.RoundTrips - before.RoundTrips; n < 6 {
		t.Errorf("3 batches cost %d round trips", n)
	}
	_, err := other.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	w.start(ws, "u")
	after := w.Stats()
	if alone.Outdated != before.Outdated || after.Outdated == alone.Outdated || after.Reconnects != 0 || len(after.Locks.Counts) == 0 {
		t.Errorf("alone %d, beside another node %d outdated; %d reconnects", alone.Outdated, after.Outdated, after.Reconnects)
	}
	w.administer("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" + w.name() + "'")
	w.start(ws, "u")
	if n := w.Stats().Reconnects; n != 1 {
		t.Errorf("%d reconnects after a connection was ended", n)
	}
}

// What a node commits behind what the index has passed is found all the same: a run
// of a lower number, and a step in a segment below one that another node fills.
func TestTheIndexMissesNothingOfOtherNodes(t *testing.T) {
	w := newWorld(t)
	other, here, there := w.second(), w.unlimitedWorkspace(), w.unlimitedWorkspace()
	caller := w.caller(there)
	numberFrom := func(n int) { w.must(w.alter(fmt.Sprintf("ALTER TABLE runs ALTER COLUMN id RESTART WITH %d", n))) }
	start := func(title string) uuid.UUID {
		a, err := other.StartRun(t.Context(), caller, NewRun{UserID: "u", Metadata: []byte(`{"title":"` + title + `"}`)}, guard.Decide)
		w.must(err)
		return a.ID
	}
	step := func(run uuid.UUID, model, tool string) {
		in := NewStep{Type: ModelCall, Model: &model, ToolName: &tool}
		_, err := other.CreateStep(t.Context(), Caller{Workspace: there}, run, in, guard.Decide)
		w.must(err)
	}
	w.index()
	numberFrom(100)
	early := start("early")
	step(early, "first", "t1") // in a segment of the other node
	w.step(here, w.start(here, "u").ID)
	w.index() // now in one above it
	numberFrom(50)
	late := start("late")
	step(late, "second", "t2")
	if low, all := w.number(`SELECT count(*) FROM steps WHERE segment < (SELECT max(segment) FROM steps)`),
		w.number(`SELECT count(*) FROM steps`); low != 2 || all != 3 {
		t.Fatalf("%d of %d steps are behind the newest segment", low, all)
	}
	w.index()
	w.Advance(sweepEvery)
	w.index()
	w.mustFind(there, RunFilter{Text: "early"}, RunFilter{Text: "late"}, RunFilter{Models: []string{"first"}},
		RunFilter{Models: []string{"second"}}, RunFilter{Tools: []string{"t2"}})
	step(late, "third", "t3") // goes on in a segment of its own
	w.index()
	w.mustFind(there, RunFilter{Models: []string{"third"}})
	if n, err := w.IndexRuns(t.Context()); n != 0 || err != nil {
		t.Errorf("%d were left: %v", n, err)
	}
}

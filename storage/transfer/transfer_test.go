package transfer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/demo"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
	"github.com/pikarc/server/storage/transfer"
	"github.com/pikarc/server/storage/verify"
	testpostgres "github.com/pikarc/server/testdata/postgres"
)

var server *testpostgres.Server // TestMain starts it, and nothing changes it

func TestMain(m *testing.M) {
	var err error
	if server, err = testpostgres.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	if err := server.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

const material = "a secret of the tests, long enough to be taken"

// world is a file that has something in every table, and an empty database.
type world struct {
	t    *testing.T
	file string
	url  string
	opts transfer.Options
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, file: filepath.Join(t.TempDir(), "pikarc.db"), url: newDatabase(t)}
	secret, err := auth.LoadSecret("", material)
	w.must(err)
	w.opts = transfer.Options{Secret: secret, SQLite: embed.Migrations(), Postgres: embed.PostgresMigrations()}
	filling.Do(func() {
		_, err = dbfile.Migrate(t.Context(), w.file, embed.Migrations())
		w.must(err)
		w.fill()
		filled, err = os.ReadFile(w.file)
	})
	w.must(errors.Join(err, os.WriteFile(w.file, filled, 0o600)))
	return w
}

// filled is the world's file, which is made once.
var (
	filling sync.Once
	filled  []byte
)

func newDatabase(t *testing.T) (url string) {
	t.Helper()
	name, err := server.Create("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Drop(name); err != nil {
			t.Error(err)
		}
	})
	return server.URL(name)
}

// fill has the demo make a history, and rows of its own where that has none.
func (w *world) fill() {
	w.t.Helper()
	ctx, now := w.t.Context(), time.Date(2026, 11, 23, 9, 30, 0, 0, time.UTC)
	catalogue, err := prices.ParseCatalogue(embed.Catalogue())
	w.must(err)
	store, err := storage.Open(ctx, w.file, storage.Options{
		Migrations: embed.Migrations(), Secret: w.opts.Secret, Now: func() time.Time { return now }, Catalogue: catalogue,
	})
	w.must(err)
	_, ws, _, err := store.CreateAccount(ctx, storage.NewAccount{Email: "demo@example.com", Plan: demo.Plan})
	w.must(err)
	w.must(demo.Fill(ctx, store, ws.Key(), 1, now))
	e, _, err := store.CreateEndpoint(ctx, ws.Key(), storage.NewEndpoint{
		Kind: storage.Webhook, Label: "hook", Address: "https://example.com/", Events: storage.AllEvents,
	})
	w.must(err)
	_, err = store.TestEndpoint(ctx, ws.Key(), e.ID)
	w.must(err)
	_, err = store.StartRun(ctx, storage.Caller{Workspace: ws.Key(), Key: 1}, storage.NewRun{UserID: "by a key"}, guard.Decide)
	w.must(err)
	for done := 1; done > 0; {
		done, err = store.IndexRuns(ctx)
		w.must(err)
	}
	w.must(store.Close())
	db, err := sqlite.OpenExisting(w.file)
	w.must(err)
	w.exec(db, `INSERT INTO dropped_payloads SELECT r.workspace_id, s.input_payload FROM run_steps s JOIN runs r ON r.id = s.run_id
		WHERE s.input_payload IS NOT NULL ORDER BY s.input_payload LIMIT 3`)
	w.exec(db, `UPDATE steps SET input_payload = NULL WHERE input_payload IN (SELECT place FROM dropped_payloads)`)
	w.must(db.Close())
	w.fillEmptyTables()
	report, err := verify.File(ctx, w.file, verify.Options{Migrations: embed.Migrations()})
	w.must(err)
	if !report.Clean() {
		w.t.Fatalf("the world's books (let fitting give rows of a new table values that are right): %+v", report.Differences)
	}
}

func (w *world) query(q string, each func(*sql.Rows) error) {
	w.t.Helper()
	db, err := sqlite.OpenExisting(w.file)
	w.must(err)
	rows, err := db.QueryContext(w.t.Context(), q)
	w.must(err)
	for rows.Next() {
		w.must(each(rows))
	}
	w.must(errors.Join(rows.Err(), rows.Close(), db.Close()))
}

func (w *world) exec(db *sql.DB, query string, args ...any) {
	w.t.Helper()
	if _, err := db.ExecContext(w.t.Context(), query, args...); err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
}

// fillEmptyTables writes three rows into each table that has none: with texts and
// bytes of all sorts, and nulls where there can be.
func (w *world) fillEmptyTables() {
	w.t.Helper()
	inserts := make(map[string][]string)
	w.query(`SELECT m.name, group_concat(c.name || ' ' || c.type || ' ' || (c."notnull" OR c.pk > 0), ',')
		FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' GROUP BY 1`,
		func(rows *sql.Rows) error {
			var table, columns string
			err := rows.Scan(&table, &columns)
			inserts[table] = made(table, strings.Split(columns, ","))
			return err
		})
	db, err := sqlite.OpenExisting(w.file, sqlite.Pragma{"foreign_keys", "1"})
	w.must(err)
	defer func() { w.must(db.Close()) }()
	for _, table := range transfer.Copied() {
		var rows int
		w.must(db.QueryRowContext(w.t.Context(), `SELECT count(*) FROM `+table).Scan(&rows))
		if rows > 0 {
			continue
		}
		for _, insert := range inserts[table] {
			w.exec(db, insert)
		}
	}
}

func made(table string, columns []string) (inserts []string) {
	for row := range 3 {
		var names, values []string
		for i, column := range columns {
			c := strings.Fields(column)
			value := map[string]string{
				"INTEGER": fmt.Sprint(row + 1),
				"TEXT":    []string{`'a "text", it''s <€> 𝛑'`, `'\N\t\\'`, `'B'`}[row],
				"BLOB":    []string{`x''`, `x'00ff5c2e0a'`, `x'30'`}[row],
			}[c[1]]
			if c[2] == "0" && row == i%3 {
				value = "NULL"
			}
			if strings.HasSuffix(c[0], "workspace_id") || c[0] == "account_id" || c[0] == "policy_id" || c[0] == "endpoint_id" {
				value = "1"
			}
			if override := fitting(table, c[0], row); override != "" {
				value = override
			}
			names, values = append(names, `"`+c[0]+`"`), append(values, value)
		}
		list := strings.Join(names, ", ")
		inserts = append(inserts, fmt.Sprintf(`INSERT OR IGNORE INTO %s (%s) VALUES (%s)`, table, list, strings.Join(values, ", ")))
	}
	return inserts
}

// fitting is a value that the books are right with, or nothing where any is.
func fitting(table, column string, row int) string {
	const step = `(SELECT %s FROM steps WHERE completion_tokens > 10 AND cost_nanos IS NOT NULL ORDER BY segment, run_id, uuid LIMIT 1 OFFSET %d)`
	switch {
	case column == "run_id" || column == "segment":
		return fmt.Sprintf(step, column, row)
	case column == "step_uuid":
		return fmt.Sprintf(step, "uuid", row)
	case table == "reviews" && (column == "resolution" || column == "decided_at"):
		return "1"
	case table == "capped_steps" && strings.HasSuffix(column, "_tokens"):
		return "1000000000"
	case table == "step_usage" && column == "reported_nanos", column == "policies":
		return "NULL"
	case table == "policy_days" && column == "hit_count":
		return "0"
	}
	return ""
}

func (w *world) copy(from, to string) transfer.Report {
	w.t.Helper()
	report, err := transfer.Copy(w.t.Context(), from, to, w.opts)
	w.must(err)
	return report
}

func TestEverythingIsCopiedThereAndBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, table := range transfer.Copied() {
		w.query(`SELECT count(*) FROM `+table, func(rows *sql.Rows) error {
			var n int
			err := rows.Scan(&n)
			if n == 0 {
				t.Errorf("%s is empty, so nothing shows that it is copied: let fill make a row", table)
			}
			return err
		})
	}
	if there := w.copy(w.file, w.url); there.AlreadyThere || there.Rows < 10_000 || there.Tables != len(transfer.Copied()) {
		t.Errorf("%+v", there)
	}
	if again := w.copy(w.file, w.url); !again.AlreadyThere {
		t.Errorf("again: %+v", again)
	}
	back := filepath.Join(t.TempDir(), "pikarc.db")
	w.copy(w.url, back)
	if again := w.copy(w.url, back); !again.AlreadyThere {
		t.Errorf("back again: %+v", again)
	}
	names, err := filepath.Glob(back + "*")
	w.must(err)
	for _, name := range names {
		if strings.Contains(name, ".copy") {
			t.Errorf("%s is left over", name)
		}
	}
	w.mustServe(back)
	w.mustServe(w.url)
	if _, err := transfer.Copy(t.Context(), w.file, w.url, w.opts); !errors.Is(err, transfer.ErrHoldsOther) {
		t.Errorf("over a database that has gone on: %v", err)
	}
}

// mustServe proves that a copy takes writes: each table's next id is free.
func (w *world) mustServe(database string) {
	w.t.Helper()
	migrations := embed.Migrations()
	if strings.HasPrefix(database, "postgres") {
		migrations = embed.PostgresMigrations()
	}
	store, err := storage.Open(w.t.Context(), database, storage.Options{Migrations: migrations, Secret: w.opts.Secret})
	w.must(err)
	defer func() { w.must(store.Close()) }()
	_, ws, _, err := store.CreateAccount(w.t.Context(), storage.NewAccount{Email: "new@example.com", Plan: demo.Plan})
	w.must(err)
	run, err := store.StartRun(w.t.Context(), storage.Caller{Workspace: ws.Key()}, storage.NewRun{UserID: "new"}, guard.Decide)
	w.must(err)
	model := "a new model"
	_, err = store.CreateStep(w.t.Context(), storage.Caller{Workspace: ws.Key()}, run.ID, storage.NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
	w.must(err)
	report, err := store.Verify(w.t.Context())
	w.must(err)
	if !report.Clean() {
		w.t.Errorf("%s: %+v", database, report.Differences)
	}
}

// Whenever it ends, what comes after goes on from there, and nothing is seen before.
func TestACopyGoesOnAfterAnEndAtAnyMoment(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "pikarc.db")
	for _, way := range [][2]string{{w.file, w.url}, {w.url, file}} {
		resumed := int64(0)
		for ends := 1; ; ends++ {
			ctx, cancel := context.WithCancel(t.Context())
			opts, left := w.opts, 7*ends
			opts.Progress = func(transfer.Progress) {
				if left--; left == 0 {
					cancel()
				}
			}
			report, err := transfer.Copy(ctx, way[0], way[1], opts)
			cancel()
			resumed = max(resumed, report.Resumed)
			if err == nil {
				break
			}
			if !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			if err := mustBeNothing(way[1]); err != nil {
				t.Fatalf("after %d: %v", ends, err)
			}
		}
		if resumed == 0 {
			t.Errorf("to %s: each attempt began anew", way[1])
		}
		if again := w.copy(way[0], way[1]); !again.AlreadyThere {
			t.Errorf("to %s: %+v", way[1], again)
		}
	}
}

func mustBeNothing(place string) error {
	if !strings.HasPrefix(place, "postgres") {
		if _, err := os.Stat(place); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%s is there: %w", place, err)
		}
		return nil
	}
	db, err := sql.Open("pgx", place)
	if err != nil {
		return err
	}
	var n int
	err = db.QueryRowContext(context.Background(), `SELECT count(*) FROM pg_tables WHERE schemaname = 'public'`).Scan(&n)
	if n > 0 {
		err = fmt.Errorf("%d tables can be seen", n)
	}
	return errors.Join(err, db.Close())
}

// What the source has changed since is copied anew.
func TestACopyNoticesThatTheSourceHasChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	opts := w.opts
	opts.Progress = func(p transfer.Progress) {
		if p.Phase == transfer.VerifyingTarget {
			cancel()
		}
	}
	if _, err := transfer.Copy(ctx, w.file, w.url, opts); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	db, err := sqlite.OpenExisting(w.file)
	w.must(err)
	w.exec(db, `UPDATE users SET blocked_reason = 'since' WHERE id = (SELECT min(id) FROM users)`)
	w.exec(db, `UPDATE accounts SET email = 'Since@example.com'`)
	w.must(db.Close())
	if report := w.copy(w.file, w.url); report.Resumed == 0 || report.Resumed == report.Rows {
		t.Errorf("%+v", report)
	}
	if again := w.copy(w.file, w.url); !again.AlreadyThere {
		t.Errorf("%+v", again)
	}
}

func TestACopyIsRefusedWhereItWouldDoHarm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	otherSecret, err := auth.LoadSecret("", "another secret of the tests, long enough too")
	w.must(err)
	lite := func(statement string) func() error {
		return func() error {
			db, err := sqlite.OpenExisting(w.file)
			w.must(err)
			w.exec(db, statement)
			return db.Close()
		}
	}
	on := func(url, statement string) func() error {
		return func() error {
			db, err := sql.Open("pgx", url)
			w.must(err)
			w.exec(db, statement)
			return db.Close()
		}
	}
	nothing := func() error { return nil }
	withTable, taken := newDatabase(t), newDatabase(t)
	_, err = storage.MigratePostgres(t.Context(), taken, embed.PostgresMigrations())
	w.must(err)
	w.must(on(taken, `INSERT INTO stripe_events (id, handled_at) VALUES ('evt', 1)`)())
	w.must(on(withTable, `CREATE TABLE somebodys (id bigint)`)())
	for _, c := range []struct {
		name          string
		before, after func() error
		from, to      string
		change        func(*transfer.Options)
		want          error
	}{
		{"two files", nothing, nothing, w.file, w.file + "2", nil, transfer.ErrSameEngine},
		{"two databases", nothing, nothing, w.url, taken, nil, transfer.ErrSameEngine},
		{"no file", nothing, nothing, w.file + "2", w.url, nil, transfer.ErrNoLedger},
		{"nothing in PostgreSQL", nothing, nothing, w.url, w.file + "2", nil, transfer.ErrNoLedger},
		{"another's table", nothing, nothing, w.file, withTable, nil, transfer.ErrHoldsOther},
		{"other data", nothing, nothing, w.file, taken, nil, transfer.ErrHoldsOther},
		{"other data in a file", nothing, nothing, taken, w.file, func(o *transfer.Options) {}, transfer.ErrHoldsOther},
		{"another secret", nothing, nothing, w.file, w.url, func(o *transfer.Options) { o.Secret = otherSecret }, transfer.ErrSecret},
		{"an unknown table", lite(`CREATE TABLE novelty (id INTEGER PRIMARY KEY) STRICT`), lite(`DROP TABLE novelty`), w.file, w.url, nil, transfer.ErrUnknownTable},
		{"an unknown column", lite(`ALTER TABLE steps ADD COLUMN novelty INTEGER`), lite(`ALTER TABLE steps DROP COLUMN novelty`), w.file, w.url, nil, transfer.ErrUnknownTable},
		{
			"wrong books", lite(`UPDATE workspaces SET running_runs = running_runs + 1`), lite(`UPDATE workspaces SET running_runs = running_runs - 1`),
			w.file, w.url, nil, transfer.ErrDifferences,
		},
	} {
		opts := w.opts
		if c.change != nil {
			c.change(&opts)
		}
		w.must(c.before())
		if _, err := transfer.Copy(t.Context(), c.from, c.to, opts); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		w.must(c.after())
	}
	w.must(mustBeNothing(w.url))
}

func TestACopyIsRefusedWhileOneServes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	lock, err := dbfile.LockServer(t.Context(), w.file, 0)
	w.must(err)
	if _, err := transfer.Copy(t.Context(), w.file, w.url, w.opts); !errors.Is(err, dbfile.ErrServerRunning) {
		t.Errorf("from a file that is served: %v", err)
	}
	rehearsal := w.opts
	rehearsal.WhileServing = true
	if _, err := transfer.Copy(t.Context(), w.file, newDatabase(t), rehearsal); err != nil {
		t.Errorf("while it serves: %v", err)
	}
	w.must(lock.Close())
	_, err = storage.MigratePostgres(t.Context(), w.url, embed.PostgresMigrations())
	w.must(err)
	node, err := storage.Open(t.Context(), w.url, storage.Options{Migrations: embed.PostgresMigrations(), Secret: w.opts.Secret})
	w.must(err)
	file := filepath.Join(t.TempDir(), "pikarc.db")
	for _, way := range [][2]string{{w.file, w.url}, {w.url, file}} {
		if _, err := transfer.Copy(t.Context(), way[0], way[1], w.opts); !errors.Is(err, transfer.ErrServed) {
			t.Errorf("from %s to %s: %v", way[0], way[1], err)
		}
	}
	w.must(node.Close())
	w.copy(w.file, w.url) // over the empty ledger
	w.mustServe(w.url)
}

// PostgreSQL shows the sessions of a node that was just stopped for a moment longer.
func TestACopyWaitsForTheSessionsOfAStoppedNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.copy(w.file, w.url)
	db, err := sql.Open("pgx", w.url+"&application_name=pikarc")
	w.must(err)
	defer db.Close()
	var before time.Time
	w.must(db.QueryRowContext(t.Context(), `SELECT clock_timestamp()`).Scan(&before))
	done := make(chan error, 1)
	go func() {
		_, err := transfer.Copy(t.Context(), w.url, filepath.Join(t.TempDir(), "pikarc.db"), w.opts)
		done <- err
	}()
	for asked := map[time.Time]bool{}; len(asked) < 4; { // it prepares its question, and asks it more than once
		select {
		case err := <-done:
			t.Fatalf("ended before the node's session did: %v", err)
		default:
		}
		var at sql.NullTime
		w.must(db.QueryRowContext(t.Context(), `SELECT max(query_start) FROM pg_stat_activity WHERE datname = current_database()
			AND backend_start > $1 AND query LIKE '%application_name = $1%' AND pid <> pg_backend_pid()`, before).Scan(&at))
		if at.Valid {
			asked[at.Time] = true
		}
	}
	w.must(db.Close())
	w.must(<-done)
}

// A text that PostgreSQL cannot keep is named, and nothing is seen of the rest.
func TestATextWithANULIsNotCopied(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	db, err := sqlite.OpenExisting(w.file)
	w.must(err)
	w.exec(db, `UPDATE runs SET title = 'o' || char(0) || 'dd' WHERE id = (SELECT max(id) FROM runs)`)
	w.must(db.Close())
	_, err = transfer.Copy(t.Context(), w.file, w.url, w.opts)
	if err == nil || !strings.Contains(err.Error(), "runs") || !strings.Contains(err.Error(), "NUL") {
		t.Error(err)
	}
	w.must(mustBeNothing(w.url))
}

// A table that is added to a schema is copied, or says why it is not.
func TestEveryTableOfBothSchemasIsKnown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	url := newDatabase(t)
	_, err := storage.MigratePostgres(t.Context(), url, embed.PostgresMigrations())
	w.must(err)
	known := append(transfer.Copied(), transfer.LeftOut()...)
	var there []string
	w.query(`SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`, func(rows *sql.Rows) error {
		var name string
		err := rows.Scan(&name)
		there = append(there, name)
		return err
	})
	db, err := sql.Open("pgx", url)
	w.must(err)
	defer func() { w.must(db.Close()) }()
	rows, err := db.QueryContext(t.Context(), `SELECT tablename FROM pg_tables WHERE schemaname = 'public'`)
	w.must(err)
	for rows.Next() {
		var name string
		w.must(rows.Scan(&name))
		there = append(there, name)
	}
	w.must(errors.Join(rows.Err(), rows.Close()))
	slices.Sort(there)
	there = slices.Compact(there)
	slices.Sort(known)
	if !slices.Equal(there, known) {
		t.Errorf("the schemas have %v,\nknown are %v", there, known)
	}
}

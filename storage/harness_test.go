package storage

import (
	"cmp"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
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
	"github.com/pikarc/server/storage/postgres"
	testpostgres "github.com/pikarc/server/testdata/postgres"
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
	t            testing.TB
	path         string
	url          string       // of its database in PostgreSQL; "" on SQLite
	otherProcess *sql.DB      // connections of its own, as another process would have
	made         atomic.Int64 // accounts
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

// onPostgres is set while the tests run on PostgreSQL: see TestMain.
var onPostgres *postgresCluster

// postgresCluster is a server that all tests share, with a migrated database
// that each of them copies.
type postgresCluster struct {
	*testpostgres.Server
	empty string
}

// TestMain runs the tests on one engine: `make test` asks for both.
func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(runOn(*engineAsked, m.Run))
}

var engineAsked = flag.String("engine", "sqlite", "sqlite, or postgres: the tests that are not about SQLite's file alone")

func runOn(engine string, run func() int) int {
	if engine == "sqlite" {
		leaveOut(postgresAlone())
		return run()
	}
	cluster, err := startPostgres()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = cluster.Stop() }()
	onPostgres = cluster
	leaveOut(sqliteAlone())
	return run()
}

func startPostgres() (*postgresCluster, error) {
	server, err := testpostgres.Start()
	if err != nil {
		return nil, err
	}
	c := &postgresCluster{Server: server}
	if c.empty, err = c.Create(""); err == nil {
		_, err = MigratePostgres(context.Background(), c.URL(c.empty), embed.PostgresMigrations())
	}
	return c, err
}

// leaveOut leaves out tests, beside those that were asked to be.
func leaveOut(tests []string) {
	pattern := "^(" + strings.Join(tests, "|") + ")$"
	if asked := flag.Lookup("test.skip").Value.String(); asked != "" {
		pattern += "|" + asked
	}
	if err := flag.Set("test.skip", pattern); err != nil {
		panic(err)
	}
}

func newWorld(t testing.TB, change ...func(*Options)) *world {
	t.Helper()
	w := &world{t: t, clock: new(clock), path: filepath.Join(t.TempDir(), "pikarc.db")}
	w.clock.Set(noon())
	database, driver := w.path, "pgx"
	var err error
	if onPostgres != nil {
		name, err := onPostgres.Create(onPostgres.empty)
		w.must(err)
		t.Cleanup(func() { w.must(onPostgres.Drop(name)) })
		w.url = onPostgres.URL(name)
		database = w.url
	} else {
		driver = "sqlite"
		empty, err := emptyDatabase()
		w.must(err)
		w.must(os.WriteFile(w.path, empty, 0o600))
	}
	dsn := database
	if driver == "sqlite" {
		dsn = "file:" + w.path
	}
	w.otherProcess, err = sql.Open(driver, dsn)
	w.must(err)
	t.Cleanup(func() { w.must(w.otherProcess.Close()) })
	w.Store = openStore(t, database, w.clock.Now, change...)
	return w
}

// openStore opens a migrated file, and closes it at the end of the test.
func openStore(t testing.TB, path string, now func() time.Time, change ...func(*Options)) *Store {
	t.Helper()
	dir, migrations := filepath.Dir(path), embed.Migrations()
	if postgres.IsURL(path) {
		dir, migrations = t.TempDir(), embed.PostgresMigrations()
	}
	secret, err := auth.LoadSecret(dir, "a secret that only tests of the store use")
	if err != nil {
		t.Fatal(err)
	}
	opts := Options{Migrations: migrations, Secret: secret, Now: now}
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

// second is another node on the same database, or another process on the same file.
func (w *world) second() *Store {
	w.t.Helper()
	return openStore(w.t, cmp.Or(w.url, w.path), w.clock.Now)
}

// reopen is a restart.
func (w *world) reopen() {
	w.t.Helper()
	w.must(w.Close())
	w.Store = w.second()
}

// workspace makes an account, and returns its workspace as the plan starts it.
func (w *world) workspace(plan plans.ID) WorkspaceKey {
	w.t.Helper()
	in := NewAccount{Email: fmt.Sprintf("a%d@example.com", w.made.Add(1)), PasswordHash: "x", Plan: plan}
	_, ws, _, err := w.CreateAccount(context.Background(), in)
	w.must(err)
	return ws.Key()
}

// unlimitedWorkspace makes a workspace that no limit stops: scale, with the largest concurrency.
func (w *world) unlimitedWorkspace() WorkspaceKey {
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

// tables selects the names of all tables.
func (w *world) tables() string {
	if w.url != "" {
		return `SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type = 'BASE TABLE'
			AND table_name NOT IN ('writers', 'ledger_version')`
	}
	return `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'`
}

// elsewhere changes rows as another process does: one of another node has the
// lock and writes the next version.
func (w *world) elsewhere(query string, args ...any) {
	w.t.Helper()
	ctx := context.Background()
	tx, err := w.otherProcess.BeginTx(ctx, nil)
	w.must(err)
	if w.url != "" {
		_, err = tx.ExecContext(ctx, `SELECT pg_advisory_xact_lock($1)`, postgres.LedgerLock)
		w.must(err)
		_, err = tx.ExecContext(ctx, `UPDATE ledger_version SET version = version + 1`)
		w.must(err)
	}
	_, err = tx.ExecContext(ctx, query, args...)
	w.must(err)
	w.must(tx.Commit())
}

// bytesIn writes the bytes in a statement as the engine does.
func (w *world) bytesIn(statement string) string {
	if w.url != "" {
		return regexp.MustCompile(`x'([0-9a-f]*)'`).ReplaceAllString(statement, `'\x$1'`)
	}
	return statement
}

// json reads a text as JSON, in the engine's own way.
func (w *world) json(text string) string {
	if w.url != "" {
		return `CAST(` + text + ` AS jsonb)`
	}
	return text
}

// file is what keeps the store in a file, for tests of what is SQLite's alone.
func (w *world) file() *sqliteEngine { return w.engine.(*sqliteEngine) }

// conn is a connection that takes no part in the store's transactions, and
// never waits for a lock.
func (w *world) conn() *sql.Conn {
	w.t.Helper()
	conn, err := w.otherProcess.Conn(context.Background())
	w.must(err)
	w.t.Cleanup(func() { w.must(conn.Close()) })
	return conn
}

// number runs a query of one integer, beside the store.
func (w *world) number(query string, args ...any) (n int64) {
	w.t.Helper()
	w.must(w.otherProcess.QueryRowContext(context.Background(), query, args...).Scan(&n))
	return n
}

func (w *world) must(err error) {
	if err != nil {
		w.t.Helper()
		w.t.Fatal(err)
	}
}

// sqliteAlone lists the tests that are about what SQLite alone has, and why each is.
func sqliteAlone() []string {
	return slices.Concat(
		// Backups are files; PostgreSQL's are its own tools'.
		[]string{
			"TestBackupHoldsNothingThatWasDeleted",
			"TestBackupNeverReplacesTheDatabase",
			"TestBackupThatFailsLeavesTheEarlierOne",
			"TestBackupUnderLoadIsOneSnapshot",
			"TestRestoreKeepsTheOldDatabaseAndItsWAL",
			"TestRestoreRefusesWhatIsNoBackup",
		},
		// The path of the file, who may read it, and a file that is damaged, another one's or gone.
		[]string{
			"TestPathMayBeginWithTwoSlashes",
			"TestPathMayHoldAnyCharacter",
			"TestOnlyTheOwnerCanReadTheFiles",
			"TestFileOfAnotherKindIsRefusedUnchanged",
			"TestAPageThatIsFreeAndUsedIsFound",
			"TestDamageIsFoundBeforeAServerStarts",
			"TestDamagedFileIsReportedAndNothingElseIsBelieved",
			"TestReadsComeBackOnceTheFileCanBeOpened",
			"TestWriterComesBackOnceItsFileCanBeOpened",
		},
		// Pages and the log of the file: how full they are, and what they still hold.
		[]string{
			"TestErasureWaitsForALongRead",
			"TestFullDiskInAWriteLosesTheBatchWholeAndHeals",
			"TestOlderDatabaseShrinksOnceItIsRestored",
			"TestOtherWritesGetInWhileTheFileShrinks",
			"TestReadinessTakesAsMuchRoomAsAStart",
			"TestSpaceOfExpiredRunsIsGivenBackToTheDisk",
		},
		// SQLite's pragmas, schema table, planner and transaction statements.
		[]string{
			"TestAChangeElsewhereOutlivesACommitThatFails", // by data_version
			"TestEachListOfRunsUsesItsIndex",
			"TestEveryConnectionHasItsPragmas",
			"TestNoQueryReadsMoreThanItAnswers",
			"TestBlockedUsersAreReadFromAnIndexOfThemAlone",
			"TestWritersConnectionIsReplacedWhenATransactionStatementFails",
		},
		// Releases from before there was PostgreSQL.
		[]string{
			"TestMigrationKeepsTheDatabaseAsItWas",
			"TestTheLedgerOfEachReleasedSchemaIsKept",
			"TestUpgradeCountsTheDenialsOfBeforeAndKeepsEverything",
			"TestUpgradeCountsWhatIsMissingInTheSpendOfBefore",
		},
	)
}

// postgresAlone lists the tests that need PostgreSQL.
func postgresAlone() []string {
	return []string{
		"TestPostgresHasTheTablesOfSQLite",
		"TestWhatOneNodeChangesHoldsForTheOthersNextDecision",
		"TestTwoNodesGiveAwayTheLastSlotOnce",
		"TestALostAnswerToACommitIsFoundOut",
		"TestAnOutageIsUnavailableAndOver",
		"TestAStallOfTheNetworkIsUnavailableAndOver",
		"TestAnErasureOutlastsAVacuum",
		"TestTheIndexMissesNothingOfOtherNodes",
		"TestTheFiguresTellOfPostgresAndOfOtherNodes",
		"TestANodesClockMayBeWrong",
		"TestAWrongDatabaseIsRefusedWithoutItsPassword",
		"TestATextWithANULHarmsNoOtherWrite",
		"TestABatchThatIsGivenUpForAnotherIsRunAgain",
		"TestABatchCostsOneRoundTrip",
		"TestWhatWaitsForALockIsWrittenWithTheBatch",
		"TestAWriteOfNoWorkspaceCostsOneRoundTrip",
		"TestASlowCommitDoesNotSetTheClock",
		"TestABatchThatExpectedAnotherVersionIsRunAgain",
		"TestStatementsOfManyRowsDoWhatEachWouldDo",
		"TestAStatementOfManyRowsMissesNone",
		"TestPostgresMakesTheIdsThatSQLiteMakes",
		"TestABatchIsRunAgainAFewTimesOnly",
		"TestUpkeepLeavesTheVersionsOfWhatItDoesNotChange",
		"TestAChangeLeavesAnotherVersionOfItsWorkspaceAlone",
		"TestAServerThatTakesNoWritesIsUnavailableUntilItDoes",
	}
}

// postgresFunctions lists those that speak to PostgreSQL alone, beside its engine.
func postgresFunctions() []string {
	return []string{"beginSweep", "sweepIndex", "sweepTitles", "sweepSegments", "requireOlderMayServe"}
}

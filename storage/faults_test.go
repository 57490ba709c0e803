package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/postgres"
)

// failingInserts has the first rows that are inserted into a table fail, so many of
// them, with an SQLSTATE: when they are inserted, or only at COMMIT.
func (w *world) failingInserts(table, state string, times int, atCommit bool) {
	w.t.Helper()
	trigger := "TRIGGER failing BEFORE INSERT ON " + table
	if atCommit {
		trigger = "CONSTRAINT TRIGGER failing AFTER INSERT ON " + table + " DEFERRABLE INITIALLY DEFERRED"
	}
	for _, statement := range []string{
		`CREATE SEQUENCE failures`, // what it has counted is not rolled back
		fmt.Sprintf(`CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
			IF nextval('failures') <= %d THEN RAISE EXCEPTION 'a made-up failure' USING ERRCODE = '%s'; END IF;
			RETURN NEW; END $$`, times, state),
		"CREATE " + trigger + " FOR EACH ROW EXECUTE FUNCTION fail()",
	} {
		w.must(w.alter(statement))
	}
}

// A batch that PostgreSQL gives up in favour of another one is run again, a few
// times, and nobody is told.
func TestABatchThatIsGivenUpForAnotherIsRunAgain(t *testing.T) {
	for _, state := range []string{"40001", "40P01"} {
		for _, atCommit := range []bool{false, true} {
			t.Run(fmt.Sprint(state, " at commit ", atCommit), func(t *testing.T) {
				w := newWorld(t)
				ws := w.unlimitedWorkspace()
				w.failingInserts("runs", state, maxAttempts-1, atCommit)
				if a := w.start(ws, "u"); !a.Decision.Allowed() || w.number(`SELECT count(*) FROM runs`) != 1 {
					t.Errorf("answered %+v, and there are %d runs", a.Decision, w.number(`SELECT count(*) FROM runs`))
				}
				w.mustVerify()
			})
		}
	}
}

// Nor is it run for ever, and not for any other reason.
func TestABatchIsRunAgainAFewTimesOnly(t *testing.T) {
	for state, times := range map[string]int{"40001": maxAttempts, "57014": 1, "53300": 1} {
		t.Run(state, func(t *testing.T) {
			w := newWorld(t)
			ws := w.unlimitedWorkspace()
			caller := w.caller(ws)
			w.failingInserts("runs", state, times, true)
			_, err := w.StartRun(t.Context(), caller, NewRun{UserID: "u"}, guard.Decide)
			if !errors.Is(err, ErrUnavailable) || w.number(`SELECT count(*) FROM runs`) != 0 {
				t.Errorf("answered %v", err)
			}
			w.start(ws, "u")
			w.mustVerify()
		})
	}
}

// administer runs a statement beside the world's database, as its administrator does.
func (w *world) administer(statement string) {
	w.t.Helper()
	db, err := sql.Open("pgx", onPostgres.URL("postgres"))
	w.must(err)
	_, err = db.ExecContext(w.t.Context(), statement)
	w.must(errors.Join(err, db.Close()))
}

// A server that does not let a node write is unavailable, and no longer than that.
func TestAServerThatTakesNoWritesIsUnavailableUntilItDoes(t *testing.T) {
	for name, c := range map[string]struct {
		spoil, mend string
		is          error
	}{
		"read only":      {"SET default_transaction_read_only = on", "RESET default_transaction_read_only", postgres.ErrReadOnly},
		"no connections": {"ALLOW_CONNECTIONS false", "ALLOW_CONNECTIONS true", ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			ws := w.unlimitedWorkspace()
			caller := w.caller(ws)
			alter := "ALTER DATABASE " + w.name() + " "
			w.administer(alter + c.spoil)
			// Settings hold for new connections: the old ones are ended, and waited for.
			w.administer("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '" + w.name() + "'")
			_, err := w.StartRun(t.Context(), caller, NewRun{UserID: "u"}, guard.Decide)
			if !errors.Is(err, ErrUnavailable) || !errors.Is(err, c.is) {
				t.Errorf("a start: %v", err)
			}
			if err := w.Ready(t.Context()); !errors.Is(err, ErrUnavailable) {
				t.Errorf("ready: %v", err)
			}
			w.administer(alter + c.mend)
			w.start(ws, "u")
			w.mustVerify()
		})
	}
}

// However many calls share a batch, it costs one round trip, and few more after
// another node has written in their workspace.
func TestABatchCostsOneRoundTrip(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	s, writer := w.Store, w.engine.(*postgresEngine).writer
	const calls = 32
	model, payload := "gpt-4o", []byte(`{"a":1}`)
	var runs []uuid.UUID
	for i := range calls {
		runs = append(runs, w.start(ws, fmt.Sprint("u", i)).ID)
	}
	batch := func() (sent int64) {
		var group sync.WaitGroup
		s.writerLock <- struct{}{} // so that the calls gather
		for i := range calls {
			group.Go(func() {
				_, err := s.CreateStep(context.Background(), Caller{Workspace: ws}, runs[i],
					NewStep{Type: 1, Sequence: int64(i), Model: &model, InputData: payload}, guard.Decide)
				if err != nil {
					t.Error(err)
				}
			})
		}
		for len(s.queue) < calls { // beside the one that holds the writer
			runtime.Gosched()
		}
		before := writer.RoundTrips()
		<-s.writerLock
		group.Wait()
		return writer.RoundTrips() - before
	}
	batch() // the first of each statement is prepared
	batch()
	if trips := batch(); trips != 1 {
		t.Errorf("%d calls cost %d round trips", calls, trips)
	}
	for range 2 { // the first time its statements are prepared, and it had expected no other version
		_, err := w.second().CreateStep(t.Context(), Caller{Workspace: ws}, runs[0], NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
		w.must(err)
		batch()
	}
	_, err := w.second().CreateStep(t.Context(), Caller{Workspace: ws}, runs[0], NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
	w.must(err)
	if trips := batch(); trips > 6 {
		t.Errorf("after a step of another node %d calls cost %d round trips", calls, trips)
	}
	w.mustVerify()
}

// A node that has served no call yet expects what it knows too: of no workspace.
func TestAWriteOfNoWorkspaceCostsOneRoundTrip(t *testing.T) {
	w := newWorld(t)
	s := w.second()
	writer := s.engine.(*postgresEngine).writer
	for i := range 4 {
		before := writer.RoundTrips()
		w.must(s.writeIn(t.Context(), noWorkspace, modeCached, addQueued(fmt.Sprint(i))))
		if n := writer.RoundTrips() - before; i > 1 && n != 1 { // before it has asked, and prepared
			t.Errorf("write %d cost %d round trips", i, n)
		}
	}
}

// The answer with the server's time comes with the COMMIT, however long that takes.
func TestASlowCommitDoesNotSetTheClock(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	writer := w.engine.(*postgresEngine).writer
	write := func(seconds float64) {
		w.must(w.writeIn(t.Context(), ws, modeCached, func(tx *Tx) error {
			return tx.queue(`SELECT pg_sleep(CAST($1 AS bigint) / 1000.0)`, int64(seconds*1000))
		}))
	}
	for range 3 { // from then on it expects, and asks nobody
		write(0)
	}
	before := writer.Offset()
	write(1)
	if d := (writer.Offset() - before).Abs(); d > 200*time.Millisecond {
		t.Errorf("a COMMIT that took a second has set the clock by %v", d)
	}
}

// While a batch waits for another node's, the calls that come meanwhile wait with it,
// and are written with it. Those of another workspace come next.
func TestWhatWaitsForALockIsWrittenWithTheBatch(t *testing.T) {
	w := newWorld(t)
	ws, aside := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	run, other, model := w.start(ws, "u").ID, w.start(aside, "u").ID, "gpt-4o"
	s := w.second() // which asks for the versions
	tx, err := w.otherProcess.BeginTx(t.Context(), nil)
	w.must(err)
	_, err = tx.ExecContext(t.Context(), `SELECT 1 FROM workspaces WHERE id = $1 FOR UPDATE`, ws)
	w.must(err)
	var group sync.WaitGroup
	step := func(ws WorkspaceKey, run uuid.UUID) {
		group.Go(func() {
			a, err := s.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
			if err != nil || !a.Decision.Allowed() {
				t.Error(a, err)
			}
		})
	}
	step(ws, run)
	for w.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) == 0 {
		runtime.Gosched()
	}
	const calls = 20
	for range calls {
		step(ws, run)
	}
	for len(s.queue) < calls {
		runtime.Gosched()
	}
	step(aside, other)
	step(aside, other)
	for len(s.queue) < calls+2 {
		runtime.Gosched()
	}
	w.must(tx.Rollback())
	group.Wait()
	// Of one call up to 1, 2, 4, 8, 16 and 32.
	if n := s.Stats().Batches.Counts; n[1] != 1 || n[5] != 1 {
		t.Errorf("21 calls that waited, and two of another workspace, came in batches of %v", n)
	}
	w.mustVerify()
}

package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/storage/payload"
)

const (
	maria = "maria@example.com"
	// Each is said of maria somewhere, and of nobody else.
	mariaTitle, mariaInput, mariaOutput, mariaError, mariaReason = "plans-a-trip", "passport-number", "seat-12a", "card-declined", "shouted-at-staff"
)

// said has a user say something in every place that there is.
func (w *world) said(ws WorkspaceKey, user, title, input, output, errorText string, rounds int) (runs []uuid.UUID) {
	w.t.Helper()
	ctx, c := context.Background(), Caller{Workspace: ws}
	for i := range rounds {
		pad := strings.Repeat("x", i*37%3000)
		in := NewRun{UserID: user, Metadata: fmt.Appendf(nil, `{"title":"%s","n":"%s"}`, title, pad)}
		run, err := w.StartRun(ctx, c, in, guard.Decide)
		w.must(err)
		for range 3 {
			object := fmt.Appendf(nil, `{"said":"%s %s"}`, input, pad)
			s, err := w.CreateStep(ctx, c, run.ID, NewStep{Type: 1, Sequence: 1, Model: new("gpt-4o"), InputData: object}, guard.Decide)
			w.must(err)
			_, err = w.UpdateStep(ctx, c, run.ID, s.ID, StepUpdate{
				Status: StepFailed, OutputData: fmt.Appendf(nil, `"%s %s"`, output, pad), Error: &errorText,
				PromptTokens: new(int64(500)), CompletionTokens: new(int64(100)),
			})
			w.must(err)
		}
		w.end(ws, run.ID, RunCompleted)
		runs = append(runs, run.ID)
	}
	return runs
}

// remnants lists what of the words is anywhere in the store's files, or in rows of
// PostgreSQL, whose pages are not ours.
func (w *world) remnants(words ...string) (found []string) {
	w.t.Helper()
	if w.url != "" {
		rows := w.allRows()
		for _, word := range words {
			if n := strings.Count(rows, word); n > 0 {
				found = append(found, fmt.Sprintf("%d times %q in a row", n, word))
			}
		}
		return found
	}
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(w.path + suffix)
		w.must(err)
		for _, word := range words {
			if n := bytes.Count(content, []byte(word)); n > 0 {
				found = append(found, fmt.Sprintf("%d times %q in pikarc.db%s", n, word, suffix))
			}
		}
	}
	return found
}

// allRows are the rows of all tables in PostgreSQL, with the texts of blocks as they were sent.
func (w *world) allRows() string {
	w.t.Helper()
	var all strings.Builder
	w.must(w.read(context.Background(), func(tx *Tx) error {
		var tables []string
		err := tx.each(w.tables(), nil, func(rows scanner) error {
			var name string
			err := rows.Scan(&name)
			tables = append(tables, name)
			return err
		})
		for _, name := range tables {
			err = errors.Join(err, tx.each(`SELECT t::text FROM `+name+` t`, nil, func(rows scanner) error {
				var row string
				err := rows.Scan(&row)
				all.WriteString(row + "\n")
				return err
			}))
		}
		return errors.Join(err, tx.each(`SELECT data FROM payload_blocks`, nil, func(rows scanner) error {
			var data []byte
			if err := rows.Scan(&data); err != nil {
				return err
			}
			b, err := tx.payloads.Decode(data)
			for i := range payload.MaxPlaces {
				if err == nil {
					all.Write(b.Place(i))
				}
			}
			return err
		}))
	}))
	return all.String()
}

func (w *world) erase(ws WorkspaceKey, user string) Erasure {
	w.t.Helper()
	e, err := w.EraseUser(context.Background(), ws, user, time.Minute)
	w.must(err)
	return e
}

func ofMaria() []string {
	return []string{maria, mariaTitle, mariaInput, mariaOutput, mariaError, mariaReason}
}

func TestErasedUserIsGoneFromEverywhereAndFiguresStay(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	var runs []uuid.UUID
	for i := range 12 {
		w.said(ws, fmt.Sprintf("neighbour %d", i), "t", "in", "out", "no", 1)
		runs = append(runs, w.said(ws, maria, mariaTitle, mariaInput, mariaOutput, mariaError, 3)...)
	}
	w.said(other, maria, "theirs", "theirs", "theirs", "theirs", 1)
	open := w.start(ws, maria).ID
	for _, reason := range []string{mariaReason, mariaReason + " again"} {
		_, err := w.BlockUser(t.Context(), ws, maria, &reason)
		w.must(err)
	}
	_, err := w.UnblockUser(t.Context(), ws, maria)
	w.must(err)
	_, err = w.BlockUser(t.Context(), ws, "neighbour 1", new("kept"))
	w.must(err)
	if len(w.remnants(ofMaria()...)) < 4 {
		t.Fatal("the test looks for what is not there before")
	}
	before, err := w.Usage(t.Context(), ws)
	w.must(err)

	e := w.erase(ws, maria)
	if !e.Done || !strings.HasPrefix(e.Pseudonym, "erased-") {
		t.Fatalf("%+v", e)
	}
	after, err := w.Usage(t.Context(), ws)
	w.must(err)
	if before.ByUser[0].UserID != maria || after.ByUser[0].UserID != e.Pseudonym {
		t.Errorf("the dearest user was %q and is %q", before.ByUser[0].UserID, after.ByUser[0].UserID)
	}
	before.ByUser[0].UserID, before.RunningRuns = e.Pseudonym, 0
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("figures changed (+):\n%s", diff)
	}
	for _, id := range runs {
		d := w.detail(ws, id)
		if d.UserID != e.Pseudonym || d.Title != "" || d.Metadata != nil || len(d.Steps) != 3 || d.Spend == 0 {
			t.Fatalf("a run is %+v", d)
		}
		for _, s := range d.Steps {
			if s.InputData != nil || s.OutputData != nil || s.Error != nil || s.PromptTokens != 500 || s.Status != StepFailed {
				t.Fatalf("a step is %+v", s)
			}
		}
	}
	if d := w.detail(ws, open); d.Status != RunFailed || d.EndedBy != EndedByDashboard {
		t.Errorf("the run that was open is %v, by %v", d.Status, d.EndedBy)
	}
	w.mustNameNobody(ws, e)
	w.mustRememberTheTruth()
	w.mustVerify()

	elsewhere, _, err := w.Users(t.Context(), other, UserFilter{Limit: 10})
	w.must(err)
	if len(elsewhere) != 1 || elsewhere[0].UserID != maria {
		t.Errorf("another workspace's user of that name: %+v", elsewhere)
	}
	w.erase(other, maria)
	if found := w.remnants(ofMaria()...); found != nil {
		t.Errorf("the files still have %v", found)
	}
	if w.remnants("neighbour 3", "kept") == nil {
		t.Error("the neighbours are gone too")
	}
}

// mustNameNobody looks at the audit log after an erasure.
func (w *world) mustNameNobody(ws WorkspaceKey, e Erasure) {
	w.t.Helper()
	entries, _, err := w.Audit(w.t.Context(), ws, AuditFilter{Limit: 200})
	w.must(err)
	var users []string
	for _, entry := range entries {
		if strings.HasPrefix(string(entry.Action), "user.") {
			users = append(users, fmt.Sprintf("%s %s %s %s", entry.Action, entry.Target, entry.Before, entry.After))
		}
	}
	want := []string{
		"user.erase " + e.Pseudonym + "  ",
		`user.block neighbour 1 {"blocked":false,"reason":null} {"blocked":true,"reason":"kept"}`,
		"user.unblock " + e.Pseudonym + ` {"blocked":true} {"blocked":false,"reason":null}`,
		"user.block " + e.Pseudonym + " {} {}",
		"user.block " + e.Pseudonym + ` {"blocked":false,"reason":null} {"blocked":true}`,
	}
	slices.Sort(want) // they are of one moment
	slices.Sort(users)
	if diff := cmp.Diff(want, users); diff != "" {
		w.t.Errorf("the audit log (+):\n%s", diff)
	}
}

// What comes after the erasure, of a run begun before it, counts and is not kept.
func TestLateReportsOfAnErasedUserAreBookedWithoutTheirTexts(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	c := Caller{Workspace: ws}
	run := w.start(ws, maria).ID
	step := w.step(ws, run).ID
	e := w.erase(ws, maria)
	late := StepUpdate{
		Status: StepCompleted, PromptTokens: new(int64(500)), CompletionTokens: new(int64(100)),
		OutputData: []byte(`"` + mariaOutput + `"`), Error: new(mariaError),
	}
	s, err := w.UpdateStep(t.Context(), c, run, step, late)
	w.must(err)
	if *s.Cost != 2_250_000 || s.OutputData != nil || s.Error != nil {
		t.Errorf("the late report: %+v", s)
	}
	object := []byte(`{"said":"` + mariaInput + `"}`)
	a, err := w.CreateStep(t.Context(), c, run, NewStep{Type: 1, Sequence: 1, InputData: object}, guard.Decide)
	w.must(err)
	if a.Decision.Reason != guard.RunAlreadyEnded {
		t.Errorf("a step of the ended run: %+v", a)
	}
	w.mustRememberTheTruth()
	w.mustVerify()
	if n := w.number(`SELECT count(*) FROM step_payloads`); n != 0 {
		t.Errorf("%d payloads are kept", n)
	}

	again := w.start(ws, maria) // a new user
	w.step(ws, again.ID)
	users, _, err := w.Users(t.Context(), ws, UserFilter{Limit: 10})
	w.must(err)
	if len(users) != 2 || users[0].UserID != maria || users[0].RunCount != 1 || !users[0].ErasedAt.IsZero() || users[1].ErasedAt.IsZero() {
		t.Errorf("users are %+v", users)
	}
	if twice := w.erase(ws, e.Pseudonym); twice != e {
		t.Errorf("erased once more: %+v, before %+v", twice, e)
	}
	if _, err := w.EraseUser(t.Context(), ws, "nobody", time.Minute); !errors.Is(err, ErrNotFound) {
		t.Errorf("a user never seen: %v", err)
	}
}

func TestErasureGoesOnAfterARestart(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.said(ws, maria, mariaTitle, mariaInput, mariaOutput, mariaError, 5)
	_, err := w.BlockUser(t.Context(), ws, maria, new(mariaReason))
	w.must(err)
	e, err := w.EraseUser(t.Context(), ws, maria, 0)
	w.must(err)
	if e.Done {
		t.Fatal("it is done in no time")
	}
	w.reopen()
	if done, err := w.EraseUsers(t.Context()); done != 1 || err != nil {
		t.Errorf("%d are finished, %v", done, err)
	}
	if found := w.remnants(ofMaria()...); found != nil {
		t.Errorf("there still is %v", found)
	}
	if done, err := w.EraseUsers(t.Context()); done != 0 || err != nil {
		t.Errorf("%d are finished again, %v", done, err)
	}
	w.mustVerify()
}

// While somebody reads an old state of the file, its log has what was erased.
func TestErasureWaitsForALongRead(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.said(ws, maria, mariaTitle, mariaInput, mariaOutput, mariaError, 5)
	_, err := w.EraseUser(t.Context(), ws, maria, 0)
	w.must(err)
	long := w.conn()
	var n int
	_, err = long.ExecContext(t.Context(), `BEGIN`)
	w.must(err)
	w.must(long.QueryRowContext(t.Context(), `SELECT count(*) FROM users`).Scan(&n))
	if done, err := w.EraseUsers(t.Context()); done != 0 || !errors.Is(err, errBlockedByReader) {
		t.Errorf("%d are finished beside a long read, %v", done, err)
	}
	w.step(ws, w.start(ws, "somebody").ID) // the writer waits for no reader
	_, err = long.ExecContext(t.Context(), `COMMIT`)
	w.must(err)
	if done, err := w.EraseUsers(t.Context()); done != 1 || err != nil {
		t.Errorf("%d are finished, %v", done, err)
	}
	if found := w.remnants(ofMaria()...); found != nil {
		t.Errorf("the files still have %v", found)
	}
}

// The writer is never held for longer than upkeep may: other writes get in.
func TestOtherWritesGetInBetweenTheErasureOfALargeRun(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, maria).ID
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		var id int64
		if err := tx.get(`SELECT id FROM runs WHERE uuid = $1`, []any{run[:]}, &id); err != nil {
			return err
		}
		if _, err := tx.exec(`INSERT INTO run_segments (run_id, segment) VALUES ($1, 1)`, id); err != nil {
			return err
		}
		var step uuid.UUID
		for i := range 3000 {
			binary.BigEndian.PutUint64(step[8:], uint64(i))
			err := errors.Join(
				tx.queue(`INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at)
					VALUES (1, $1, $2, 1, 1, 1, $3)`, id, step[:], tx.now.UnixMilli()),
				tx.queue(`INSERT INTO step_payloads (run_id, step_uuid, input_data)
					VALUES ($1, $2, '{"said":"passport-number"}')`, id, step[:]))
			if err != nil {
				return err
			}
		}
		_, err := tx.exec(`UPDATE runs SET step_count = 3000 WHERE id = $1`, id)
		return err
	}))
	var batches []int
	deleted, between := 0, 0
	w.hooks().onExec = func(query string) error {
		if strings.HasPrefix(query, "DELETE FROM step_payloads") {
			deleted++
		}
		return nil
	}
	w.onCommit(func() bool { batches, deleted = append(batches, deleted), 0; return true })
	done := make(chan Erasure)
	go func() {
		e, err := w.EraseUser(context.Background(), ws, maria, time.Minute)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}()
	for {
		select {
		case e := <-done:
			if !e.Done || between == 0 || slices.Max(batches) > 3000/upkeepChunk/2 {
				t.Errorf("%+v, %d writes got in between, %d pieces in one transaction", e, between, slices.Max(batches))
			}
			if n := w.number(`SELECT count(*) FROM step_payloads`); n != 0 {
				t.Errorf("%d payloads are left", n)
			}
			w.mustVerify()
			return
		default:
			w.start(ws, "somebody")
			between++
		}
	}
}

// What a slice deletes before it looks at the time is little, in rows and in bytes.
func TestPayloadsAreDeletedInSmallPieces(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		size, rows int
		want       int64 // deleted by the first piece
	}{{10, 200, upkeepChunk}, {10, 20, 20}, {10_000, 200, upkeepBytes / 10_000}, {1 << 20, 3, 1}} {
		var before, after int64
		w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
			if _, err := tx.exec(`DELETE FROM step_payloads`); err != nil {
				return err
			}
			for i := range c.rows {
				_, err := tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, output_data) VALUES (1, $1, $2)`,
					fmt.Appendf(nil, "%08d", i), strings.Repeat("x", c.size))
				if err != nil {
					return err
				}
			}
			const count = `SELECT count(*) FROM step_payloads`
			err := tx.get(count, nil, &before)
			n, _, deleteErr := expirePayloads(tx, 1, upkeepChunk)
			if more := n == upkeepChunk; more != (c.want < int64(c.rows)) {
				t.Errorf("%d rows of %d bytes: more are said to be there: %v", c.rows, c.size, more)
			}
			return errors.Join(err, deleteErr, tx.get(count, nil, &after))
		}))
		if before-after != c.want {
			t.Errorf("of %d rows of %d bytes %d went, want %d", c.rows, c.size, before-after, c.want)
		}
	}
}

// eraseWhatWasSaid erases a user who has a run of this version, and texts of an older one.
func (w *world) eraseWhatWasSaid(ws WorkspaceKey) error {
	ctx, c := context.Background(), Caller{Workspace: ws}
	run, err := w.StartRun(ctx, c, NewRun{UserID: "maria", Metadata: []byte(`{"agent":"hers"}`)}, allow)
	w.must(err)
	_, err = w.CreateStep(ctx, c, run.ID, NewStep{Type: 1, InputData: []byte("{}")}, allow)
	_, err2 := w.BlockUser(ctx, ws, "maria", nil)
	w.storeAsOnce(run.ID)
	e, err3 := w.EraseUser(ctx, ws, "maria", time.Minute)
	return errors.Join(err, err2, err3, atLeastOne(int(boolInt(e.Done))))
}

package storage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// allow lets everything pass, so that lists hold what a test puts there.
func allow(guard.Request, guard.State) guard.Decision { return guard.Decision{} }

func deny(req guard.Request, st guard.State) guard.Decision {
	return denyFor(guard.KillSwitchActive)(req, st)
}

func denyFor(reason guard.Reason) Decider {
	return func(guard.Request, guard.State) guard.Decision { return guard.Decision{Reason: reason} }
}

// seedRun starts a run at a time of its own.
func seedRun(tx *Tx, ws WorkspaceKey, user string, at time.Time, decide Decider) (uuid.UUID, error) {
	tx.now = at
	a, err := startRun(tx, Caller{Workspace: ws}, NewRun{UserID: user}, decide, nil)
	return a.ID, err
}

// listRunIDs follows the cursors to the end. between runs after each page but the last.
func listRunIDs(s *Store, ws WorkspaceKey, f RunFilter, between func()) (ids []uuid.UUID, err error) {
	for {
		page, next, err := s.Runs(context.Background(), ws, f)
		if err != nil {
			return nil, err
		}
		for _, r := range page {
			ids = append(ids, r.ID)
		}
		if next == "" {
			return ids, nil
		}
		if int64(len(page)) != f.Limit {
			return nil, fmt.Errorf("a page of %d, though not the last", len(page))
		}
		f.Cursor = next
		between()
	}
}

func nothing() {}

func newestFirst(a, b uuid.UUID) int { return bytes.Compare(b[:], a[:]) }

func TestRunsPageThroughInsertionsAndDeletionsWithoutRepeatOrGap(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	var stood []uuid.UUID
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i := range 1_000 {
			at := noon().Add(time.Duration(i/4) * time.Millisecond) // four in each millisecond
			id, err := seedRun(tx, ws, "u", at, allow)
			if err != nil {
				return err
			}
			stood = append(stood, id)
			if i%10 == 0 {
				if _, err := seedRun(tx, other, "u", at, allow); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	slices.SortFunc(stood, newestFirst)
	w.Set(noon().Add(time.Second))

	deleted, pages := map[uuid.UUID]bool{}, 0
	const size = 9
	seen, err := listRunIDs(w.Store, ws, RunFilter{Limit: size}, func() {
		pages++
		w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
			// The last of the page just read (the cursor's own), one read long ago, and one yet to come.
			for _, i := range []int{size*pages - 1, 3 * pages, size*pages + 5} {
				if i < len(stood) {
					deleted[stood[i]] = true
					if _, err := tx.exec(`DELETE FROM runs WHERE workspace_id = $1 AND uuid = $2`, ws, stood[i][:]); err != nil {
						return err
					}
				}
			}
			_, err := seedRun(tx, ws, "u", tx.now, allow)
			return err
		}))
	})
	w.must(err)
	gone := func(id uuid.UUID) bool { return deleted[id] }
	if !slices.IsSortedFunc(seen, newestFirst) || len(slices.Compact(slices.Clone(seen))) != len(seen) {
		t.Error("not newest first, or a run is repeated")
	}
	seen, standing := slices.DeleteFunc(seen, gone), slices.DeleteFunc(slices.Clone(stood), gone)
	if len(deleted) < 100 || !slices.Equal(seen, standing) {
		t.Errorf("of %d runs that stood all the time, %d were listed", len(standing), len(seen))
	}
}

func TestRunFiltersAreThoseOfANaiveSearch(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	all, objected := seedFilterable(t, w, ws, other)
	rapid.Check(t, func(r *rapid.T) {
		instant := rapid.Custom(func(r *rapid.T) time.Time {
			if rapid.Bool().Draw(r, "any") {
				return time.Time{}
			}
			return noon().Add(time.Duration(rapid.IntRange(-1, 62).Draw(r, "half ms")) * time.Millisecond / 2)
		})
		f := RunFilter{
			Denied: rapid.Bool().Draw(r, "denied"),
			Status: RunStatus(rapid.IntRange(0, 4).Draw(r, "status")),
			UserID: rapid.SampledFrom([]string{"", "u0", "u1", "u2", "nobody"}).Draw(r, "user"),
			Reason: rapid.SampledFrom([]guard.Reason{guard.None, guard.RunAlreadyEnded, guard.KillSwitchActive, guard.UserBlocked}).Draw(r, "reason"),
			Since:  instant.Draw(r, "since"), Until: instant.Draw(r, "until"),
			Limit: rapid.Int64Range(5, 130).Draw(r, "limit"),
		}
		var want []uuid.UUID
		for _, run := range all {
			if (f.Status == 0 || run.Status == f.Status) && (f.UserID == "" || run.UserID == f.UserID) && (f.Reason == guard.None || slices.Contains(objected[run.ID], f.Reason)) &&
				(!f.Denied || len(objected[run.ID]) > 0) &&
				(f.Since.IsZero() || !run.StartedAt.Before(f.Since)) && (f.Until.IsZero() || run.StartedAt.Before(f.Until)) {
				want = append(want, run.ID)
			}
		}
		slices.SortFunc(want, newestFirst)
		got, err := listRunIDs(w.Store, ws, f, nothing)
		if err != nil {
			r.Fatal(err)
		}
		if !slices.Equal(got, want) {
			r.Fatalf("%d runs, want %d", len(got), len(want))
		}
	})
}

func TestCursorAndUntilBothBindAListOfRuns(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	var runs []uuid.UUID
	for range 4 {
		runs = append(runs, w.start(ws, "u").ID)
		w.Advance(time.Second)
	}
	_, next, err := w.Runs(t.Context(), ws, RunFilter{Limit: 1})
	w.must(err)
	for until, want := range map[time.Time]uuid.UUID{noon().Add(time.Second): runs[0], w.Now(): runs[2]} {
		got, _, err := w.Runs(t.Context(), ws, RunFilter{Limit: 1, Cursor: next, Until: until})
		if err != nil || len(got) != 1 || got[0].ID != want {
			t.Errorf("after the newest and until %v: %+v, %v", until, got, err)
		}
	}
}

// seedFilterable makes 120 runs of 3 users within 30 ms, a quarter in each
// status, and as many of another workspace that no list may show. objected tells which rules
// objected to each, in their order.
func seedFilterable(t *testing.T, w *world, ws, other WorkspaceKey) (all []Run, objected map[uuid.UUID][]guard.Reason) {
	t.Helper()
	objected = make(map[uuid.UUID][]guard.Reason)
	err := w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i := range 120 {
			run := Run{UserID: fmt.Sprintf("u%d", i/4%3), Status: RunStatus(i%4 + 1), StartedAt: noon().Add(time.Duration(i/4) * time.Millisecond)}
			at := run.StartedAt.Add(time.Duration(i%4) * 200 * time.Microsecond)
			decide := allow
			if run.Status == RunBlocked {
				run.DenyReason = guard.KillSwitchActive
				if i%8 == 7 {
					run.DenyReason = guard.UserBlocked
				}
				decide = denyFor(run.DenyReason)
			}
			id, err := seedRun(tx, ws, run.UserID, at, decide)
			_, err2 := seedRun(tx, other, run.UserID, at, decide)
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			if run.DenyReason != guard.None {
				objected[id] = []guard.Reason{run.DenyReason}
			}
			ask := func(reason guard.Reason) error {
				objected[id] = append(objected[id], reason)
				_, err := createStep(tx, Caller{Workspace: ws}, id, NewStep{Type: 1}, denyFor(reason), nil)
				return err
			}
			if run.Status == RunCompleted && i%3 == 0 {
				err = errors.Join(ask(guard.UserBlocked), ask(guard.KillSwitchActive))
			}
			if run.Status == RunCompleted || run.Status == RunFailed {
				_, err2 = endRun(tx, Caller{Workspace: ws}, id, run.Status, EndedByClient)
			}
			if run.Status == RunFailed && i%3 == 0 || run.Status == RunCompleted && i%6 == 0 {
				err = errors.Join(err, ask(guard.RunAlreadyEnded))
			}
			if err := errors.Join(err, err2); err != nil {
				return err
			}
			run.ID = id
			all = append(all, run)
		}
		return nil
	})
	w.must(err)
	return all, objected
}

func TestRunIsListedAsItIsRead(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	run := w.start(ws, "u")
	step := w.step(ws, run.ID)
	w.Advance(time.Minute)
	w.patch(ws, run.ID, step.ID, 500, 100)
	_, err := w.SetKillSwitch(t.Context(), ws, true, "")
	w.must(err)
	denied := w.start(ws, "v")
	w.step(ws, run.ID)
	_, err = w.SetKillSwitch(t.Context(), ws, false, "")
	w.must(err)
	_, err = w.BlockUser(t.Context(), ws, "u", nil)
	w.must(err)
	w.step(ws, run.ID)
	w.end(ws, run.ID, RunCompleted)
	w.step(ws, run.ID) // denied as well, but that is not why the run was stopped

	want := []Run{
		{
			ID: denied.ID, UserID: "v", Status: RunBlocked, DenyReason: guard.KillSwitchActive,
			StartedAt: noon().Add(time.Minute), EndedAt: noon().Add(time.Minute), LastCallAt: noon().Add(time.Minute),
		},
		{
			ID: run.ID, UserID: "u", Status: RunCompleted, DenyReason: guard.UserBlocked,
			StartedAt: noon(), EndedAt: noon().Add(time.Minute), EndedBy: EndedByClient,
			StepCount: 4, BlockedStepCount: 3, PromptTokens: 500, CompletionTokens: 100, Spend: 2_250_000, LastCallAt: noon().Add(time.Minute),
		},
	}
	got, next, err := w.Runs(t.Context(), ws, RunFilter{Limit: 2})
	w.must(err)
	if diff := gocmp.Diff(want, got); diff != "" || next != "" {
		t.Errorf("next %q, runs (-want +got):\n%s", next, diff)
	}
	for _, r := range want {
		d, err := w.Run(t.Context(), ws, r.ID, "")
		if diff := gocmp.Diff(r, d.Run); diff != "" || err != nil {
			t.Errorf("%v, read (-want +got):\n%s", err, diff)
		}
	}
}

// seedSteps gives a run steps, and only them, whose sequence numbers repeat
// and go up and down.
func seedSteps(t *testing.T, w *world, ws WorkspaceKey, run uuid.UUID, n int) (ids []uuid.UUID) {
	t.Helper()
	type step struct {
		sequence int64
		id       uuid.UUID
	}
	var steps []step
	r := &cachedRun{id: w.internal(run)}
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i := range n {
			in := NewStep{Type: 1, Sequence: int64(i * 7919 % 100)}
			row, err := insertStep(tx, &cachedWorkspace{key: ws}, r, in, guard.Decision{}, "")
			if err != nil {
				return err
			}
			steps = append(steps, step{in.Sequence, row.ID})
		}
		return nil
	}))
	slices.SortFunc(steps, func(a, b step) int {
		return cmp.Or(cmp.Compare(a.sequence, b.sequence), bytes.Compare(a.id[:], b.id[:]))
	})
	for _, s := range steps {
		ids = append(ids, s.id)
	}
	return ids
}

func TestStepsPageInTheCallersOrder(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	for _, pages := range [][]int{{0}, {500}, {500, 1}, {500, 500}, {500, 500, 203}} {
		n := 0
		for _, size := range pages {
			n += size
		}
		run := w.start(ws, "u")
		want := seedSteps(t, w, ws, run.ID, n)
		var got []uuid.UUID
		cursor := ""
		for i, size := range pages {
			d, err := w.Run(t.Context(), ws, run.ID, cursor)
			w.must(err)
			if last := i == len(pages)-1; len(d.Steps) != size || last != (d.NextSteps == "") {
				t.Errorf("of %d steps, page %d has %d, next %q", n, i, len(d.Steps), d.NextSteps)
			}
			for _, s := range d.Steps {
				got = append(got, s.ID)
			}
			cursor = d.NextSteps
		}
		if !slices.Equal(got, want) {
			t.Errorf("%d steps are not in the order of sequence and id", n)
		}
	}
}

func TestPageOfLargeStepsEndsEarly(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u")
	large := []byte(`"` + strings.Repeat("x", stepsPageBytes*2/5) + `"`) // a third one is too much
	for i := range 7 {
		in := NewStep{Type: 1, Sequence: int64(i), InputData: large}
		_, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run.ID, in, allow)
		w.must(err)
	}
	var sizes []int
	seen := int64(0)
	for cursor := ""; len(sizes) == 0 || cursor != ""; {
		d, err := w.Run(t.Context(), ws, run.ID, cursor)
		w.must(err)
		for _, s := range d.Steps {
			if s.Sequence != seen || !bytes.Equal(s.InputData, large) {
				t.Errorf("step %d with %d bytes, want step %d", s.Sequence, len(s.InputData), seen)
			}
			seen++
		}
		sizes, cursor = append(sizes, len(d.Steps)), d.NextSteps
	}
	if !slices.Equal(sizes, []int{2, 2, 2, 1}) {
		t.Errorf("pages of %v", sizes)
	}
}

// What grows when it is written as JSON counts as what it becomes.
func TestPageOfLargeErrorsIsBoundedAsItIsWritten(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u")
	text := strings.Repeat("\x01\"\u2028é", 2500)
	for range 200 {
		step := w.step(ws, run.ID)
		_, err := w.UpdateStep(t.Context(), Caller{Workspace: ws}, run.ID, step.ID, StepUpdate{Error: &text})
		w.must(err)
	}
	seen := 0
	for cursor := ""; seen == 0 || cursor != ""; {
		d, err := w.Run(t.Context(), ws, run.ID, cursor)
		w.must(err)
		written, err := json.Marshal(d.Steps)
		w.must(err)
		if len(written) > stepsPageBytes {
			t.Errorf("a page of %d steps takes %d bytes", len(d.Steps), len(written))
		}
		seen, cursor = seen+len(d.Steps), d.NextSteps
	}
	if seen != 200 {
		t.Errorf("%d steps are shown, want 200", seen)
	}
}

// cursors makes, in a world of two workspaces, a real cursor of each list.
func cursors(t *testing.T, w *world) (ws, other WorkspaceKey, run, second uuid.UUID, runs, users, steps string) {
	t.Helper()
	ws, other = w.unlimitedWorkspace(), w.unlimitedWorkspace()
	run, second = w.start(ws, "u").ID, w.start(ws, "v").ID
	w.start(other, "u")
	seedSteps(t, w, ws, run, MaxSteps+1)
	var err error
	_, runs, err = w.Runs(t.Context(), ws, RunFilter{Limit: 1})
	w.must(err)
	_, users, err = w.Users(t.Context(), ws, UserFilter{Limit: 1})
	w.must(err)
	d, err := w.Run(t.Context(), ws, run, "")
	w.must(err)
	if runs == "" || users == "" || d.NextSteps == "" {
		t.Fatal("a list has no second page")
	}
	return ws, other, run, second, runs, users, d.NextSteps
}

func TestCursorServesOnlyTheListItCameFrom(t *testing.T) {
	w := newWorld(t)
	ws, other, run, second, ofRuns, ofUsers, ofSteps := cursors(t, w)
	ask := map[string]func(cursor string) error{
		"runs": func(c string) error {
			_, _, err := w.Runs(t.Context(), ws, RunFilter{Limit: 1, Cursor: c})
			return err
		},
		"users": func(c string) error {
			_, _, err := w.Users(t.Context(), ws, UserFilter{Limit: 1, Cursor: c})
			return err
		},
		"steps": func(c string) error { _, err := w.Run(t.Context(), ws, run, c); return err },
		"runs of another workspace": func(c string) error {
			_, _, err := w.Runs(t.Context(), other, RunFilter{Limit: 1, Cursor: c})
			return err
		},
		"users of another workspace": func(c string) error {
			_, _, err := w.Users(t.Context(), other, UserFilter{Limit: 1, Cursor: c})
			return err
		},
		"steps of another run": func(c string) error { _, err := w.Run(t.Context(), ws, second, c); return err },
	}
	for from, c := range map[string]string{"runs": ofRuns, "users": ofUsers, "steps": ofSteps} {
		for to, list := range ask {
			err := list(c)
			if own := from == to; own && err != nil || !own && !errors.Is(err, ErrBadCursor) {
				t.Errorf("cursor of %s for %s: %v", from, to, err)
			}
		}
		for _, bad := range damaged(c) {
			if err := ask[from](bad); !errors.Is(err, ErrBadCursor) {
				t.Errorf("%s: damaged cursor %q: %v", from, bad, err)
			}
		}
	}
}

// damaged are all the texts that differ from a cursor in one bit, its end, or
// what a lenient decoder would not notice.
func damaged(cursor string) (all []string) {
	for i := range cursor {
		for bit := range 8 {
			b := []byte(cursor)
			b[i] ^= 1 << bit
			all = append(all, string(b))
		}
		if i > 0 {
			all = append(all, cursor[:i], cursor[i:], cursor[:i]+"\n"+cursor[i:])
		}
	}
	return append(all, cursor+"A", cursor+"=", cursor+"\n", " "+cursor, cursor+cursor, "null", "0")
}

func TestUsageListsTheDearestHundredUsers(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i := range 150 {
			id, err := insertUser(tx, ws, fmt.Sprint(i))
			if err != nil {
				return err
			}
			if _, err := tx.exec(`INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count)
				VALUES ($1, $2, $3, $4, 1)`, ws, dayOf(tx.now), id, i*7919%150); err != nil {
				return err
			}
		}
		return nil
	}))
	u, err := w.Usage(t.Context(), ws)
	w.must(err)
	if len(u.ByUser) != 100 {
		t.Fatalf("%d users", len(u.ByUser))
	}
	for i, user := range u.ByUser {
		if user.Spend != plans.Money(149-i) {
			t.Errorf("user %d spent %d", i, user.Spend)
		}
	}
}

package storage

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// keyed makes a key, and returns it as the writer is told of it.
func (w *world) keyed(ws WorkspaceKey, in NewKey) (APIKey, Caller) {
	w.t.Helper()
	k, err := w.CreateKey(w.t.Context(), ws, in)
	w.must(err)
	found, err := w.KeyCredential(w.t.Context(), k.Prefix)
	w.must(err)
	return k, Caller{Workspace: ws, Key: found.Key}
}

// agent is a run with an open step.
type agent struct{ run, step uuid.UUID }

func (w *world) agent(c Caller) (a agent) {
	w.t.Helper()
	run, err := w.StartRun(w.t.Context(), c, NewRun{UserID: "u"}, guard.Decide)
	w.must(err)
	model := "gpt-4o"
	step, err := w.CreateStep(w.t.Context(), c, run.ID, NewStep{Type: 1, Sequence: 1, Model: &model}, guard.Decide)
	w.must(err)
	return agent{run.ID, step.ID}
}

// mustNotDecide wants every call for a new decision refused, and nothing changed.
func (w *world) mustNotDecide(c Caller, a agent, want error) {
	w.t.Helper()
	before := fmt.Sprint(w.contents())
	_, starting := w.StartRun(w.t.Context(), c, NewRun{UserID: "u"}, guard.Decide)
	_, stepping := w.CreateStep(w.t.Context(), c, a.run, NewStep{Type: 1, Sequence: 1}, guard.Decide)
	_, beating := w.Heartbeat(w.t.Context(), c, a.run, guard.Decide)
	for _, err := range []error{starting, stepping, beating} {
		if !errors.Is(err, want) {
			w.t.Errorf("asked for a decision: %v, want %v", err, want)
		}
	}
	if after := fmt.Sprint(w.contents()); after != before {
		w.t.Error("a refused key changed something")
	}
}

// finish reports on an agent's step and ends its run.
func (w *world) finish(c Caller, a agent, tokens int64) error {
	in := StepUpdate{Status: StepCompleted, PromptTokens: &tokens}
	_, reporting := w.UpdateStep(w.t.Context(), c, a.run, a.step, in)
	_, ending := w.EndRun(w.t.Context(), c, a.run, RunCompleted, EndedByClient)
	return errors.Join(reporting, ending)
}

// However a key ends, the very next decision is refused, also of a key that the
// writer has just cached; and for a while what it has begun can be finished.
func TestAKeyThatEndsDecidesNothingMoreAndFinishesItsRuns(t *testing.T) {
	ends := map[string]struct {
		end  func(w *world, ws WorkspaceKey, k APIKey)
		want error
	}{
		"revoked": {func(w *world, ws WorkspaceKey, k APIKey) {
			_, err := w.RevokeKey(t.Context(), ws, k.ID)
			w.must(err)
		}, ErrKeyRevoked},
		"revoked by another process": {func(w *world, _ WorkspaceKey, k APIKey) {
			w.elsewhere(`UPDATE api_keys SET revoked_at = $1 WHERE uuid = $2`, w.Now().UnixMilli(), k.ID[:])
		}, ErrKeyRevoked},
		"expired": {func(w *world, _ WorkspaceKey, k APIKey) { w.clock.Set(k.ExpiresAt) }, ErrKeyExpired},
	}
	for name, c := range ends {
		t.Run(name, func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws := w.unlimitedWorkspace()
			w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
			k, caller := w.keyed(ws, NewKey{Label: "nightly", ExpiresAt: w.Now().Add(time.Minute)})
			others, mine, late := w.agent(w.caller(ws)), w.agent(caller), w.agent(caller)
			w.Advance(time.Minute - time.Millisecond)
			_, err := w.Heartbeat(t.Context(), caller, mine.run, guard.Decide)
			w.must(err)
			c.end(w, ws, k)
			w.mustNotDecide(caller, mine, c.want)
			if err := w.finish(caller, others, 7); !errors.Is(err, c.want) {
				t.Errorf("it finished another key's run: %v", err)
			}
			if err := w.finish(caller, agent{uuid.New(), uuid.New()}, 7); !errors.Is(err, c.want) {
				t.Errorf("it finished a run that is none: %v", err)
			}
			w.Advance(KeyGrace - 2*time.Millisecond)
			w.must(w.finish(caller, mine, 7))
			w.mustHaveBooked(ws, w.Now(), 7*microUSD, 7, 0)
			if n := w.number(`SELECT running_runs FROM workspaces WHERE id = $1`, ws); n != 2 {
				t.Errorf("%d runs are running", n)
			}
			w.Advance(2 * time.Millisecond)
			if err := w.finish(caller, late, 7); !errors.Is(err, c.want) {
				t.Errorf("after the grace: %v", err)
			}
			w.mustRememberTheTruth()
			w.mustVerify()
		})
	}
}

func TestACredentialSaysHowItsKeyEnded(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	k, c := w.keyed(ws, NewKey{Label: "x", Scope: ScopeRead, ExpiresAt: w.Now().Add(time.Minute)})
	want := func(ended error, mayFinish bool) {
		t.Helper()
		got, err := w.KeyCredential(t.Context(), k.Prefix)
		w.must(err)
		if got.Scope != ScopeRead || got.Key != c.Key || !errors.Is(got.KeyEnded, ended) || got.MayFinish != mayFinish {
			t.Errorf("%+v, want it ended %v and %v", got, ended, mayFinish)
		}
		if _, cached := w.CachedKey(k.Prefix); cached && ended != nil {
			t.Error("a key that has ended is cached")
		}
	}
	want(nil, false)
	w.InvalidateKey(k.Prefix)
	w.Advance(time.Minute)
	want(ErrKeyExpired, true)
	w.Advance(KeyGrace)
	want(ErrKeyExpired, false)
	_, err := w.KeyCredential(t.Context(), "00000000")
	if !errors.Is(err, ErrNotFound) {
		t.Errorf("a key that is none: %v", err)
	}
}

// While they overlap both keys work; then the old one is over.
func TestARegeneratedKeyGoesOnForItsOverlap(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	old := w.caller(ws)
	a := w.agent(old)
	_, err := w.RotateKey(t.Context(), ws, Rotation{Label: "new", Overlap: time.Hour})
	w.must(err)
	if renewed := w.caller(ws); renewed == old {
		t.Fatal("the first key is the old one still")
	}
	w.agent(w.caller(ws))
	w.Advance(time.Hour - time.Millisecond)
	w.agent(old)
	w.Advance(time.Millisecond)
	w.mustNotDecide(old, a, ErrKeyExpired)
	w.must(w.finish(old, a, 1))
	if n := w.number(`SELECT count(*) FROM api_keys WHERE is_first = 1`); n != 1 {
		t.Errorf("%d first keys", n)
	}
}

func TestAWorkspaceHasAHundredActiveKeys(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	for i := range MaxKeys - 1 {
		in := NewKey{Label: fmt.Sprint(i)}
		if i == 0 {
			in.ExpiresAt = w.Now().Add(time.Minute)
		}
		_, err := w.CreateKey(t.Context(), ws, in)
		w.must(err)
	}
	before := fmt.Sprint(w.contents())
	_, creating := w.CreateKey(t.Context(), ws, NewKey{Label: "one more"})
	_, rotating := w.RotateKey(t.Context(), ws, Rotation{Label: "one more", Overlap: time.Second})
	if !errors.Is(creating, ErrTooManyKeys) || !errors.Is(rotating, ErrTooManyKeys) {
		t.Errorf("one more: %v, %v", creating, rotating)
	}
	if after := fmt.Sprint(w.contents()); after != before {
		t.Error("a refused key left something")
	}
	w.mustRememberTheTruth()
	_, err := w.RotateKey(t.Context(), ws, Rotation{Label: "in its place"})
	w.must(err)
	_, err = w.CreateKey(t.Context(), other, NewKey{Label: "another's"})
	w.must(err)
	w.Advance(time.Minute) // one expires
	k, err := w.CreateKey(t.Context(), ws, NewKey{Label: "in its place"})
	w.must(err)
	if _, err = w.CreateKey(t.Context(), ws, NewKey{Label: "one more"}); !errors.Is(err, ErrTooManyKeys) {
		t.Errorf("one more: %v", err)
	}
	_, err = w.RevokeKey(t.Context(), ws, k.ID)
	w.must(err)
	_, err = w.CreateKey(t.Context(), ws, NewKey{Label: "in its place"})
	w.must(err)
}

func TestKeysAreListedNewestFirstWithTheirUse(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	a, caller := w.keyed(ws, NewKey{Label: "a", Scope: ScopeAdmin})
	b, _ := w.keyed(ws, NewKey{Label: "b", ExpiresAt: w.Now().Add(time.Minute)})
	w.agent(caller)
	w.finish(caller, w.agent(caller), 1)
	w.KeyUsed(caller.Key)
	w.Advance(time.Minute)
	labels := func(f KeyFilter) (all []string) {
		t.Helper()
		for {
			keys, next, err := w.APIKeys(t.Context(), ws, f)
			w.must(err)
			for _, k := range keys {
				all = append(all, fmt.Sprint(k.Label, " ", k.Scope, " ", k.Active(), " ", k.RunningRuns, " ", k.LastUsedAt.Unix() > 0))
			}
			if f.Cursor = next; next == "" {
				return all
			}
		}
	}
	yes, no := true, false
	for _, c := range []struct {
		filter KeyFilter
		want   []string
	}{
		{KeyFilter{Limit: 1}, []string{"b agent false 0 false", "a admin true 1 true", "default agent true 0 false"}},
		{KeyFilter{Limit: 10, Active: &yes}, []string{"a admin true 1 true", "default agent true 0 false"}},
		{KeyFilter{Limit: 10, Active: &no}, []string{"b agent false 0 false"}},
	} {
		if diff := cmp.Diff(c.want, labels(c.filter)); diff != "" {
			t.Errorf("%+v:\n%s", c.filter, diff)
		}
	}
	stranger := w.unlimitedWorkspace()
	_, renaming := w.RenameKey(t.Context(), stranger, a.ID, "x")
	_, revoking := w.RevokeKey(t.Context(), stranger, b.ID)
	if !errors.Is(renaming, ErrNotFound) || !errors.Is(revoking, ErrNotFound) {
		t.Errorf("another workspace's: %v, %v", renaming, revoking)
	}
}

// The use of keys is in nobody's way: it is written once a minute, not by the
// calls themselves.
func TestTheUseOfKeysIsRecordedToTheMinute(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	_, c := w.keyed(ws, NewKey{Label: "a"})
	used := func() time.Time {
		return time.UnixMilli(w.number(`SELECT coalesce(max(last_used_at), 0) FROM api_keys WHERE id = $1`, c.Key)).UTC()
	}
	record := func(want int) {
		t.Helper()
		n, err := w.RecordKeyUse(t.Context())
		if n != want || err != nil {
			t.Errorf("recorded the use of %d keys, %v, want %d", n, err, want)
		}
	}
	record(0)
	w.Advance(30 * time.Second)
	w.KeyUsed(c.Key)
	w.KeyUsed(c.Key)
	if used().UnixMilli() != 0 {
		t.Error("a call wrote that its key was used")
	}
	record(1)
	if want := noon(); !used().Equal(want) {
		t.Errorf("used at %v, want %v", used(), want)
	}
	w.KeyUsed(c.Key) // in the same minute
	record(0)
	w.Advance(time.Minute)
	w.KeyUsed(c.Key)
	record(1)
	w.Advance(-time.Hour) // a clock that goes back makes no use of before the latest
	w.KeyUsed(c.Key)
	record(0)
	if want := noon().Add(time.Minute); !used().Equal(want) {
		t.Errorf("used at %v, want %v", used(), want)
	}
	w.Advance(3 * time.Hour)
	record(0)
	if w.keyUse.last(c.Key) != (time.Time{}) {
		t.Error("a key that was not used lately is remembered")
	}
}

func TestRunsKnowTheKeyThatStartedThem(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	k, c := w.keyed(ws, NewKey{Label: "nightly"})
	mine := w.agent(c)
	w.agent(w.caller(ws))
	for _, f := range []RunFilter{{Key: k.ID}, {Key: k.ID, UserID: "u"}, {Key: k.ID, Status: RunRunning}} {
		f.Limit = 10
		runs, _, err := w.Runs(t.Context(), ws, f)
		w.must(err)
		if len(runs) != 1 || runs[0].ID != mine.run {
			t.Errorf("%+v lists %+v", f, runs)
		}
		if runs, _, err := w.Runs(t.Context(), other, f); len(runs) != 0 || err != nil {
			t.Errorf("another workspace lists %+v, %v", runs, err)
		}
	}
	d, err := w.Run(t.Context(), ws, mine.run, "")
	w.must(err)
	if diff := cmp.Diff(&RunKey{ID: k.ID, Prefix: k.Prefix, Label: "nightly"}, d.Key); diff != "" {
		t.Error(diff)
	}
}

func TestUsageByGroupAddsUpToAllOfIt(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
	dear, c := w.keyed(ws, NewKey{Label: "dear"})
	cheap, c2 := w.keyed(ws, NewKey{Label: "cheap"})
	w.must(w.finish(c, w.agent(c), 50))
	w.must(w.finish(c2, w.agent(c2), 20))
	unkeyed := Caller{Workspace: ws} // as runs of before keys were kept
	w.must(w.finish(unkeyed, w.agent(unkeyed), 3))
	_, err := w.BlockUser(t.Context(), ws, "u", nil)
	w.must(err)
	_, err = w.StartRun(t.Context(), c2, NewRun{UserID: "u"}, guard.Decide)
	w.must(err)
	part := func(value string, tokens, prompt, runs, blocked int64) UsagePart {
		sums := UsageSums{Spend: plans.Money(tokens) * microUSD, PromptTokens: prompt, Runs: runs, BlockedRuns: blocked}
		return UsagePart{Value: value, UsageSums: sums, Days: []UsageSums{{}, sums}}
	}
	for _, c := range []struct {
		group UsageGroup
		limit int64
		want  []UsagePart
		other UsagePart
	}{
		{ByKey, 10, []UsagePart{part(dear.ID.String(), 50, 50, 1, 0), part(cheap.ID.String(), 20, 20, 1, 1)}, part("", 3, 3, 1, 0)},
		{ByKey, 1, []UsagePart{part(dear.ID.String(), 50, 50, 1, 0)}, part("", 23, 23, 2, 1)},
		{ByModel, 10, []UsagePart{part("gpt-4o", 73, 73, 0, 0)}, part("", 0, 0, 0, 0)},
		{ByUser, 10, []UsagePart{part("u", 73, 0, 3, 0)}, part("", 0, 0, 0, 0)},
	} {
		today := w.Now().Truncate(24 * time.Hour)
		q := UsageQuery{Group: c.group, From: today.AddDate(0, 0, -1), To: today.AddDate(0, 0, 1), ByDay: true, Limit: c.limit}
		got, err := w.UsageBy(t.Context(), ws, q)
		w.must(err)
		if diff := cmp.Diff(append(c.want, c.other), append(got.Parts, got.Other)); diff != "" {
			t.Errorf("by %s, %d:\n%s", c.group, c.limit, diff)
		}
		q.From, q.To, q.ByDay = today.AddDate(0, 0, -9), today, false
		if got, err = w.UsageBy(t.Context(), ws, q); len(got.Parts) != 0 || got.Other.Spend != 0 || err != nil {
			t.Errorf("by %s, of days before: %+v, %v", c.group, got, err)
		}
	}
}

// A period is told beside the one before, by users' prefixes too; whatever the
// parts, they and the rest are the whole.
func TestUsageIsComparedWithThePeriodBefore(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
	spend := func(user string, tokens int64) {
		run := w.start(ws, user).ID
		w.patch(ws, run, w.createModelCall(ws, run, "gpt-4o"), tokens, 0)
	}
	spend("acme/a", 7)
	spend("globex/x/y", 100)
	w.Advance(24 * time.Hour)
	spend("acme/a", 5)
	spend("acme/🦊", 6)
	spend("alone", 3)
	today := w.Now().Truncate(24 * time.Hour)
	type part struct {
		value               string
		spend, before, runs int64
	}
	for group, want := range map[UsageGroup][]part{
		ByPrefix: {{"acme/", 11, 7, 2}, {"", 3, 100, 1}},
		ByUser:   {{"acme/🦊", 6, 0, 1}, {"acme/a", 5, 7, 1}, {"", 3, 100, 1}},
		ByModel:  {{"gpt-4o", 14, 107, 0}, {"", 0, 0, 0}},
	} {
		r, err := w.UsageBy(t.Context(), ws, UsageQuery{
			Group: group, From: today, To: today.AddDate(0, 0, 1), BeforeFrom: today.AddDate(0, 0, -1), BeforeTo: today, Limit: 2,
		})
		w.must(err)
		var got []part
		for _, p := range append(r.Parts, r.Other) {
			got = append(got, part{p.Value, int64(p.Spend / microUSD), int64(p.Before.Spend / microUSD), p.Runs})
		}
		if diff := cmp.Diff(want, got, cmp.AllowUnexported(part{})); diff != "" {
			t.Errorf("by %s:\n%s", group, diff)
		}
	}
}

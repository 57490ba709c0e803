package storage

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

func TestAGrantLetsMoreOfTheSamePassUntilItIsUsedUpRevokedOrOver(t *testing.T) {
	for _, scope := range []GrantScope{GrantRun, GrantSameAction, GrantTool} {
		t.Run(scope.String(), func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws, run, a := w.waiting()
			other := w.start(ws, "u").ID
			v := w.decide(ws, a.Review, Verdict{Approve: true, Grant: &NewGrant{Scope: scope, Seconds: 60, Uses: 2}})
			if v.Grant == uuid.Nil {
				t.Fatalf("no grant: %+v", v)
			}
			allowed := func(run uuid.UUID, input string) bool {
				a := w.ask(ws, run, "refund", input)
				if a.Decision.Review {
					w.decide(ws, a.Review, Verdict{})
				}
				return a.Decision.Allowed()
			}
			if got, want := allowed(run, `{"amount":5}`), scope != GrantSameAction; got != want {
				t.Errorf("another action of the run: %v", got)
			}
			if got, want := allowed(other, `{"amount":101}`), scope != GrantRun; got != want {
				t.Errorf("the same action of another run: %v", got)
			}
			list, err := w.Grants(t.Context(), ws)
			w.must(err)
			if used := scope == GrantTool; used != (len(list) == 0) {
				t.Errorf("grants left: %+v", list)
			}
			if scope == GrantTool {
				return // two uses are all
			}
			w.Advance(61 * time.Second)
			if allowed(run, `{"amount":101}`) {
				t.Error("allowed after its time")
			}
		})
	}
	t.Run("revoked", func(t *testing.T) {
		w := newVerifiedWorld(t)
		ws, run, a := w.waiting()
		v := w.decide(ws, a.Review, Verdict{Approve: true, Grant: &NewGrant{Scope: GrantRun, Seconds: 60, Uses: 9}})
		w.must(w.RevokeGrant(t.Context(), ws, v.Grant))
		w.must(w.RevokeGrant(t.Context(), ws, v.Grant))
		if a := w.ask(ws, run, "refund", `{}`); !a.Decision.Review {
			t.Errorf("allowed by a revoked grant: %+v", a.Decision)
		}
	})
}

func TestReviewsAreListedAndFiltered(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, run, a := w.waiting()
	w.Advance(time.Second)
	b := w.ask(ws, run, "refund", `{}`)
	w.decide(ws, a.Review, Verdict{})
	for name, c := range map[string]struct {
		filter ReviewFilter
		want   []uuid.UUID
	}{
		"all":     {ReviewFilter{}, []uuid.UUID{b.Review, a.Review}},
		"pending": {ReviewFilter{Status: "pending"}, []uuid.UUID{b.Review}},
		"denied":  {ReviewFilter{Status: "denied", Policy: "refunds", UserID: "u", Run: run}, []uuid.UUID{a.Review}},
		"none":    {ReviewFilter{Status: "approved"}, nil},
		"policy":  {ReviewFilter{Policy: "other"}, nil},
	} {
		c.filter.Limit = 1
		var got []uuid.UUID
		for {
			page, next, err := w.Reviews(t.Context(), ws, c.filter)
			w.must(err)
			for _, v := range page {
				got = append(got, v.ID)
			}
			if c.filter.Cursor = next; next == "" {
				break
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}

func TestAPolicyCountsWhatItHasDoneInAWeek(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "denies", `{"match":{"tools":["no"]},"effect":"deny"}`)
	w.policy(ws, "logs", `{"match":{"tools":["no","fine"]},"effect":"log"}`)
	w.policy(ws, "asks", `{"match":{"tools":["ask"]},"effect":"review"}`)
	w.policy(ws, "starts", `{"match":{"users":["nobody"]},"effect":"deny"}`)
	w.start(ws, "nobody")
	run := w.start(ws, "u").ID
	for _, tool := range []string{"no", "no", "fine", "other"} {
		w.ask(ws, run, tool, `{}`)
	}
	asked := w.ask(ws, run, "ask", `{}`)
	w.decide(ws, asked.Review, Verdict{Approve: true, Grant: &NewGrant{Scope: GrantRun, Seconds: 60, Uses: 9}})
	w.ask(ws, run, "ask", `{}`)
	hits := func() map[string]PolicyHits {
		list, err := w.Policies(t.Context(), ws)
		w.must(err)
		all := map[string]PolicyHits{}
		for _, p := range list {
			one, err := w.Policy(t.Context(), ws, p.Name)
			w.must(err)
			if all[p.Name] = p.Hits; one.Hits != p.Hits || one.Reviewed != p.Reviewed {
				t.Errorf("%s is %+v, in the list %+v", p.Name, one, p)
			}
		}
		return all
	}
	want := map[string]PolicyHits{"denies": {Denied: 2}, "logs": {Logged: 3}, "asks": {Reviewed: 1, Granted: 1}, "starts": {Denied: 1}}
	if got := hits(); !maps.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	w.Advance(6 * 24 * time.Hour)
	if got := hits(); !maps.Equal(got, want) {
		t.Errorf("on the last day: %+v, want %+v", got, want)
	}
	w.Advance(24 * time.Hour)
	if got := hits(); got["denies"] != (PolicyHits{}) {
		t.Errorf("a week later: %+v", got)
	}
}

func TestHowAPolicyIsReviewedIsSeenInItsLatestReviews(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, run, a := w.waiting()
	stats := func() ReviewStats {
		p, err := w.Policy(t.Context(), ws, "refunds")
		w.must(err)
		return p.Reviewed
	}
	if got := stats(); got != (ReviewStats{}) {
		t.Errorf("while the first one waits: %+v", got)
	}
	w.Advance(10 * time.Second)
	w.decide(ws, a.Review, Verdict{})
	expired := w.ask(ws, run, "refund", `{}`)
	w.Advance(time.Hour)
	_, err := w.ExpireReviews(t.Context())
	w.must(err)
	if w.review(ws, expired.Review).Resolution != Expired {
		t.Fatal("it has not expired")
	}
	if got, want := stats(), (ReviewStats{Ended: 2, Expired: 1, Verdict: 10 * time.Second}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	approve := func(n int) {
		run := w.start(ws, "u").ID
		for range n {
			a := w.ask(ws, run, "refund", `{}`)
			w.Advance(2 * time.Second)
			w.decide(ws, a.Review, Verdict{Approve: true})
		}
	}
	approve(49)
	if got := stats(); got.Approved != 49 || got.Verdict != 2*time.Second || got.HastyApprovals != 0 {
		t.Errorf("after 49 approvals: %+v", got)
	}
	approve(1)
	if got := stats(); got.HastyApprovals != 50 {
		t.Errorf("after 50 approvals: %+v", got)
	}
	w.policy(ws, "refunds", `{"match":{"tools":["refund"]},"effect":"review"}`)
	if got := stats(); got.HastyApprovals != 0 || got.Ended != 52 {
		t.Errorf("of the changed policy: %+v", got)
	}
	approve(60)
	if got, want := stats(), (ReviewStats{Ended: 100, Approved: 100, Verdict: 2 * time.Second, HastyApprovals: 60}); got != want {
		t.Errorf("of the latest 100: %+v, want %+v", got, want)
	}
}

func TestAReviewShowsWhatItsRunHasDone(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, run, a := w.waiting()
	w.price(ws, "gpt-4o", 1_000_000, 0)
	step := w.step(ws, run)
	w.patch(ws, run, step.ID, 1000, 0)
	v := w.review(ws, a.Review)
	if v.RunSteps != 2 || v.RunSpend != 1_000_000_000/1000 || v.RunStartedAt() != idTime(run) {
		t.Errorf("%+v", v)
	}
}

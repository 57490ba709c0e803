package storage

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

const reviewed = `{"match":{"tools":["refund"]},"effect":"review","message":"refunds need a person"}`

// waiting makes a workspace in which a step waits for a person.
func (w *world) waiting() (ws WorkspaceKey, run uuid.UUID, a Answer) {
	w.t.Helper()
	ws = w.unlimitedWorkspace()
	w.policy(ws, "refunds", reviewed)
	run = w.start(ws, "u").ID
	a = w.ask(ws, run, "refund", `{"amount":101}`)
	if !a.Decision.Review || a.Status != "WAITING" || a.Review == uuid.Nil {
		w.t.Fatalf("asked a person? %+v", a)
	}
	return ws, run, a
}

// person is who reviews.
func person(name string) context.Context {
	return WithActor(context.Background(), Actor{Kind: ActorAccount, Name: name})
}

func (w *world) review(ws WorkspaceKey, id uuid.UUID) Review {
	w.t.Helper()
	v, err := w.Review(context.Background(), ws, id)
	w.must(err)
	return v
}

func (w *world) decide(ws WorkspaceKey, id uuid.UUID, v Verdict) Review {
	w.t.Helper()
	out, err := w.DecideReview(person("ana@example.com"), ws, id, v)
	w.must(err)
	return out
}

// waitUntilExpiry has the agent of a review poll until its time is over.
func (w *world) waitUntilExpiry(ws WorkspaceKey, id uuid.UUID) {
	w.t.Helper()
	for range 29 {
		v, err := w.PollReview(context.Background(), ws, id)
		w.must(err)
		if v.Resolution != 0 {
			w.t.Fatalf("polled %v", v.Resolution)
		}
		w.Advance(10 * time.Second)
	}
}

// stepStatus is how a step stands in its run, which is what it says when it is read alone.
func (w *world) stepStatus(ws WorkspaceKey, run, step uuid.UUID) Step {
	w.t.Helper()
	steps := w.detail(ws, run).Steps
	shown := steps[slices.IndexFunc(steps, func(s Step) bool { return s.ID == step })]
	alone, err := w.Step(context.Background(), ws, run, step)
	w.must(err)
	if !reflect.DeepEqual(alone, shown) {
		w.t.Errorf("alone the step is %+v, in its run %+v", alone, shown)
	}
	return shown
}

func TestAnApprovedStepRunsAndTheRecordSaysWhoseWordItWas(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, run, a := w.waiting()
	v := w.review(ws, a.Review)
	if v.Resolution.Status() != "pending" || v.PolicyName != "refunds" || v.Message != "refunds need a person" ||
		*v.ToolName != "refund" || string(v.InputData) != `{"amount":101}` || v.UserID != "u" || !v.Waits(w.Now()) {
		t.Errorf("pending %+v", v)
	}
	if n := w.number(`SELECT pending_reviews FROM workspaces`); n != 1 {
		t.Errorf("%d pending", n)
	}
	w.Advance(3 * time.Second)
	polled, err := w.PollReview(t.Context(), ws, a.Review)
	w.must(err)
	if !polled.LastPollAt.Equal(w.Now()) {
		t.Errorf("last poll %v", polled.LastPollAt)
	}
	decided := w.ReviewsDecided()
	note := "fine"
	v = w.decide(ws, a.Review, Verdict{Approve: true, Note: &note})
	<-decided
	if v.Resolution != Approved || v.DecidedBy != "ana@example.com" || *v.Note != "fine" || !v.DecidedAt.Equal(w.Now()) {
		t.Errorf("approved %+v", v)
	}
	s := w.stepStatus(ws, run, a.ID)
	if s.Status != StepRunning || !s.Decision.Allowed() || s.Review == nil || s.Review.DecidedBy != "ana@example.com" {
		t.Errorf("the step %+v", s)
	}
	w.patch(ws, run, a.ID, 0, 0)
	// A second verdict answers the first.
	if again := w.decide(ws, a.Review, Verdict{}); again.Resolution != Approved || *again.Note != "fine" {
		t.Errorf("again %+v", again)
	}
	if s := w.stepStatus(ws, run, a.ID); s.Status != StepCompleted {
		t.Errorf("the step in the end %v", s.Status)
	}
}

func TestAStepThatIsNotApprovedIsDeniedWithTheReason(t *testing.T) {
	for name, c := range map[string]struct {
		resolve    func(w *world, ws WorkspaceKey, run, review uuid.UUID)
		resolution Resolution
		reason     guard.Reason
	}{
		"refused": {func(w *world, ws WorkspaceKey, _, id uuid.UUID) {
			note := "no"
			w.decide(ws, id, Verdict{Note: &note})
		}, Refused, guard.ReviewDenied},
		"expired": {func(w *world, _ WorkspaceKey, _, _ uuid.UUID) {
			w.Advance(291 * time.Second)
			n, err := w.ExpireReviews(context.Background())
			w.must(err)
			if n != 1 {
				w.t.Errorf("%d expired", n)
			}
		}, Expired, guard.ReviewExpired},
		"expired when polled": {func(w *world, ws WorkspaceKey, _, id uuid.UUID) {
			w.Advance(291 * time.Second)
			v, err := w.PollReview(context.Background(), ws, id)
			w.must(err)
			if v.Resolution != Expired {
				w.t.Errorf("polled %v", v.Resolution)
			}
		}, Expired, guard.ReviewExpired},
		"approved too late, while its agent waits": {func(w *world, ws WorkspaceKey, _, id uuid.UUID) {
			w.waitUntilExpiry(ws, id)
			w.decide(ws, id, Verdict{Approve: true})
		}, Expired, guard.ReviewExpired},
		"denied too late, while its agent waits": {func(w *world, ws WorkspaceKey, _, id uuid.UUID) {
			w.waitUntilExpiry(ws, id)
			w.decide(ws, id, Verdict{Note: new("no")})
		}, Expired, guard.ReviewExpired},
		"approved after the job has expired it": {func(w *world, ws WorkspaceKey, _, id uuid.UUID) {
			w.waitUntilExpiry(ws, id)
			n, err := w.ExpireReviews(context.Background())
			w.must(err)
			if n != 1 {
				w.t.Errorf("%d expired", n)
			}
			w.decide(ws, id, Verdict{Approve: true})
		}, Expired, guard.ReviewExpired},
		"approved when nobody waits": {func(w *world, ws WorkspaceKey, _, id uuid.UUID) {
			w.Advance(41 * time.Second)
			w.decide(ws, id, Verdict{Approve: true})
		}, Expired, guard.ReviewExpired},
		"kill switch": {func(w *world, ws WorkspaceKey, _, _ uuid.UUID) {
			_, err := w.SetKillSwitch(context.Background(), ws, true, "")
			w.must(err)
		}, Cancelled, guard.ReviewCancelled},
		"blocked user": {func(w *world, ws WorkspaceKey, _, _ uuid.UUID) {
			_, err := w.BlockUser(context.Background(), ws, "u", nil)
			w.must(err)
		}, Cancelled, guard.ReviewCancelled},
		"end of the run": {func(w *world, ws WorkspaceKey, run, _ uuid.UUID) {
			w.end(ws, run, RunFailed)
		}, Cancelled, guard.ReviewCancelled},
		"idle run": {func(w *world, _ WorkspaceKey, _, _ uuid.UUID) {
			w.Advance(DefaultRunIdleTimeout + time.Second)
			w.sweep(1)
		}, Cancelled, guard.ReviewCancelled},
		"many ends": {func(w *world, ws WorkspaceKey, run, _ uuid.UUID) {
			_, _, err := w.EndRuns(context.Background(), ws, EndsOfRuns{IDs: []uuid.UUID{run}, Status: RunFailed, By: EndedByDashboard})
			w.must(err)
		}, Cancelled, guard.ReviewCancelled},
		"changed policy": {func(w *world, ws WorkspaceKey, _, _ uuid.UUID) {
			w.policy(ws, "refunds", `{"effect":"review"}`)
		}, Superseded, guard.ReviewCancelled},
		"deleted policy": {func(w *world, ws WorkspaceKey, _, _ uuid.UUID) {
			w.must(w.DeletePolicy(context.Background(), ws, "refunds"))
		}, Superseded, guard.ReviewCancelled},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws, run, a := w.waiting()
			c.resolve(w, ws, run, a.Review)
			v, s := w.review(ws, a.Review), w.stepStatus(ws, run, a.ID)
			if v.Resolution != c.resolution || v.Resolution.Status() != "denied" {
				t.Errorf("the review is %v", v.Resolution)
			}
			if s.Status != StepBlocked || s.Decision.Reason != c.reason || s.Decision.Policy == nil || s.Decision.Policy.Name != "refunds" {
				t.Errorf("the step is %v by %+v", s.Status, s.Decision)
			}
			if n := w.number(`SELECT pending_reviews FROM workspaces`); n != 0 {
				t.Errorf("%d pending", n)
			}
			if late := w.decide(ws, a.Review, Verdict{Approve: true}); late.Resolution != c.resolution {
				t.Errorf("a later approval made it %v", late.Resolution)
			}
		})
	}
}

func TestWorkThatDidNotWaitIsBookedAndRecordedAsABypass(t *testing.T) {
	for name, before := range map[string]func(w *world, ws WorkspaceKey, id uuid.UUID){
		"pending": func(*world, WorkspaceKey, uuid.UUID) {},
		"refused": func(w *world, ws WorkspaceKey, id uuid.UUID) { w.decide(ws, id, Verdict{}) },
		"expired": func(w *world, _ WorkspaceKey, _ uuid.UUID) {
			w.Advance(time.Hour)
			_, err := w.ExpireReviews(context.Background())
			w.must(err)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws := w.unlimitedWorkspace()
			w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
			w.policy(ws, "calls", `{"limit":{"measure":"calls","per":"workspace","window":"total","amount":100},"effect":"deny"}`)
			w.policy(ws, "all", `{"effect":"review"}`)
			run := w.start(ws, "u").ID
			model := "gpt-4o"
			a, err := w.CreateStep(t.Context(), w.caller(ws), run, NewStep{Type: ModelCall, Sequence: 1, Model: &model, Waits: true}, guard.Decide)
			w.must(err)
			before(w, ws, a.Review)
			w.patch(ws, run, a.ID, 100, 10)
			if v := w.review(ws, a.Review); v.Resolution != Bypassed {
				t.Errorf("the review is %v", v.Resolution)
			}
			if s := w.stepStatus(ws, run, a.ID); s.Status != StepCompleted || s.Cost == nil || *s.Cost != 110_000 {
				t.Errorf("the step is %+v", s)
			}
			entries, _, err := w.Audit(t.Context(), ws, AuditFilter{Action: ActionBypassReview, Limit: 10})
			w.must(err)
			if len(entries) != 1 || entries[0].Target != a.ID.String() {
				t.Errorf("audit %+v", entries)
			}
		})
	}
}

func TestAStepThatWaitsHoldsItsPlaceAndARefusedOneGivesItBack(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "once", `{"limit":{"measure":"calls","per":"workspace","window":"day","amount":1},"effect":"deny"}`)
	w.policy(ws, "ask", `{"effect":"review"}`)
	run := w.start(ws, "u").ID
	first := w.ask(ws, run, "t", `{}`)
	if second := w.ask(ws, run, "t", `{}`); second.Decision.Reason != guard.PolicyLimitExceeded {
		t.Errorf("while the first waits: %+v", second.Decision)
	}
	w.decide(ws, first.Review, Verdict{})
	if third := w.ask(ws, run, "t", `{}`); !third.Decision.Review {
		t.Errorf("after it was refused: %+v", third.Decision)
	}
}

func TestOnlyAClientThatWaitsIsAskedToUnlessTheWorkspaceSaysAll(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "refunds", reviewed)
	run, tool := w.start(ws, "u").ID, "refund"
	ask := func() guard.Decision {
		a, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, NewStep{Type: ToolCall, Sequence: 1, ToolName: &tool}, guard.Decide)
		w.must(err)
		return a.Decision
	}
	if d := ask(); d.Reason != guard.ReviewNotSupported || d.Policy.Name != "refunds" {
		t.Errorf("known clients: %+v", d)
	}
	yes := true
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{ReviewsForAll: &yes})
	w.must(err)
	if d := ask(); !d.Review {
		t.Errorf("all clients: %+v", d)
	}
}

// One approval, one execution: whoever polls or clicks meanwhile.
func TestAmongManyVerdictsAndPollsOneDecides(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, run, a := w.waiting()
	var group sync.WaitGroup
	var mu sync.Mutex
	seen := map[Resolution]bool{}
	for i := range 200 {
		group.Go(func() {
			v, err := w.PollReview(context.Background(), ws, a.Review)
			if i%4 == 0 {
				v, err = w.DecideReview(person(fmt.Sprint(i)), ws, a.Review, Verdict{Approve: i%8 == 0})
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			} else if v.Resolution != 0 {
				seen[v.Resolution] = true
			}
		})
	}
	group.Wait()
	v, s := w.review(ws, a.Review), w.stepStatus(ws, run, a.ID)
	if len(seen) != 1 || !seen[v.Resolution] || (v.Resolution == Approved) != (s.Status == StepRunning) {
		t.Errorf("seen %v, in the end %v and %v", seen, v.Resolution, s.Status)
	}
}

func TestReviewsAreInTheAuditLog(t *testing.T) {
	w := newVerifiedWorld(t)
	ws, run, a := w.waiting()
	b := w.ask(ws, run, "refund", `{}`)
	w.decide(ws, a.Review, Verdict{Approve: true})
	note := "no"
	w.decide(ws, b.Review, Verdict{Note: &note})
	w.must(w.DeletePolicy(person("ana@example.com"), ws, "refunds"))
	for action, want := range map[Action]string{
		ActionApproveReview: a.Review.String(), ActionDenyReview: b.Review.String(), ActionDeletePolicy: "refunds",
	} {
		entries, _, err := w.Audit(t.Context(), ws, AuditFilter{Action: action, Limit: 10})
		w.must(err)
		if len(entries) != 1 || entries[0].Target != want || entries[0].Actor.Name != "ana@example.com" {
			t.Errorf("%s: %+v", action, entries)
		}
	}
}

// Whatever comes first in the second in which a review expires is what all are
// told, and nothing of it is taken back.
func TestAVerdictInTheSecondOfTheExpiryIsAllOrNothing(t *testing.T) {
	for range 20 {
		w := newWorld(t)
		ws, run, a := w.waiting()
		w.Advance(290*time.Second - 30*time.Second)
		if v, err := w.PollReview(t.Context(), ws, a.Review); err != nil || v.Resolution != 0 {
			t.Fatalf("polled %+v, %v", v, err)
		}
		w.Advance(30*time.Second - time.Millisecond)
		var group sync.WaitGroup
		answers := make(chan Resolution, 100)
		hear := func(v Review, err error) {
			if err != nil {
				t.Error(err)
			}
			answers <- v.Resolution
		}
		group.Go(func() { w.Advance(time.Millisecond) }) // the last one
		group.Go(func() { hear(w.DecideReview(person("ana@example.com"), ws, a.Review, Verdict{Approve: true})) })
		for range 20 {
			group.Go(func() { hear(w.PollReview(context.Background(), ws, a.Review)) })
		}
		group.Go(func() {
			if _, err := w.ExpireReviews(context.Background()); err != nil {
				t.Error(err)
			}
		})
		group.Wait()
		close(answers)
		end := w.review(ws, a.Review).Resolution
		for v := range answers {
			if v != 0 && v != end {
				t.Errorf("%v was answered, and it is %v", v, end)
			}
		}
		if s := w.stepStatus(ws, run, a.ID).Status; end == Approved != (s == StepRunning) || end == Expired != (s == StepBlocked) {
			t.Errorf("it is %v, its step %v", end, s)
		}
		w.mustVerify()
	}
}

// A clock that jumps neither approves nor loses a review: set back, it waits
// longer; set ahead, its time is over.
func TestAReviewSurvivesAClockThatJumps(t *testing.T) {
	for name, c := range map[string]struct {
		jump time.Duration
		want Resolution
	}{
		"back by an hour": {-time.Hour, Approved}, "back by a year": {-365 * 24 * time.Hour, Approved},
		"ahead by a minute": {time.Minute, Expired}, // nobody has polled since
		"ahead by a year":   {365 * 24 * time.Hour, Expired},
	} {
		t.Run(name, func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws, run, a := w.waiting()
			w.Advance(c.jump)
			v := w.decide(ws, a.Review, Verdict{Approve: true})
			s := w.stepStatus(ws, run, a.ID).Status
			if v.Resolution != c.want || (s == StepRunning) != (c.want == Approved) {
				t.Errorf("it is %v, its step %v", v.Resolution, s)
			}
		})
	}
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/policies"
)

// policy saves a policy, given in the API's form.
func (w *world) policy(ws WorkspaceKey, name, body string) StoredPolicy {
	w.t.Helper()
	p, err := policies.Parse(name, []byte(body))
	w.must(err)
	stored, err := w.SavePolicy(context.Background(), ws, p)
	w.must(err)
	return stored
}

// ask asks for a tool call by a client that waits for reviews.
func (w *world) ask(ws WorkspaceKey, run uuid.UUID, tool, input string) Answer {
	w.t.Helper()
	a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run,
		NewStep{Type: ToolCall, Sequence: 1, ToolName: &tool, InputData: []byte(input), Waits: true}, guard.Decide)
	w.must(err)
	return a
}

// where returns a simple condition, which the writer evaluates, and one that says the same and is
// evaluated outside of it.
func where(simple, loop string) map[string]string {
	return map[string]string{"by the writer": simple, "outside": loop}
}

func TestAPolicyDeniesWhereItMatchesAndItsConditionHolds(t *testing.T) {
	for name, when := range where(`input.amount > 100`, `[100].all(n, input.amount > n)`) {
		t.Run(name, func(t *testing.T) { policyDenies(t, when) })
	}
}

// policyDenies has a policy deny where its condition holds: that input.amount is above 100.
func policyDenies(t *testing.T, when string) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "large-refunds", `{"match":{"tools":["refund*"]},"when":"`+when+`","effect":"deny","message":"ask a person"}`)
	run := w.start(ws, "u").ID
	small, large, other := w.ask(ws, run, "refund", `{"amount":100}`), w.ask(ws, run, "refund_all", `{"amount":101}`), w.ask(ws, run, "search", `{"amount":999}`)
	if !small.Decision.Allowed() || !other.Decision.Allowed() {
		t.Errorf("small %+v, other %+v", small.Decision, other.Decision)
	}
	d := large.Decision
	if d.Reason != guard.PolicyDenied || d.Policy == nil || d.Policy.Name != "large-refunds" || d.Policy.Message != "ask a person" {
		t.Errorf("large %+v", d)
	}
	// What cannot be evaluated is denied.
	if broken := w.ask(ws, run, "refund", `{"sum":1}`); broken.Decision.Reason != guard.PolicyDenied {
		t.Errorf("without an amount: %+v", broken.Decision)
	}
	steps := w.detail(ws, run).Steps
	i := slices.IndexFunc(steps, func(s Step) bool { return s.ID == large.ID })
	if got := steps[i].Decision; got.Reason != guard.PolicyDenied || got.Policy.Name != "large-refunds" || got.Policy.Message != "ask a person" || !slices.Equal(got.Policies, []string{"large-refunds"}) {
		t.Errorf("recorded as %+v", got)
	}
	// It is in force, and out of it, for the very next decision.
	w.policy(ws, "large-refunds", `{"enabled":false,"match":{"tools":["refund*"]},"when":"`+when+`","effect":"deny"}`)
	if a := w.ask(ws, run, "refund", `{"amount":101}`); !a.Decision.Allowed() {
		t.Errorf("disabled: %+v", a.Decision)
	}
	w.policy(ws, "large-refunds", `{"match":{"tools":["refund*"]},"effect":"deny"}`)
	if a := w.ask(ws, run, "refund", `{}`); a.Decision.Allowed() {
		t.Error("enabled again, and allowed")
	}
	w.must(w.DeletePolicy(t.Context(), ws, "large-refunds"))
	if a := w.ask(ws, run, "refund", `{}`); !a.Decision.Allowed() {
		t.Errorf("deleted: %+v", a.Decision)
	}
	versions, err := w.PolicyVersions(t.Context(), ws, "large-refunds")
	w.must(err)
	if len(versions) != 4 || versions[0].Definition != nil || versions[3].Version != 1 {
		t.Errorf("versions %+v", versions)
	}
}

func TestOfAHundredCallsAtOnceALimitAllowsExactlyItsAmount(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "three-an-hour", `{"match":{"tools":["refund"]},"limit":{"measure":"calls","per":"workspace","window":"hour","amount":3},"effect":"deny"}`)
	hour := func() (allowed int) {
		run := w.start(ws, "u").ID
		var mu sync.Mutex
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				a := w.ask(ws, run, "refund", `{}`)
				mu.Lock()
				defer mu.Unlock()
				if a.Decision.Allowed() {
					allowed++
				} else if a.Decision.Reason != guard.PolicyLimitExceeded || a.Decision.Limit != 3 || a.Decision.ResetsAt.IsZero() {
					t.Errorf("denied by %+v", a.Decision)
				}
			})
		}
		group.Wait()
		return allowed
	}
	for i := range 3 {
		if n := hour(); n != 3 {
			t.Errorf("hour %d: %d allowed", i, n)
		}
		w.Advance(time.Hour)
	}
	list, err := w.Policies(t.Context(), ws)
	w.must(err)
	if len(list) != 1 || len(list[0].Use) != 0 {
		t.Errorf("nothing is used of the new hour: %+v", list)
	}
	w.ask(ws, w.start(ws, "u").ID, "refund", `{}`)
	list, err = w.Policies(t.Context(), ws)
	w.must(err)
	if use := list[0].Use; len(use) != 1 || use[0].Used != 1 || !use[0].ResetsAt.After(w.Now()) {
		t.Errorf("use %+v", use)
	}
}

func TestALimitOfMoneyCountsWhatStepsCostAndItsCorrections(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	w.policy(ws, "a-run-may-cost", `{"limit":{"measure":"usd","per":"run","window":"run","amount":0.002},"effect":"deny"}`)
	w.policy(ws, "tokens-a-day", `{"limit":{"measure":"tokens","per":"user","window":"day","amount":1000},"effect":"deny"}`)
	run := w.start(ws, "u").ID
	step := w.step(ws, run)
	w.patch(ws, run, step.ID, 500, 100) // 0.00225
	if a := w.step(ws, run); a.Decision.Reason != guard.PolicyLimitExceeded || !a.Decision.IsMoney() || a.Decision.Used != 2_250_000 {
		t.Errorf("after 0.00225: %+v", a.Decision)
	}
	w.patch(ws, run, step.ID, 400, 0)
	if a := w.step(ws, run); !a.Decision.Allowed() {
		t.Errorf("after a correction to 0.001: %+v", a.Decision)
	}
	w.patch(ws, run, step.ID, 1000, 0)
	if a := w.start(ws, "u"); a.Decision.Reason != guard.PolicyLimitExceeded || a.Decision.Policy.Name != "tokens-a-day" {
		t.Errorf("after 1,000 tokens: %+v", a.Decision)
	}
	if a := w.step(ws, w.start(ws, "v").ID); !a.Decision.Allowed() {
		t.Errorf("of another user: %+v", a.Decision)
	}
	w.price(ws, "gpt-4o", 1, 1)
	_, err := w.Reprice(t.Context(), ws, Repricing{})
	w.must(err) // the books are compared at the end
}

func TestALimitOfRunsDeniesStarts(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "two-an-hour", `{"limit":{"measure":"runs","per":"user","window":"hour","amount":2},"effect":"deny"}`)
	var outcomes []string
	for _, user := range []string{"u", "u", "u", "v"} {
		a := w.start(ws, user)
		outcomes = append(outcomes, a.Decision.Outcome())
	}
	if want := []string{"ALLOW", "ALLOW", "DENY", "ALLOW"}; !slices.Equal(outcomes, want) {
		t.Errorf("%v, want %v", outcomes, want)
	}
}

func TestRepetitionIsFoundAlsoAfterTheRunWasForgotten(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "loop", `{"limit":{"measure":"repeats","per":"run","window":"run","amount":3},"effect":"deny"}`)
	run := w.start(ws, "u").ID
	for i, want := range []string{"ALLOW", "ALLOW", "DENY"} {
		if i == 2 {
			w.must(w.write(t.Context(), modeBulkSQL, func(*Tx) error { return nil })) // forgets what is cached
		}
		if a := w.ask(ws, run, "search", `{"q":"same"}`); a.Decision.Outcome() != want {
			t.Errorf("call %d: %+v", i, a.Decision)
		}
	}
	if a := w.ask(ws, run, "search", `{"q":"another"}`); !a.Decision.Allowed() {
		t.Errorf("another: %+v", a.Decision)
	}
}

func TestAnEditedAmountGoesOnCountingAndAnEditedMatchBeginsAnew(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	const form = `{"match":{"tools":["%s"]},"limit":{"measure":"calls","per":"workspace","window":"day","amount":%d},"effect":"deny"}`
	run := w.start(ws, "u").ID
	w.policy(ws, "p", fmt.Sprintf(form, "a*", 1))
	w.ask(ws, run, "a", `{}`)
	w.policy(ws, "p", fmt.Sprintf(form, "a*", 2))
	if first, second := w.ask(ws, run, "a", `{}`), w.ask(ws, run, "a", `{}`); !first.Decision.Allowed() || second.Decision.Allowed() {
		t.Errorf("%+v, %+v", first.Decision, second.Decision)
	}
	w.policy(ws, "p", fmt.Sprintf(form, "*", 1))
	if a := w.ask(ws, run, "a", `{}`); !a.Decision.Allowed() {
		t.Errorf("anew: %+v", a.Decision)
	}
}

func TestPoliciesAreCountedAndRefusedBeyondTheirNumber(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	p, err := policies.Parse("p", []byte(`{"effect":"log"}`))
	w.must(err)
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		_, err := tx.exec(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $2)
			INSERT INTO policies (workspace_id, name, version, counts_from, is_deleted) SELECT $1, i, 1, 1, 0 FROM n`, ws, int64(MaxPolicies))
		return err
	}))
	if _, err := w.SavePolicy(t.Context(), ws, p); !errors.Is(err, ErrTooManyPolicies) {
		t.Errorf("one more: %v", err)
	}
}

// slowStep is a step as the slow evaluator remembers it.
type slowStep struct {
	at         time.Time
	user, tool string
	run        uuid.UUID
	allowed    bool
}

// What a limit allows is what counting all of history anew says.
func TestRandomLimitsCountAsAWalkOverAllOfHistoryDoes(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			w := newVerifiedWorld(t)
			ws := w.unlimitedWorkspace()
			rng := rand.New(rand.NewPCG(seed, 18))
			pick := func(words ...string) string { return words[rng.IntN(len(words))] }
			zone := pick("UTC", "Europe/Berlin", "America/New_York", "Pacific/Auckland", "Asia/Kathmandu")
			_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{Timezone: &zone})
			w.must(err)
			location, err := time.LoadLocation(zone)
			w.must(err)
			per, window, tool := pick("workspace", "user", "tool", "run"), pick("minute", "hour", "day", "week", "month", "total"), pick("*", "a", "b*")
			amount := 1 + rng.IntN(4)
			w.policy(ws, "p", fmt.Sprintf(`{"match":{"tools":["%s"]},"limit":{"measure":"calls","per":"%s","window":"%s","amount":%d},"effect":"deny"}`,
				tool, per, window, amount))
			runs := []uuid.UUID{w.start(ws, "u").ID, w.start(ws, "v").ID}
			var history []slowStep
			for range 60 {
				i := rng.IntN(2)
				s := slowStep{at: w.Now(), user: []string{"u", "v"}[i], run: runs[i], tool: pick("a", "b", "bb")}
				s.allowed = w.ask(ws, s.run, s.tool, `{}`).Decision.Allowed()
				if want := slowAllows(history, s, tool, per, window, amount, location); s.allowed != want {
					t.Fatalf("%s of %s per %s and %s: %v, want %v\n%+v in\n%+v", fmt.Sprint(amount), tool, per, window, s.allowed, want, s, history)
				}
				history = append(history, s)
				w.Advance(time.Duration(rng.Int64N(int64(map[string]time.Duration{
					"minute": 40 * time.Second, "hour": 40 * time.Minute, "day": 15 * time.Hour, "week": 4 * 24 * time.Hour,
					"month": 20 * 24 * time.Hour, "total": time.Hour,
				}[window]))))
			}
		})
	}
}

// slowAllows knows nothing of counters: it counts, among the steps that the
// policy concerns, those allowed in the same window and scope.
func slowAllows(history []slowStep, s slowStep, tool, per, window string, amount int, zone *time.Location) bool {
	concerns := func(name string) bool {
		return tool == "*" || name == tool || tool == "b*" && name[0] == 'b'
	}
	if !concerns(s.tool) {
		return true
	}
	scope := func(s slowStep) string {
		return map[string]string{"workspace": "", "user": s.user, "tool": s.tool, "run": s.run.String()}[per]
	}
	period := func(at time.Time) string {
		at = at.In(zone)
		monday := at.AddDate(0, 0, -(int(at.Weekday())+6)%7)
		return map[string]string{
			"minute": at.Format("2006-01-02 15:04 -0700"), "hour": at.Format("2006-01-02 15 -0700"), "day": at.Format("2006-01-02"),
			"week": monday.Format("2006-01-02"), "month": at.Format("2006-01"), "total": "",
		}[window]
	}
	used := 0
	for _, past := range history {
		if past.allowed && concerns(past.tool) && scope(past) == scope(s) && period(past.at) == period(s.at) {
			used++
		}
	}
	return used < amount
}

func TestAConditionOnTheRunIsEvaluatedOnTheRunAsItIs(t *testing.T) {
	for name, when := range where(`run.steps >= 5`, `[5].all(n, run.steps >= n)`) {
		t.Run(name, func(t *testing.T) { fiveStepsAreAllowed(t, when) })
	}
}

// fiveStepsAreAllowed races forty steps for five: when holds of a run with five steps.
func fiveStepsAreAllowed(t *testing.T, when string) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.policy(ws, "five-steps", `{"when":"`+when+`","effect":"deny"}`)
	run := w.start(ws, "u").ID
	var group sync.WaitGroup
	var mu sync.Mutex
	allowed := 0
	for range 40 {
		group.Go(func() {
			a := w.ask(ws, run, "t", `{}`)
			mu.Lock()
			defer mu.Unlock()
			if a.Decision.Allowed() {
				allowed++
			}
		})
	}
	group.Wait()
	if allowed != 5 {
		t.Errorf("%d allowed", allowed)
	}
}

// policyCalls use what policies and reviews ask of the database; see calls.
func policyCalls(w *world, ws WorkspaceKey) []call {
	ctx := w.t.Context()
	var run uuid.UUID
	var asked []Answer
	save := func(name, body string) error {
		p, err := policies.Parse(name, []byte(body))
		if err == nil {
			_, err = w.SavePolicy(ctx, ws, p)
		}
		return err
	}
	ask := func(tool string) error {
		a, err := w.CreateStep(ctx, w.caller(ws), run, NewStep{Type: ToolCall, Sequence: 1, ToolName: &tool, Waits: true}, guard.Decide)
		asked = append(asked, a)
		return err
	}
	return []call{
		{"UsageOfUser", func() error {
			policy, err := policies.Parse("by-user", []byte(`{"limit":{"measure":"usd","per":"user","window":"day","amount":9},"effect":"log"}`))
			w.must(err)
			_, err = w.SavePolicy(ctx, ws, policy)
			w.must(err)
			run := w.tagged(ws, "u", `{"agent":"a"}`)
			w.patch(ws, run, w.createModelCall(ws, run, "new"), 5, 6)
			r, err := w.UsageOfUser(ctx, ws, "u", UsageQuery{From: noon(), To: w.Now().Add(24 * time.Hour), ByDay: true})
			return errors.Join(err, atLeastOne(len(r.Runs.Tags)), atLeastOne(len(r.Policies)), w.DeletePolicy(ctx, ws, "by-user"))
		}},
		{"SavePolicy", func() error {
			a, err := w.StartRun(ctx, w.caller(ws), NewRun{UserID: "asked"}, guard.Decide)
			run = a.ID
			return errors.Join(err,
				save("calls", `{"limit":{"measure":"calls","per":"user","window":"day","amount":9},"effect":"deny"}`),
				save("rolling", `{"limit":{"measure":"usd","per":"workspace","window":"day","rolling":true,"amount":9},"effect":"deny"}`),
				save("hour", `{"limit":{"measure":"calls","per":"workspace","window":"hour","rolling":true,"amount":99},"effect":"deny"}`),
				save("loop", `{"limit":{"measure":"repeats","per":"run","window":"run","amount":8},"effect":"log"}`),
				save("no", `{"match":{"tools":["no"]},"effect":"deny"}`),
				save("ask", `{"match":{"tools":["ask"]},"effect":"review"}`),
				ask("no"), ask("ask"), ask("ask"), ask("ask"), ask("ask"))
		}},
		{"Replay", func() error {
			long := []byte(`{"a":"` + strings.Repeat("x", 2*largeReplayed) + `"}`)
			a, err := w.StartRun(ctx, w.caller(ws), NewRun{UserID: "asked", Metadata: long}, guard.Decide)
			if err != nil {
				return err
			}
			_, err = w.CreateStep(ctx, w.caller(ws), a.ID, NewStep{Type: ToolCall, Sequence: 1, InputData: long}, guard.Decide)
			if err != nil {
				return err
			}
			none, err := policies.Compile(nil)
			seen := 0
			for _, set := range []*policies.Set{none, everything(w.t)} {
				err = errors.Join(err, w.Replay(ctx, ws, noon().AddDate(0, 0, -1), noon().AddDate(0, 0, 30), set,
					func(*policies.Event) error { seen++; return nil }))
			}
			return errors.Join(err, atLeastOne(seen))
		}},
		{"Policies", func() error { list, err := w.Policies(ctx, ws); return errors.Join(err, atLeastOne(len(list))) }},
		{"Policy", func() error { _, err := w.Policy(ctx, ws, "ask"); return err }},
		{"PolicyVersions", func() error { _, err := w.PolicyVersions(ctx, ws, "ask"); return err }},
		{"Review", func() error { _, err := w.Review(ctx, ws, asked[1].Review); return err }},
		{"PollReview", func() error {
			w.Advance(pollInterval)
			_, err := w.PollReview(ctx, ws, asked[1].Review)
			return err
		}},
		{"Reviews", func() error {
			list, _, err := w.Reviews(ctx, ws, ReviewFilter{
				Status: "pending", Policy: "ask", UserID: "asked", Run: run, Limit: 9,
			})
			_, _, err2 := w.Reviews(ctx, ws, ReviewFilter{Status: "denied", Limit: 9})
			return errors.Join(err, err2, atLeastOne(len(list)))
		}},
		{"ReviewsDecided", func() error { w.ReviewsDecided(); return nil }},
		{"DecideReview", func() error {
			grant := &NewGrant{Scope: GrantRun, Seconds: 60, Uses: 9}
			_, err := w.DecideReview(ctx, ws, asked[1].Review, Verdict{Approve: true, Grant: grant})
			_, err2 := w.DecideReview(ctx, ws, asked[2].Review, Verdict{})
			// One that was approved, one that was refused, and one that still waits
			for _, a := range asked[1:4] {
				_, err := w.UpdateStep(ctx, w.caller(ws), run, a.ID, StepUpdate{Status: StepCompleted})
				err2 = errors.Join(err2, err)
			}
			return errors.Join(err, err2, ask("ask"))
		}},
		{"Grants", func() error { list, err := w.Grants(ctx, ws); return errors.Join(err, atLeastOne(len(list))) }},
		{"GrantUses", func() error {
			list, err := w.Grants(ctx, ws)
			uses, _, err2 := w.GrantUses(ctx, ws, list[0].ID, 9, "")
			return errors.Join(err, err2, atLeastOne(len(uses)))
		}},
		{"RevokeGrant", func() error {
			list, err := w.Grants(ctx, ws)
			return errors.Join(err, w.RevokeGrant(ctx, ws, list[0].ID))
		}},
		{"ExpireReviews", func() error {
			w.Advance(time.Hour)
			n, err := w.ExpireReviews(ctx)
			_, err2 := w.Run(ctx, ws, run, "")
			return errors.Join(err, err2, atLeastOne(n), ask("ask"))
		}},
		{"DeletePolicy", func() error {
			_, err := w.SetKillSwitch(ctx, ws, true, "")
			_, err2 := w.SetKillSwitch(ctx, ws, false, "")
			err3 := ask("ask")
			_, err4 := w.BlockUser(ctx, ws, "asked", nil)
			_, err5 := w.UnblockUser(ctx, ws, "asked")
			err6 := ask("ask")
			_, err7 := w.EndRun(ctx, w.caller(ws), run, RunCompleted, EndedByClient)
			next, err9 := w.StartRun(ctx, w.caller(ws), NewRun{UserID: "asked"}, guard.Decide)
			run = next.ID
			err9 = errors.Join(err9, ask("ask"))
			list, err8 := w.Policies(ctx, ws)
			for _, p := range list {
				err8 = errors.Join(err8, w.DeletePolicy(ctx, ws, p.Name))
			}
			return errors.Join(err, err2, err3, err4, err5, err6, err7, err8, err9)
		}},
	}
}

package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

func all() Repricing { return Repricing{} }

func unpriced() Repricing { return Repricing{OnlyUnpriced: true} }

func (r Repricing) dry() Repricing {
	r.DryRun = true
	return r
}

func (w *world) reprice(ws WorkspaceKey, in Repricing) Repriced {
	w.t.Helper()
	out, err := w.Reprice(context.Background(), ws, in)
	w.must(err)
	return out
}

// mustReprice wants a dry run and a real one to say the same, and a second one nothing.
func (w *world) mustReprice(ws WorkspaceKey, in Repricing, want Repriced) {
	w.t.Helper()
	before := w.books()
	if diff := gocmp.Diff(want, w.reprice(ws, in.dry())); diff != "" {
		w.t.Errorf("a dry run (-want +got):\n%s", diff)
	}
	if diff := gocmp.Diff(before, w.books()); diff != "" {
		w.t.Errorf("a dry run has changed:\n%s", diff)
	}
	if diff := gocmp.Diff(want, w.reprice(ws, in)); diff != "" {
		w.t.Errorf("a real run (-want +got):\n%s", diff)
	}
	w.mustVerify()
	w.mustRememberTheTruth()
	if again := w.reprice(ws, in); again.Steps != 0 {
		w.t.Errorf("a second run has changed %+v", again)
	}
}

// books is all that re-pricing may move, and the audit log.
func (w *world) books() (lines []string) {
	w.t.Helper()
	for _, query := range []string{
		`SELECT 'step', uuid, booked_day, prompt_tokens, completion_tokens, input_picos, output_picos, cost_nanos, price_id FROM steps ORDER BY uuid`,
		`SELECT 'capped', step_uuid, prompt_tokens, completion_tokens, 0, 0, 0, 0, 0 FROM capped_steps ORDER BY step_uuid`,
		`SELECT 'run', id, last_call_at, spend_nanos, unpriced_tokens, prompt_tokens, completion_tokens, status, 0 FROM runs ORDER BY id`,
		`SELECT 'day', workspace_id, day, spend_nanos, unpriced_tokens, unpriced_steps, prompt_tokens, completion_tokens, 0 FROM workspace_days ORDER BY 2, 3`,
		`SELECT 'user', workspace_id, day, user_id, spend_nanos, unpriced_tokens, 0, 0, 0 FROM user_days ORDER BY 2, 3, 4`,
		`SELECT 'model', workspace_id, day, model_id, spend_nanos, unpriced_tokens, unpriced_steps, prompt_tokens, completion_tokens FROM model_days ORDER BY 2, 3, 4`,
		`SELECT 'key', workspace_id, day, key_id, spend_nanos, prompt_tokens, completion_tokens, 0, 0 FROM key_days ORDER BY 2, 3, 4`,
		`SELECT 'point', id, workspace_id, source, name, version, rates, 0, 0 FROM price_points ORDER BY id`,
		`SELECT 'audit', uuid, action, target, was, became, 0, 0, 0 FROM audit_entries ORDER BY uuid`,
	} {
		rows, err := w.otherProcess.QueryContext(context.Background(), query)
		w.must(err)
		for rows.Next() {
			var v [9]any
			w.must(rows.Scan(&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8]))
			lines = append(lines, fmt.Sprint(v[:]...))
		}
		w.must(errors.Join(rows.Err(), rows.Close()))
	}
	return lines
}

func daysOf(days ...RepricedDay) []RepricedDay { return days }

func onDay(offset int, difference plans.Money) RepricedDay {
	return RepricedDay{noon().Truncate(24*time.Hour).AddDate(0, 0, offset), difference}
}

func TestUnpricedStepsArePricedOnTheDaysOfTheirUse(t *testing.T) {
	w := cataloguing(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	w.Set(noon().AddDate(0, 0, -2))
	w.used(ws, "mine", 10, 5)
	w.used(other, "mine", 10, 5)
	w.Set(noon().AddDate(0, 0, -1))
	w.used(ws, "mine", 20, 0)
	w.price(ws, "known", 1_000_000, 0)
	w.used(ws, "known", 1, 0)
	w.Set(noon())
	run := w.start(ws, "u").ID
	late := w.createModelCall(ws, run, "mine")
	w.patch(ws, run, late, 1, 1)
	w.used(ws, "never priced", 3, 0)
	w.mustReprice(ws, unpriced(), Repriced{})

	w.price(ws, "mine", 1_000_000, 2_000_000)
	w.price(ws, "known", 5_000_000, 0)
	w.mustReprice(ws, Repricing{Model: "no such model", OnlyUnpriced: true}, Repriced{})
	w.mustReprice(ws, Repricing{Model: "known", OnlyUnpriced: true}, Repriced{})
	w.mustReprice(ws, Repricing{OnlyUnpriced: true, From: noon().Truncate(24*time.Hour).AddDate(0, 0, -1), To: noon().Truncate(24 * time.Hour)},
		Repriced{Steps: 1, After: 20 * microUSD, Days: daysOf(onDay(-1, 20*microUSD))})
	w.mustReprice(ws, Repricing{Model: "mine", OnlyUnpriced: true},
		Repriced{Steps: 2, After: 23 * microUSD, Days: daysOf(onDay(-2, 20*microUSD), onDay(0, 3*microUSD))})
	w.mustReprice(ws, unpriced(), Repriced{})
	w.mustReprice(ws, all(), Repriced{Steps: 1, Before: microUSD, After: 5 * microUSD, Days: daysOf(onDay(-1, 4*microUSD))})
	w.mustHaveBooked(ws, noon(), 3*microUSD, 4, 1)
	w.mustHaveBooked(ws, noon().AddDate(0, 0, -1), 25*microUSD, 21, 0)
	w.mustHaveBooked(other, noon().AddDate(0, 0, -2), 0, 10, 5)
	if n := w.number(`SELECT count(*) FROM audit_entries WHERE action = 'model_price.reprice'`); n != 3 {
		t.Errorf("%d entries of the audit log for 3 runs that changed something", n)
	}
	w.mustBePriced(w.patch(ws, run, late, 1, 2), 5*microUSD, PriceOrigin{Source: PriceOwn, Name: "mine"})
}

// A step costs what held when it was reported, and keeps its price where there is none any more.
func TestRepricedStepsCostWhatHeldThen(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	w.catalogue(ws, false)
	use := func(moment, model string, prompt int64) {
		t.Helper()
		at, err := time.Parse(time.RFC3339, moment)
		w.must(err)
		w.Set(at)
		w.used(ws, model, prompt, 0)
	}
	use("2026-11-14T23:59:59Z", "dated", 1)
	use("2026-11-16T00:00:00Z", "dated", 1)
	use("2026-11-16T19:59:59Z", "hourly", 1)
	use("2026-11-16T20:00:00Z", "hourly", 1)
	use("2026-11-16T20:00:00Z", "tiered", 201)
	use("2026-11-16T20:00:00Z", "search", 1)
	w.sameAs(ws, "alias", "Acme/plain")
	use("2026-11-16T20:00:00Z", "alias", 1)
	w.Set(noon().AddDate(0, 0, 5))
	w.catalogue(ws, true)
	w.mustReprice(ws, unpriced(), Repriced{Steps: 7, After: (1 + 3 + 10 + 1 + 402 + 5001 + 2) * microUSD,
		Days: daysOf(onDay(-1, microUSD), onDay(1, (3+10+1+402+5001+2)*microUSD))})
	w.mustReprice(ws, all(), Repriced{})
	w.price(ws, "plain", 1, 1)
	w.catalogue(ws, false)
	w.mustReprice(ws, all(), Repriced{}) // what has no price by now keeps the one that it has
	w.price(ws, "dated", 0, 0)
	w.mustReprice(ws, all(), Repriced{Steps: 2, Before: 4 * microUSD, Days: daysOf(onDay(-1, -microUSD), onDay(1, -3*microUSD))})
}

func TestTheAuditLogSaysWhatWasPricedAnew(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	w.used(ws, "mine", 10, 0)
	w.price(ws, "mine", 1_000_000, 0)
	in := Repricing{Model: "mine", OnlyUnpriced: true, From: noon().Truncate(24 * time.Hour)}
	ctx := WithActor(t.Context(), Actor{Kind: ActorCommand, Name: "reprice"})
	_, err := w.Reprice(ctx, ws, in.dry())
	w.must(err)
	_, err = w.Reprice(ctx, ws, in)
	w.must(err)
	entries, _, err := w.Audit(t.Context(), ws, AuditFilter{Action: ActionReprice, Limit: 10})
	w.must(err)
	const want = `{"after_usd":0.00001,"before_usd":0,"difference_usd":0.00001,"only_unpriced":true,"since":"2026-11-15","steps":1}`
	if len(entries) != 1 || string(entries[0].After) != want || entries[0].Target != "mine" || entries[0].Actor.Name != "reprice" {
		t.Errorf("the audit log has %+v, want %s", entries, want)
	}
}

// Today's budgets see what has become dearer at once; those of past days deny nothing.
func TestRepricingCountsInTodaysBudget(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	budget := plans.Budget{Limit: 100 * microUSD, Set: true}
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{DailyBudget: &budget, UserDailyBudget: &budget})
	w.must(err)
	w.Set(noon().AddDate(0, 0, -1))
	w.used(ws, "mine", 1000, 0)
	w.Set(noon())
	w.used(ws, "mine", 99, 0)
	run := w.start(ws, "u").ID
	open := w.createModelCall(ws, run, "mine")
	w.price(ws, "mine", 1_000_000, 0)
	w.reprice(ws, unpriced())
	if a := w.start(ws, "u"); !a.Decision.Allowed() {
		t.Errorf("a start below the budget: %+v", a.Decision)
	}
	w.patch(ws, run, open, 1, 0)
	a, err := w.CreateStep(t.Context(), w.caller(ws), run, NewStep{Type: ModelCall, Sequence: 9}, guard.Decide)
	w.must(err)
	if a.Decision.Reason != guard.WorkspaceDailyBudgetExceeded || a.Decision.Used != int64(100*microUSD) {
		t.Errorf("a step at the budget: %+v", a.Decision)
	}
	w.price(ws, "mine", 500_000, 0)
	w.reprice(ws, all())
	if a := w.start(ws, "u"); !a.Decision.Allowed() {
		t.Errorf("a start after it became cheaper: %+v", a.Decision)
	}
}

// history makes a random past, of which a part has no price, in days that are
// sometimes full, and changes the prices then.
func history(w *world, ws WorkspaceKey, random *rand.Rand) {
	models := []string{"mine", "other", "plain", "dated", "hourly", "tiered", "search", "alias", "unknown"}
	price := func(model string) {
		switch random.IntN(3) {
		case 0:
			w.price(ws, model, plans.Price(random.Int64N(5_000_000)), plans.Price(random.Int64N(5_000_000)))
		case 1:
			w.sameAs(ws, model, models[random.IntN(len(models))])
		default:
			_, err := w.SetPrice(context.Background(), ws, ModelPrice{Model: model})
			w.must(err)
		}
	}
	w.catalogue(ws, random.IntN(2) == 0)
	for day := range 3 {
		w.Set(noon().AddDate(0, 0, day).Add(time.Duration(random.Int64N(int64(12 * time.Hour)))))
		price(models[random.IntN(2)])
		for range 1 + random.IntN(4) {
			run := w.start(ws, fmt.Sprint("user ", random.IntN(3))).ID
			for range random.IntN(6) {
				step := w.createModelCall(ws, run, models[random.IntN(len(models))])
				w.Advance(time.Minute)
				prompt, completion := random.Int64N(400), random.Int64N(50)
				if random.IntN(40) == 0 {
					prompt = plans.MaxTokens // with which days are full
				}
				w.patch(ws, run, step, prompt, completion)
			}
		}
	}
	for range 3 {
		price(models[random.IntN(len(models))])
	}
	w.catalogue(ws, random.IntN(3) > 0)
}

// randomly is a part of the history, or all of it.
func randomly(random *rand.Rand) (in Repricing) {
	in.OnlyUnpriced = random.IntN(2) == 0
	if random.IntN(3) == 0 {
		in.Model = []string{"mine", "plain", "alias"}[random.IntN(3)]
	}
	if random.IntN(3) == 0 {
		in.From = noon().Truncate(24*time.Hour).AddDate(0, 0, random.IntN(3))
	}
	if random.IntN(3) == 0 {
		in.To = noon().Truncate(24*time.Hour).AddDate(0, 0, random.IntN(4))
	}
	return in
}

// A dry run says what a real one does, whatever the history; a second one does nothing.
func TestDryRunsAndRealOnesAgree(t *testing.T) {
	w := cataloguing(t)
	changed := 0
	for seed := range uint64(15) {
		random := rand.New(rand.NewPCG(seed, 15))
		ws := w.unlimitedWorkspace()
		history(w, ws, random)
		for range 3 {
			in := randomly(random)
			dry := w.reprice(ws, in.dry())
			w.mustReprice(ws, in, dry)
			changed += int(dry.Steps)
			var sum plans.Money
			for _, d := range dry.Days {
				sum += d.Difference
			}
			if sum != dry.Difference() {
				t.Errorf("seed %d: the days add up to %v, all to %v", seed, sum, dry.Difference())
			}
		}
	}
	if changed < 60 {
		t.Errorf("only %d steps were priced anew in all", changed)
	}
}

// long makes a past of so many unpriced steps, of which a model has a price by now.
func long(w *world, ws WorkspaceKey, runs, steps int) {
	w.t.Helper()
	w.must(w.WriteBackfill(context.Background(), func(p Backfill) error {
		for r := range runs {
			at := noon().Add(-time.Duration(r) * time.Hour)
			run, err := p.StartRun(at, ws, NewRun{UserID: fmt.Sprint("user ", r%7)}, guard.Decide)
			if err != nil {
				return err
			}
			for range steps {
				model := "mine"
				s, err := p.CreateStep(at, ws, run.ID, NewStep{Type: ModelCall, Sequence: 1, Model: &model}, guard.Decide)
				if err != nil {
					return err
				}
				tokens := int64(10)
				in := StepUpdate{Status: StepCompleted, PromptTokens: &tokens, CompletionTokens: &tokens}
				if err := p.UpdateStep(at, ws, run.ID, s.ID, in); err != nil {
					return err
				}
			}
			if err := p.EndRun(at, ws, run.ID, RunCompleted, EndedByClient); err != nil {
				return err
			}
		}
		return nil
	}))
	w.price(ws, "mine", 1_000_000, 0)
}

// Whoever is stopped anywhere leaves true books, and goes on with what is left.
func TestRepricingIsStoppedAndContinued(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	const steps = 20 * 40
	long(w, ws, 20, 40)
	var done int64
	for round := 0; done < steps; round++ {
		ctx, cancel := context.WithCancel(t.Context())
		commits := 0
		w.must(w.Watch(ctx, func([]Change) {
			if commits++; commits == 3<<round {
				cancel()
			}
		}))
		out, err := w.Reprice(ctx, ws, unpriced())
		w.Unwatch()
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) || err == nil && done+out.Steps < steps {
			t.Fatalf("%+v, %v", out, err)
		}
		done += out.Steps
		priced := w.number(`SELECT count(*) FROM steps WHERE cost_nanos IS NOT NULL`)
		audited := w.number(`SELECT sum(CAST(` + w.json(`became`) + ` ->> 'steps' AS BIGINT)) FROM audit_entries WHERE action = 'model_price.reprice'`)
		if priced != audited || done > priced {
			t.Fatalf("%d steps are priced, %d by the audit log, %d by the answers", priced, audited, done)
		}
		done = priced
		w.mustVerify()
	}
	if n := w.number(`SELECT count(*) FROM audit_entries WHERE action = 'model_price.reprice'`); n < 2 {
		t.Errorf("it was never stopped: %d calls have done all", n)
	}
	if again := w.reprice(ws, unpriced()); again.Steps != 0 {
		t.Errorf("more was left: %+v", again)
	}
}

// A call that may take no longer says where to go on.
func TestRepricingGoesOnFromItsCursor(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	long(w, ws, 2, 1100)
	for _, in := range []Repricing{unpriced().dry(), unpriced()} {
		in.Wait = 1
		var sum, calls int64
		for more := true; more; more = in.Cursor != "" {
			out := w.reprice(ws, in)
			sum, calls, in.Cursor = sum+out.Steps, calls+1, out.Next
		}
		if sum != 2200 || calls < 2 {
			t.Errorf("%d steps in %d calls", sum, calls)
		}
	}
	for _, bad := range []string{"x", strings.Repeat("A", 72), cursor(listRuns, int64(ws), make([]byte, stepPlaceSize)), stepPlace{}.cursor(ws + 1)} {
		if _, err := w.Reprice(t.Context(), ws, Repricing{Cursor: bad}); !errors.Is(err, ErrBadCursor) {
			t.Errorf("cursor %q: %v", bad, err)
		}
	}
}

// Agents go on while the past is priced anew, and the books are true all the time.
func TestRepricingUnderLoad(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	long(w, ws, 10, 40)
	caller := w.caller(ws)
	var calls sync.WaitGroup
	for i := range 8 {
		calls.Go(func() {
			run, err := w.StartRun(context.Background(), caller, NewRun{UserID: fmt.Sprint("user ", i)}, guard.Decide)
			for n := 0; err == nil && n < 100; n++ { // so that there is no more and more to look at
				err = useOnce(w.Store, caller, run.ID)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Go(func() {
		for range 3 {
			if found, err := w.verified(); err != nil || len(found) > 0 {
				t.Errorf("the books meanwhile: %v, %v", found, err)
			}
		}
	})
	out := w.reprice(ws, unpriced())
	w.price(ws, "mine", 3_000_000, 0)
	second := w.reprice(ws, all())
	calls.Wait()
	if out.Steps != 400 || second.Steps < 400 {
		t.Errorf("%d and then %d steps were priced anew", out.Steps, second.Steps)
	}
	w.mustVerify()
}

func useOnce(s *Store, c Caller, run uuid.UUID) error {
	model, tokens := "mine", int64(3)
	step, err := s.CreateStep(context.Background(), c, run, NewStep{Type: ModelCall, Sequence: 1, Model: &model}, guard.Decide)
	if err != nil {
		return err
	}
	_, err = s.UpdateStep(context.Background(), c, run, step.ID, StepUpdate{Status: StepCompleted, PromptTokens: &tokens})
	return err
}

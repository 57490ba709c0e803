package storage

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// spends lets a run of a user make one call that costs so much.
func (w *world) spends(ws WorkspaceKey, run uuid.UUID, nanos int64) uuid.UUID {
	w.t.Helper()
	step := w.createModelCall(ws, run, "a nano a token")
	w.patch(ws, run, step, nanos, 0)
	return step
}

// burning makes a workspace in which a token costs a nano-dollar.
func (w *world) burning() WorkspaceKey {
	ws := w.unlimitedWorkspace()
	w.price(ws, "a nano a token", 1000, 1000)
	return ws
}

func (w *world) burn(ws WorkspaceKey) Burn {
	w.t.Helper()
	b, err := w.Burn(context.Background(), ws)
	w.must(err)
	return b
}

func TestBurnIsWhatTheLastSixtySecondsCost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.burning()
	quiet, hot := w.start(ws, "quiet").ID, w.start(ws, "hot").ID
	w.spends(ws, quiet, 6_000)
	w.Advance(time.Minute)
	w.spends(ws, hot, 60_000)
	w.spends(ws, quiet, 600)
	b := w.burn(ws)
	if b.PerMinute != 66_600 || b.Minutes[58].Spend != 6_000 || b.Minutes[59].Spend != 60_600 {
		t.Errorf("at the start of the second minute: %d, %+v", b.PerMinute, b.Minutes[57:])
	}
	if b.Minutes[58].Run != quiet || b.Minutes[59].Run != hot || b.Minutes[59].Top != 60_000 {
		t.Errorf("spent most: %+v", b.Minutes[58:])
	}
	if len(b.Runs) != 2 || b.Runs[0].ID != hot || b.Runs[0].PerMinute != 60_000 || b.Runs[1].PerMinute != 6_600 {
		t.Errorf("runs: %+v", b.Runs)
	}
	if d := b.Runs[0].Doing; d == nil || d.Model != "a nano a token" || !d.At.Equal(w.Now()) {
		t.Errorf("doing: %+v", d)
	}
	w.Advance(30 * time.Second)
	if b = w.burn(ws); b.PerMinute != 60_600+3_000 {
		t.Errorf("half a minute later, half of the first minute is left: %d", b.PerMinute)
	}
	w.Advance(time.Minute)
	if b = w.burn(ws); b.PerMinute != 30_300 || b.Runs[0].PerMinute != 30_000 {
		t.Errorf("a minute later: %d, %+v", b.PerMinute, b.Runs)
	}
	w.Advance(time.Minute)
	if b = w.burn(ws); b.PerMinute != 0 || b.Runs[0].PerMinute != 0 {
		t.Errorf("two minutes later: %d, %+v", b.PerMinute, b.Runs)
	}
	w.Advance(time.Hour)
	if b = w.burn(ws); b.Minutes[0].Spend != 0 || b.Today != 66_600 {
		t.Errorf("an hour later: %+v of %d", b.Minutes[0], b.Today)
	}
}

// A correction, also of an hour ago, is not money that burns now.
func TestCorrectionsCountInTheMinuteOfTheReport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.burning()
	run := w.start(ws, "u").ID
	step := w.spends(ws, run, 100)
	for _, later := range []time.Duration{time.Minute, 5 * time.Minute, 3 * time.Hour} {
		w.Advance(later)
		_, err := w.FoldMinutes(t.Context())
		w.must(err)
		w.patch(ws, run, step, 1_000, 0)
		if b := w.burn(ws); b.Minutes[59].Spend != 0 {
			t.Errorf("%s later: %+v", later, b.Minutes[59])
		}
		w.mustVerify()
		w.patch(ws, run, step, 100, 0)
		w.mustVerify()
	}
	if n := w.number(`SELECT sum(spend_nanos) FROM spend_quarter_hours`); n != 100 {
		t.Errorf("the hour holds %d", n)
	}
}

func TestTheUsualIsTheMedianOfTheSameHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.burning()
	for day := range 9 {
		run := w.start(ws, "u").ID
		w.spends(ws, run, int64(day+1)*60_000) // at noon
		w.Advance(time.Hour)
		w.spends(ws, run, 6_000_000) // an hour later
		w.end(ws, run, RunCompleted)
		w.Advance(23 * time.Hour)
		if b := w.burn(ws); day < 2 && b.Usual != nil {
			t.Errorf("after %d days: %d", day+1, *b.Usual)
		}
		_, err := w.FoldMinutes(t.Context())
		w.must(err)
	}
	w.Advance(30 * time.Minute)
	b := w.burn(ws)
	if b.Usual == nil || *b.Usual != 5_000 {
		t.Fatalf("usual: %+v", b.Usual)
	}
	if *b.Yesterday != 9*30_000 || *b.LastWeek != 3*30_000 {
		t.Errorf("until half past twelve yesterday %d, a week ago %d", *b.Yesterday, *b.LastWeek)
	}
	w.Advance(100 * 24 * time.Hour)
	_, err := w.FoldMinutes(t.Context())
	w.must(err)
	if n := w.number(`SELECT count(*) FROM spend_quarter_hours`) + w.number(`SELECT count(*) FROM spend_minutes`); n != 0 {
		t.Errorf("%d rows are kept for ever", n)
	}
	w.mustVerify()
}

// Whatever is reported when, corrected or folded, the ledger proves each minute.
func TestTheLedgerProvesEachMinute(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		w := newWorld(t)
		ws, random := w.burning(), rand.New(rand.NewPCG(seed, 1))
		run := w.start(ws, "u").ID
		var steps []uuid.UUID
		for range 60 {
			switch random.IntN(5) {
			case 0:
				steps = append(steps, w.createModelCall(ws, run, "a nano a token"))
			case 1, 2:
				if len(steps) > 0 {
					w.reportAnything(ws, run, steps[random.IntN(len(steps))], random)
				}
			case 3:
				w.Advance([]time.Duration{time.Second, 40 * time.Second, 9 * time.Minute, 5 * time.Hour, -time.Minute}[random.IntN(5)])
			case 4:
				_, err := w.FoldMinutes(t.Context())
				w.must(err)
			}
		}
		w.mustVerify()
	}
}

// reportAnything says what a step has used, and perhaps that it is done.
func (w *world) reportAnything(ws WorkspaceKey, run, step uuid.UUID, random *rand.Rand) {
	w.t.Helper()
	tokens := random.Int64N(1000)
	in := StepUpdate{PromptTokens: &tokens, CompletionTokens: new(int64(0))}
	if random.IntN(2) == 0 {
		in.Status = StepCompleted
	}
	_, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in)
	w.must(err)
}

func TestNearestUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.burning()
	w.spends(ws, w.start(ws, "a").ID, 70)
	w.spends(ws, w.start(ws, "b").ID, 90)
	if b := w.burn(ws); b.NearestUser != nil {
		t.Errorf("without a budget of users: %+v", b.NearestUser)
	}
	budget := plans.Budget{Limit: 80, Set: true}
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{UserDailyBudget: &budget})
	w.must(err)
	if b := w.burn(ws); b.NearestUser == nil || *b.NearestUser != (SpendOfUser{"b", 90}) || b.UsersAtBudget != 1 {
		t.Errorf("%+v, %d at the budget", b.NearestUser, b.UsersAtBudget)
	}
}

func TestStopSaysWhoWhenAndWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.burning()
	ana := WithActor(t.Context(), Actor{Kind: ActorAccount, Name: "ana@example.com"})
	if b := w.burn(ws); b.Stop != nil {
		t.Errorf("before: %+v", b.Stop)
	}
	_, err := w.SetKillSwitch(ana, ws, true, "loop in batch")
	w.must(err)
	since := w.Now()
	w.Advance(time.Hour)
	// What changes nothing is not another stop.
	_, err = w.SetKillSwitch(t.Context(), ws, true, "again")
	w.must(err)
	b := w.burn(ws)
	if b.Stop == nil || !b.Stop.Since.Equal(since) || b.Stop.Actor.Name != "ana@example.com" || b.Stop.Reason != "loop in batch" {
		t.Errorf("%+v", b.Stop)
	}
	_, err = w.SetKillSwitch(ana, ws, false, "found it")
	w.must(err)
	if b := w.burn(ws); b.Stop != nil {
		t.Errorf("after: %+v", b.Stop)
	}
}

package storage

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/storage/verify"
)

// newVerifiedWorld makes a world whose books are recomputed when the test ends, and
// compared with the tables and with what every exported read says. The test
// runs beside others.
func newVerifiedWorld(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := newWorld(t)
	t.Cleanup(func() {
		w.mustVerify()
		w.mustReadTheLedger()
	})
	return w
}

// mustVerify wants Verify to find no difference.
func (w *world) mustVerify() {
	w.t.Helper()
	found, err := w.verified()
	w.must(err)
	for _, d := range found {
		w.t.Errorf("books differ: %+v", d)
	}
}

// verified asks Verify about the world's database, which may also run under load.
func (w *world) verified() ([]verify.Difference, error) {
	report, err := w.verification(context.Background(), verify.Options{})
	if err == nil && report.Checks < 20 {
		err = fmt.Errorf("only %d checks were made", report.Checks)
	}
	return report.Differences, err
}

// verified asks Verify about a file that no store has open.
func verified(path string) ([]verify.Difference, error) {
	return (&world{path: path}).verified()
}

// entry is what one ledger row adds to the books: a start, or a step's usage.
type entry struct {
	day                       int64
	userID                    int64
	user                      string
	model                     sql.NullString
	runs, blocked             int64
	spend, prompt, completion int64
	gaps                      UnpricedUsage
	denial                    guard.Reason // of a denied start or step
}

// entries reads the ledger of a workspace, and recomputes every cost.
func (w *world) entries(ws WorkspaceKey) (all []entry) {
	w.t.Helper()
	rows, err := w.conn().QueryContext(context.Background(), `
		SELECT r.started_at / 86400000, u.id, u.external_id, NULL, CASE WHEN r.status <> 4 OR r.ended_by IS NOT NULL THEN 1 ELSE 0 END,
			CASE WHEN r.status = 4 AND r.ended_by IS NULL THEN 1 ELSE 0 END, 0, 0, NULL, NULL, NULL, 0, 0, 0, NULL, 0, 0, 0, 0, NULL
		FROM runs r JOIN users u ON u.id = r.user_id WHERE r.workspace_id = $1
		UNION ALL
		SELECT s.booked_day, u.id, u.external_id, m.name, 0, 0, s.prompt_tokens, s.completion_tokens,
			s.input_picos, s.output_picos, s.cost_nanos, 0, 0,
			(SELECT count(*) FROM capped_steps c WHERE c.run_id = s.run_id AND c.step_uuid = s.uuid), p.rates,
			coalesce(y.cached_tokens, 0), coalesce(y.cache_write_tokens, 0), coalesce(y.cache_write_1h_tokens, 0),
			coalesce(y.reasoning_tokens, 0), y.reported_nanos
		FROM runs r JOIN users u ON u.id = r.user_id JOIN run_steps s ON s.run_id = r.id
		LEFT JOIN price_points p ON p.id = s.price_id
		LEFT JOIN step_usage y ON y.segment = s.segment AND y.run_id = s.run_id AND y.step_uuid = s.uuid
		LEFT JOIN models m ON m.id = s.model_id WHERE r.workspace_id = $1 AND s.booked_day IS NOT NULL
		UNION ALL
		SELECT s.completed_at / 86400000, u.id, u.external_id, m.name, 0, 0, 0, 0, NULL, NULL, NULL, 0, 1, 0, NULL, 0, 0, 0, 0, NULL
		FROM runs r JOIN users u ON u.id = r.user_id JOIN run_steps s ON s.run_id = r.id
		LEFT JOIN models m ON m.id = s.model_id WHERE r.workspace_id = $1 AND s.type = 1 AND s.status = 2
			AND coalesce(s.prompt_tokens, 0) = 0 AND coalesce(s.completion_tokens, 0) = 0 AND coalesce(s.cost_nanos, 0) = 0
		UNION ALL
		SELECT coalesce(s.created_at, r.started_at) / 86400000, u.id, u.external_id, NULL, 0, 0, 0, 0, NULL, NULL, NULL, d.reason, 0, 0, NULL, 0, 0, 0, 0, NULL
		FROM runs r JOIN users u ON u.id = r.user_id JOIN denials d ON d.run_id = r.id
		LEFT JOIN run_steps s ON s.run_id = r.id AND s.uuid = d.step_uuid WHERE r.workspace_id = $1`, ws)
	w.must(err)
	for rows.Next() {
		var e entry
		var input, output, cost, reported sql.NullInt64
		var capped bool
		var text sql.NullString
		var parts prices.Tokens
		w.must(rows.Scan(&e.day, &e.userID, &e.user, &e.model, &e.runs, &e.blocked, &e.prompt, &e.completion,
			&input, &output, &cost, &e.denial, &e.gaps.CallsWithoutUsage, &capped,
			&text, &parts.Cached, &parts.CacheWrite, &parts.CacheWrite1h, &parts.Reasoning, &reported))
		parts.Prompt, parts.Completion = e.prompt, e.completion
		switch {
		case capped:
			e.spend = cost.Int64
		case text.Valid:
			spend, err := parsedRates(w.t, text.String).Cost(parts)
			w.must(err)
			e.spend = int64(spend)
		case !input.Valid && cost.Valid:
			e.spend = reported.Int64
		case input.Valid:
			spend, err := plans.Cost(e.prompt, e.completion, plans.Price(input.Int64), plans.Price(output.Int64))
			w.must(err)
			e.spend = int64(spend)
		}
		if tokens := e.prompt + e.completion; !cost.Valid && tokens > 0 {
			e.gaps.UnpricedTokens, e.gaps.UnpricedSteps = tokens, 1
		}
		if e.spend != cost.Int64 || input.Valid && !cost.Valid {
			w.t.Errorf("a step costs %v, want %d: %+v", cost, e.spend, e)
		}
		all = append(all, e)
	}
	w.must(errors.Join(rows.Err(), rows.Close()))
	return all
}

// mustReadTheLedger compares what every exported read says with the ledger:
// the figures on each of some days, counted from the clock's, or on that alone.
func (w *world) mustReadTheLedger(days ...int) {
	w.t.Helper()
	now := w.Now()
	if len(days) == 0 {
		days = []int{0}
	}
	for n := range w.number(`SELECT coalesce(max(id), 0) FROM workspaces`) {
		ws := WorkspaceKey(n + 1)
		if w.number(`SELECT count(*) FROM workspaces WHERE id = $1`, n+1) == 0 {
			continue // PostgreSQL gives no id twice, also where the first was rolled back
		}
		all := w.entries(ws)
		for _, d := range days {
			w.Set(now.AddDate(0, 0, d))
			w.mustReadUsage(ws, all)
			w.mustReadUsers(ws, all)
		}
		w.Set(now)
		w.mustReadRuns(ws)
	}
}

// mustReadUsage compares Usage and DailyUsage.
func (w *world) mustReadUsage(ws WorkspaceKey, all []entry) {
	w.t.Helper()
	ctx, today := context.Background(), dayOf(w.Now())
	got, err := w.Usage(ctx, ws)
	w.must(err)
	got.Today.Capped, got.Last7Days.Capped, got.Last30Days.Capped = false, false, false // see TestDayTakesItsBoundAndNotMore
	got.ByModel = slices.DeleteFunc(got.ByModel, func(m ModelUsage) bool { return m == ModelUsage{Model: m.Model} })
	got.ByUser = slices.DeleteFunc(got.ByUser, func(u UserUsage) bool { return u == UserUsage{UserID: u.UserID} })
	want := usageOf(all, w.Now())
	want.MonthlyRunLimit = got.MonthlyRunLimit
	want.RunningRuns = w.number(`SELECT count(*) FROM runs WHERE workspace_id = $1 AND status = 1`, ws)
	if diff := gocmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		w.t.Errorf("usage of workspace %d differs from the ledger (-) as (+):\n%s", ws, diff)
	}

	const days = 45
	daily, err := w.DailyUsage(ctx, ws, days, true)
	w.must(err)
	var wantDaily []DayUsage
	for day := today - days + 1; day <= today; day++ {
		d := DayUsage{Date: dateOf(day)}
		for _, e := range all {
			if e.day == day {
				d.Spend += plans.Money(e.spend)
				d.PromptTokens, d.CompletionTokens = d.PromptTokens+e.prompt, d.CompletionTokens+e.completion
				d.Runs, d.BlockedRuns = d.Runs+e.runs, d.BlockedRuns+e.blocked
				d.Denials += boolInt(e.denial != guard.None)
				d.UnpricedUsage = d.UnpricedUsage.plus(e.gaps)
			}
		}
		d.Capped = max(int64(d.Spend), d.PromptTokens, d.CompletionTokens) == plans.MaxDay
		wantDaily = append(wantDaily, d)
	}
	splitByModel(all, today-days+1, wantDaily)
	if diff := gocmp.Diff(wantDaily, daily); diff != "" {
		w.t.Errorf("daily usage of workspace %d differs from the ledger (-) as (+):\n%s", ws, diff)
	}
}

// splitByModel fills in what each of the five dearest models cost on each day.
func splitByModel(all []entry, first int64, days []DayUsage) {
	sums := map[string]plans.Money{}
	within := func(e entry) bool {
		return e.model.Valid && e.day >= first && e.day < first+int64(len(days)) && e.spend > 0
	}
	for _, e := range all {
		if within(e) {
			sums[e.model.String] += plans.Money(e.spend)
		}
	}
	names := slices.SortedFunc(maps.Keys(sums), func(a, b string) int {
		return cmp.Or(cmp.Compare(sums[b], sums[a]), cmp.Compare(a, b))
	})
	names = names[:min(5, len(names))]
	for i := range days {
		days[i].ByModel = []ModelSpend{}
		for _, name := range names {
			days[i].ByModel = append(days[i].ByModel, ModelSpend{Model: name})
		}
	}
	for _, e := range all {
		if place := slices.Index(names, e.model.String); place >= 0 && within(e) {
			days[e.day-first].ByModel[place].Spend += plans.Money(e.spend)
		}
	}
}

func (g UnpricedUsage) plus(h UnpricedUsage) UnpricedUsage {
	return UnpricedUsage{
		g.UnpricedTokens + h.UnpricedTokens, g.UnpricedSteps + h.UnpricedSteps, g.CallsWithoutUsage + h.CallsWithoutUsage,
	}
}

func dateOf(day int64) time.Time { return time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, time.UTC) }

// usageOf is Usage as the contract words it, by adding up the ledger, without
// models and users that used nothing.
func usageOf(all []entry, now time.Time) (u Usage) {
	models, users, names := map[string]ModelUsage{}, map[int64]UserUsage{}, []string(nil)
	reasons := map[guard.Reason]ReasonUsage{}
	for _, e := range all {
		date := dateOf(e.day)
		if date.After(now) {
			continue
		}
		if date.Year() == now.Year() && date.Month() == now.Month() {
			u.MonthlyRuns += e.runs
		}
		for days, t := range map[int]*Totals{1: &u.Today, 7: &u.Last7Days, 30: &u.Last30Days} {
			if date.AddDate(0, 0, days).After(now) {
				t.Spend, t.Tokens, t.Runs = t.Spend+plans.Money(e.spend), t.Tokens+e.prompt+e.completion, t.Runs+e.runs
				t.Denials += boolInt(e.denial != guard.None)
				t.UnpricedUsage = t.UnpricedUsage.plus(e.gaps)
			}
		}
		if e.denial != guard.None && date.AddDate(0, 0, 30).After(now) {
			r := reasons[e.denial]
			r.Reason, r.Last30Days = e.denial, r.Last30Days+1
			r.Last7Days += boolInt(date.AddDate(0, 0, 7).After(now))
			r.Today += boolInt(date.AddDate(0, 0, 1).After(now))
			reasons[e.denial] = r
		}
		if !date.AddDate(0, 0, 30).After(now) || e.spend+e.prompt+e.completion+e.runs+e.gaps.CallsWithoutUsage == 0 {
			continue
		}
		if m := models[e.model.String]; e.model.Valid {
			models[e.model.String] = ModelUsage{
				e.model.String, m.Spend + plans.Money(e.spend), m.PromptTokens + e.prompt, m.CompletionTokens + e.completion,
				m.UnpricedUsage.plus(e.gaps),
			}
		}
		if r := users[e.userID]; e.spend+e.runs+e.gaps.UnpricedTokens > 0 {
			users[e.userID] = UserUsage{e.user, r.Spend + plans.Money(e.spend), r.Runs + e.runs, r.UnpricedTokens + e.gaps.UnpricedTokens}
		}
	}
	for name := range models {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(models[b].Spend, models[a].Spend), cmp.Compare(a, b))
	})
	for _, name := range names {
		u.ByModel = append(u.ByModel, models[name])
	}
	u.ByReason = slices.SortedFunc(maps.Values(reasons), func(a, b ReasonUsage) int {
		return cmp.Or(cmp.Compare(b.Last30Days, a.Last30Days), cmp.Compare(a.Reason, b.Reason))
	})
	var ids []int64
	for id := range users {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b int64) int {
		return cmp.Or(cmp.Compare(users[b].Spend, users[a].Spend), cmp.Compare(a, b))
	})
	for _, id := range ids[:min(100, len(ids))] {
		u.ByUser = append(u.ByUser, users[id])
	}
	return u
}

// mustReadUsers compares every user's figures.
func (w *world) mustReadUsers(ws WorkspaceKey, all []entry) {
	w.t.Helper()
	type figures struct {
		Runs              int64
		Today, Last30Days UserSpend
	}
	add := func(to *UserSpend, e entry) {
		*to = UserSpend{to.Spend + plans.Money(e.spend), to.UnpricedTokens + e.gaps.UnpricedTokens}
	}
	want := map[string]figures{}
	for _, e := range all {
		f, age := want[e.user], dayOf(w.Now())-e.day
		f.Runs += e.runs
		if age == 0 {
			add(&f.Today, e)
		}
		if age >= 0 && age < 30 {
			add(&f.Last30Days, e)
		}
		want[e.user] = f
	}
	got, cursor := map[string]figures{}, ""
	for more := true; more; more = cursor != "" {
		users, next, err := w.Users(context.Background(), ws, UserFilter{Limit: 7, Cursor: cursor})
		w.must(err)
		for _, u := range users {
			if _, twice := got[u.UserID]; twice {
				w.t.Errorf("user %q is listed twice", u.UserID)
			}
			f := figures{u.RunCount, u.Today, u.Last30Days}
			if _, ever := want[u.UserID]; ever || f != (figures{}) { // a user only ever blocked has no entry
				got[u.UserID] = f
			}
		}
		cursor = next
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		w.t.Errorf("users of workspace %d differ from the ledger (-) as (+):\n%s", ws, diff)
	}
}

// mustReadRuns compares runs as they are listed with their detail, and both
// with their steps; of many runs it reads about a hundred.
func (w *world) mustReadRuns(ws WorkspaceKey) {
	w.t.Helper()
	stored := w.number(`SELECT count(*) FROM runs WHERE workspace_id = $1`, ws)
	var listed int64
	var cursor string
	var last *uuid.UUID
	for more := true; more; more = cursor != "" {
		runs, next, err := w.Runs(context.Background(), ws, RunFilter{Limit: 37, Cursor: cursor})
		w.must(err)
		for _, r := range runs {
			if last != nil && string(r.ID[:]) >= string(last[:]) {
				w.t.Errorf("run %s is listed after %s", r.ID, last)
			}
			last, listed = &r.ID, listed+1
			if listed%(1+stored/100) != 0 {
				continue
			}
			d, err := w.Run(context.Background(), ws, r.ID, "")
			w.must(err)
			if diff := gocmp.Diff(r, d.Run); diff != "" {
				w.t.Errorf("a run is listed (-) and read (+) as:\n%s", diff)
			}
			if fault := d.fault(); fault != "" {
				w.t.Errorf("run %s %s: %+v", r.ID, fault, r)
			}
		}
		cursor = next
	}
	if listed != stored {
		w.t.Errorf("%d runs are listed of %d", listed, stored)
	}
}

// fault says in what a run, read in one snapshot, contradicts itself.
func (d RunDetail) fault() string {
	sum := d.Run
	sum.StepCount, sum.BlockedStepCount, sum.PromptTokens, sum.CompletionTokens, sum.Spend = int64(len(d.Steps)), 0, 0, 0, 0
	sum.UnpricedTokens, sum.CallsWithoutUsage = 0, 0
	for _, s := range d.Steps {
		sum.BlockedStepCount += boolInt(s.Status == StepBlocked)
		sum.PromptTokens, sum.CompletionTokens = sum.PromptTokens+s.PromptTokens, sum.CompletionTokens+s.CompletionTokens
		if s.Cost != nil {
			sum.Spend += *s.Cost
		} else {
			sum.UnpricedTokens += s.PromptTokens + s.CompletionTokens
		}
		sum.CallsWithoutUsage += boolInt(s.Type == ModelCall && s.Status == StepCompleted && s.PromptTokens+s.CompletionTokens == 0 &&
			(s.Cost == nil || *s.Cost == 0))
		reported := s.Price.Source == PriceReported
		switch {
		case (s.Status == StepWaiting) != s.Decision.Review:
			return "has a step whose status and decision disagree"
		case (s.Status == StepBlocked) != s.Decision.Denied() && (s.Review == nil || s.Review.Resolution != Bypassed):
			return "has a step whose status and decision disagree"
		case s.Status == StepRunning && d.Status != RunRunning:
			return "has ended, but not its step"
		case !reported && (s.Cost == nil) != (s.InputPrice == nil) || (s.InputPrice == nil) != (s.OutputPrice == nil):
			return "has a step with a cost but no price, or a price but no cost"
		}
	}
	switch {
	case d.NextSteps == "" && sum != d.Run:
		return "does not add up its steps"
	case (d.Status == RunRunning) != d.EndedAt.IsZero():
		return "has an end while it is RUNNING, or none after"
	case (d.Status == RunBlocked && d.EndedBy == 0) == d.Decision.Allowed():
		return "was allowed to start but not running, or the reverse"
	case !d.Decision.Allowed() && (d.DenyReason != d.Decision.Reason || !d.EndedAt.Equal(d.StartedAt)):
		return "was not born BLOCKED for its own reason"
	}
	return ""
}

// A product of tokens and picos that exceeds 64 bits is recomputed all the same.
func TestBooksRecomputeTheDearestStep(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 99_999_999, 1)
	run := w.start(ws, "u")
	s := w.patch(ws, run.ID, w.step(ws, run.ID).ID, plans.MaxTokens, 1)
	if want := plans.Money(99_999_999_000_000_001); s.Cost == nil || *s.Cost != want {
		t.Errorf("cost %v, want %v", s.Cost, want)
	}
}

package storage

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// audited makes a world whose books are recomputed when the test ends, and
// compared with the tables and with what every exported read says. The test
// runs beside others.
func audited(t *testing.T) *world {
	t.Helper()
	t.Parallel()
	w := newWorld(t)
	t.Cleanup(func() {
		w.mustBalance()
		w.mustReadTheLedger()
	})
	return w
}

// mustBalance wants no query of testdata/books.sql to find a difference,
// except in the books named.
func (w *world) mustBalance(except ...string) {
	w.t.Helper()
	found, err := audit(w.path)
	w.must(err)
	for _, d := range found {
		if !slices.Contains(except, d.book) {
			w.t.Errorf("books differ: %v", d)
		}
	}
}

// difference is a row of testdata/books.sql.
type difference struct{ book, key, stored, recomputed string }

func (d difference) String() string {
	return fmt.Sprintf("%s of %s: stored %q, recomputed %q", d.book, d.key, d.stored, d.recomputed)
}

// audit recomputes the books of a file on a read-only connection of its own,
// in one snapshot, so that it may also run under load.
func audit(path string) (found []difference, err error) {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro&_pragma=busy_timeout(5000)&_pragma=query_only(1)")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, tx.Rollback()) }()
	queries, err := bookQueries()
	if err != nil {
		return nil, err
	}
	return differences(ctx, tx.QueryContext, queries)
}

// asker is the QueryContext of a connection or a transaction.
type asker func(ctx context.Context, query string, args ...any) (*sql.Rows, error)

func differences(ctx context.Context, ask asker, queries []string) (found []difference, err error) {
	for _, query := range queries {
		rows, err := ask(ctx, query)
		if err != nil {
			return nil, fmt.Errorf("%w in %s", err, query)
		}
		for rows.Next() {
			var d difference
			if err := rows.Scan(&d.book, &d.key, &d.stored, &d.recomputed); err != nil {
				return nil, fmt.Errorf("%w in %s", err, query)
			}
			found = append(found, d)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return nil, fmt.Errorf("%w in %s", err, query)
		}
	}
	return found, nil
}

// bookQueries reads testdata/books.sql as its head says.
func bookQueries() (queries []string, err error) {
	file, err := os.ReadFile("testdata/books.sql")
	if err != nil {
		return nil, err
	}
	text := regexp.MustCompile(`(?m)^--.*$`).ReplaceAllString(string(file), "")
	for query := range strings.SplitSeq(text, ";") {
		if query = strings.TrimSpace(query); query != "" {
			queries = append(queries, query)
		}
	}
	return queries, nil
}

// entry is what one ledger row adds to the books: a start, or a step's usage.
type entry struct {
	day                       int64
	userID                    int64
	user                      string
	model                     sql.NullString
	runs, blocked             int64
	spend, prompt, completion int64
	unpriced                  int64
	denial                    guard.Reason // of a denied start or step
}

// entries reads the ledger of a workspace, and recomputes every cost.
func (w *world) entries(ws WorkspaceKey) (all []entry) {
	w.t.Helper()
	rows, err := w.conn().QueryContext(context.Background(), `
		SELECT r.started_at / 86400000, u.id, u.external_id, NULL, r.status <> 4 OR r.ended_by IS NOT NULL,
			r.status = 4 AND r.ended_by IS NULL, 0, 0, NULL, NULL, NULL, 0
		FROM runs r JOIN users u ON u.id = r.user_id WHERE r.workspace_id = $1
		UNION ALL
		SELECT s.booked_day, u.id, u.external_id, m.name, 0, 0, s.prompt_tokens, s.completion_tokens,
			s.input_picos, s.output_picos, s.cost_nanos, 0
		FROM runs r JOIN users u ON u.id = r.user_id JOIN steps s ON s.run_id = r.id
		LEFT JOIN models m ON m.id = s.model_id WHERE r.workspace_id = $1 AND s.booked_day IS NOT NULL
		UNION ALL
		SELECT coalesce(s.created_at, r.started_at) / 86400000, u.id, u.external_id, NULL, 0, 0, 0, 0, NULL, NULL, NULL, d.reason
		FROM runs r JOIN users u ON u.id = r.user_id JOIN denials d ON d.run_id = r.id
		LEFT JOIN steps s ON s.run_id = r.id AND s.uuid = d.step_uuid WHERE r.workspace_id = $1`, ws)
	w.must(err)
	for rows.Next() {
		var e entry
		var input, output, cost sql.NullInt64
		w.must(rows.Scan(&e.day, &e.userID, &e.user, &e.model, &e.runs, &e.blocked, &e.prompt, &e.completion, &input, &output, &cost, &e.denial))
		if input.Valid {
			spend, err := plans.Cost(e.prompt, e.completion, plans.Price(input.Int64), plans.Price(output.Int64))
			w.must(err)
			e.spend = int64(spend)
		}
		if !input.Valid && e.model.Valid {
			e.unpriced = e.prompt + e.completion
		}
		if e.spend != cost.Int64 || input.Valid != cost.Valid {
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
				d.Denials += flag(e.denial != guard.None)
			}
		}
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
				t.Denials += flag(e.denial != guard.None)
			}
		}
		if e.denial != guard.None && date.AddDate(0, 0, 30).After(now) {
			r := reasons[e.denial]
			r.Reason, r.Last30Days = e.denial, r.Last30Days+1
			r.Last7Days += flag(date.AddDate(0, 0, 7).After(now))
			r.Today += flag(date.AddDate(0, 0, 1).After(now))
			reasons[e.denial] = r
		}
		if !date.AddDate(0, 0, 30).After(now) || e.spend+e.prompt+e.completion+e.runs == 0 {
			continue
		}
		if m := models[e.model.String]; e.model.Valid {
			models[e.model.String] = ModelUsage{
				e.model.String, m.Spend + plans.Money(e.spend), m.PromptTokens + e.prompt, m.CompletionTokens + e.completion,
				m.UnpricedTokens + e.unpriced,
			}
		}
		if r := users[e.userID]; e.spend+e.runs > 0 {
			users[e.userID] = UserUsage{e.user, r.Spend + plans.Money(e.spend), r.Runs + e.runs}
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
	type figures struct{ Runs, Today, Last30Days int64 }
	want := map[string]figures{}
	for _, e := range all {
		f, age := want[e.user], dayOf(w.Now())-e.day
		f.Runs += e.runs
		if age == 0 {
			f.Today += e.spend
		}
		if age >= 0 && age < 30 {
			f.Last30Days += e.spend
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
			f := figures{u.RunCount, int64(u.Today), int64(u.Last30Days)}
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
	for _, s := range d.Steps {
		sum.BlockedStepCount += flag(s.Status == StepBlocked)
		sum.PromptTokens, sum.CompletionTokens = sum.PromptTokens+s.PromptTokens, sum.CompletionTokens+s.CompletionTokens
		if s.Cost != nil {
			sum.Spend += *s.Cost
		}
		switch {
		case (s.Status == StepBlocked) == s.Decision.Allowed():
			return "has a step whose status and decision disagree"
		case s.Status == StepRunning && d.Status != RunRunning:
			return "has ended, but not its step"
		case (s.Cost == nil) != (s.InputPrice == nil) || (s.Cost == nil) != (s.OutputPrice == nil):
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

// The books would prove nothing if they did not notice.
func TestBooksNoticeEveryKindOfDifference(t *testing.T) {
	w := audited(t)
	ws := w.roomy()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	run := w.start(ws, "u")
	w.patch(ws, run.ID, w.step(ws, run.ID).ID, 500, 100)
	w.step(ws, run.ID)
	w.end(ws, run.ID, RunCompleted)
	w.step(ws, run.ID)
	w.start(ws, "u")
	_, err := w.BlockUser(t.Context(), ws, "u", nil)
	w.must(err)
	w.start(ws, "u")

	queries, err := bookQueries()
	w.must(err)
	conn, noticed := w.conn(), map[string]bool{}
	for _, c := range corruptions() {
		noticed[c.book] = true
		query := slices.IndexFunc(queries, func(q string) bool { return strings.Contains(q, "SELECT '"+c.book+"',") })
		if query < 0 {
			t.Fatalf("no query about %s", c.book)
		}
		for _, statement := range []string{`PRAGMA foreign_keys = 0`, `BEGIN IMMEDIATE`, c.statement} {
			_, err := conn.ExecContext(t.Context(), statement)
			w.must(err)
		}
		found, err := differences(t.Context(), conn.QueryContext, queries[query:query+1])
		w.must(err)
		if len(found) == 0 {
			t.Errorf("%s: no difference in %s", c.statement, c.book)
		}
		_, err = conn.ExecContext(t.Context(), `ROLLBACK`)
		w.must(err)
	}

	for _, query := range queries {
		for _, name := range regexp.MustCompile(`SELECT '([^']+)',`).FindAllStringSubmatch(query, -1) {
			if !noticed[name[1]] {
				t.Errorf("nothing shows that %q notices anything", name[1])
			}
		}
	}
}

// corruptions are ways to break the books of the test above, and who must notice.
func corruptions() []struct{ book, statement string } {
	return []struct{ book, statement string }{
		{"workspaces.running_runs", `UPDATE workspaces SET running_runs = 0`},
		{"workspaces.running_runs", `UPDATE runs SET status = 2, ended_at = 1, ended_by = 1 WHERE status = 1`},
		{"runs", `UPDATE runs SET step_count = step_count - 1 WHERE step_count > 0`},
		{"runs", `UPDATE runs SET blocked_step_count = 0`},
		{"runs", `UPDATE runs SET prompt_tokens = 501 WHERE prompt_tokens = 500`},
		{"runs", `UPDATE runs SET completion_tokens = 99 WHERE completion_tokens = 100`},
		{"runs", `UPDATE runs SET spend_nanos = spend_nanos + 1 WHERE spend_nanos > 0`},
		{"runs", `DELETE FROM steps WHERE status = 5`},
		{"users.run_count", `UPDATE users SET run_count = 3`},
		{"workspace_days", `UPDATE workspace_days SET spend_nanos = spend_nanos - 1`},
		{"workspace_days", `UPDATE workspace_days SET prompt_tokens = 0`},
		{"workspace_days", `UPDATE workspace_days SET completion_tokens = 0`},
		{"workspace_days", `UPDATE workspace_days SET run_count = 3`},
		{"workspace_days", `UPDATE workspace_days SET blocked_run_count = 0`},
		{"workspace_days", `UPDATE workspace_days SET day = day + 1`},
		{"workspace_days", `DELETE FROM workspace_days`},
		{"workspace_days", `INSERT INTO workspace_days VALUES (1, 1, 1, 0, 0, 0, 0)`},
		{"user_days", `UPDATE user_days SET spend_nanos = 0`},
		{"user_days", `UPDATE user_days SET run_count = 1`},
		{"model_days", `UPDATE model_days SET spend_nanos = 0`},
		{"model_days", `UPDATE model_days SET prompt_tokens = 0`},
		{"model_days", `UPDATE model_days SET completion_tokens = 0`},
		{"model_days", `UPDATE model_days SET unpriced_tokens = 600`},
		{"model_days", `DELETE FROM model_days`},
		{"denial_days", `UPDATE denial_days SET denial_count = denial_count + 1`},
		{"denial_days", `UPDATE denial_days SET day = day - 1`},
		{"denial_days", `DELETE FROM denial_days`},
		{"denial_days", `INSERT INTO denial_days VALUES (1, 1, 2, 1)`},
		{"denial_days", `DELETE FROM denials WHERE step_uuid <> x''`},
		{"denials", `DELETE FROM denials WHERE step_uuid = x''`},
		{"denials", `DELETE FROM denials WHERE step_uuid <> x''`},
		{"denials", `INSERT INTO denials SELECT run_id, uuid, 2, 0, 0, NULL FROM steps WHERE status = 2`},
		{"denials: contents", `UPDATE denials SET reason = 1`},
		{"denials: contents", `UPDATE denials SET reason = 7 WHERE step_uuid <> x''`},
		{"denials: contents", `UPDATE denials SET reason = 4, limit_value = 2, used_value = 1, resets_at = 1`},
		{"denials: contents", `UPDATE denials SET reason = 4`},
		{"runs.deny_reason", `UPDATE runs SET deny_reason = NULL`},
		{"runs.deny_reason", `UPDATE runs SET deny_reason = 4`},
		{"runs: ends", `UPDATE runs SET ended_at = NULL`},
		{"runs: ends", `UPDATE runs SET ended_by = NULL`},
		{"runs: ends", `UPDATE runs SET status = 5 WHERE status = 1`},
		{"steps: open in an ended run", `UPDATE steps SET status = 1 WHERE status = 5`},
		{"steps: completion", `UPDATE steps SET completed_at = 1`},
		{"steps: completion", `UPDATE steps SET completed_at = NULL`},
		{"steps: usage", `UPDATE steps SET cost_nanos = NULL`},
		{"steps: usage", `UPDATE steps SET booked_day = NULL`},
		{"steps: usage", `UPDATE steps SET completion_tokens = NULL`},
		{"steps: usage", `UPDATE steps SET output_picos = NULL`},
		{"steps: usage", `UPDATE steps SET status = 4`},
		{"steps.cost_nanos", `UPDATE steps SET cost_nanos = cost_nanos + 1`},
		{"steps.cost_nanos", `UPDATE steps SET input_picos = input_picos + 1`},
		{"below zero", `UPDATE workspace_days SET blocked_run_count = -1`},
		{"below zero", `UPDATE steps SET duration_ms = -1`},
		{"orphans", `DELETE FROM runs`},
		{"orphans", `DELETE FROM models`},
		{"orphans", `UPDATE users SET workspace_id = 0`},
		{"orphans", `INSERT INTO step_payloads (run_id, step_uuid) VALUES (1, x'01')`},
		{"orphans", `INSERT INTO run_metadata VALUES (0, '{}')`},
		{"orphans", `INSERT INTO idempotency_keys VALUES (1, 100, 'k', x'', x'', 0)`},
		{"api_keys: active", `UPDATE api_keys SET revoked_at = 1`},
		{"workspaces: beyond the plan", `UPDATE workspaces SET plan = 'basic'`},
		{"workspaces: beyond the plan", `UPDATE workspaces SET plan = 'pro', kill_switch = 1`},
		{"plan_changes", `UPDATE workspaces SET plan = 'pro'`},
		{"plan_changes", `INSERT INTO plan_changes SELECT NULL, id, 0, 'pro', plan, 2, NULL, 0, NULL, NULL FROM workspaces`},
	}
}

// A product of tokens and picos that exceeds 64 bits is recomputed all the same.
func TestBooksRecomputeTheDearestStep(t *testing.T) {
	w := audited(t)
	ws := w.roomy()
	w.price(ws, "gpt-4o", 99_999_999, 1)
	run := w.start(ws, "u")
	s := w.patch(ws, run.ID, w.step(ws, run.ID).ID, plans.MaxTokens, 1)
	if want := plans.Money(99_999_999_000_000_001); s.Cost == nil || *s.Cost != want {
		t.Errorf("cost %v, want %v", s.Cost, want)
	}
}

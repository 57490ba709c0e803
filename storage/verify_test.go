package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/verify"
)

// everyKind makes a workspace whose books hold something of every kind.
func (w *world) everyKind() WorkspaceKey {
	w.t.Helper()
	ws := w.unlimitedWorkspace()
	w.zone(ws, "Asia/Kathmandu")
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	run, err := w.StartRun(context.Background(), w.caller(ws), NewRun{UserID: "u", Metadata: []byte(`{"agent":"a"}`)}, guard.Decide)
	w.must(err)
	w.patch(ws, run.ID, w.step(ws, run.ID).ID, 500, 100)
	w.step(ws, run.ID)
	w.end(ws, run.ID, RunCompleted)
	w.step(ws, run.ID)
	w.start(ws, "u")
	_, err = w.BlockUser(context.Background(), ws, "u", nil)
	w.must(err)
	w.start(ws, "u")
	return ws
}

// everyGap gives a workspace steps whose cost is not known, or not whole.
func (w *world) everyGap(ws WorkspaceKey) {
	w.t.Helper()
	run := w.start(ws, "v").ID
	w.patch(ws, run, w.createModelCall(ws, run, "new"), 5, 6)
	w.patch(ws, run, w.createModelCall(ws, run, "gpt-4o"), 0, 0)
	w.sameAs(ws, "alias", "gpt-4o")
	w.patch(ws, run, w.createModelCall(ws, run, "alias"), 7, 0)
	w.price(ws, "typed per million", plans.MaxPrice, plans.MaxPrice)
	w.patch(ws, run, w.createModelCall(ws, run, "typed per million"), 101, 0)
	w.end(ws, run, RunCompleted)
}

// everyReview gives a workspace a limit that counts, and a review that waits,
// one that was approved with a grant, and one that was refused.
func (w *world) everyReview(ws WorkspaceKey) {
	w.t.Helper()
	w.policy(ws, "calls", `{"limit":{"measure":"calls","per":"user","window":"day","amount":100},"effect":"deny"}`)
	w.policy(ws, "ask", `{"effect":"review"}`)
	run := w.start(ws, "v").ID
	w.ask(ws, run, "t", `{}`)
	w.decide(ws, w.ask(ws, run, "t", `{}`).Review, Verdict{})
	approved := w.ask(ws, run, "t", `{}`).Review
	w.decide(ws, approved, Verdict{Approve: true, Grant: &NewGrant{Scope: GrantTool, Seconds: 9, Uses: 1}})
}

// The books would prove nothing if they did not notice.
func TestBooksNoticeEveryKindOfDifference(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.everyKind()
	w.everyUsage(ws)
	w.everyGap(ws)
	w.everyReview(ws)
	conn, noticed := w.conn(), map[string]bool{}
	engine, unchecked := verify.SQLite, []string{`PRAGMA foreign_keys = 0`, `BEGIN IMMEDIATE`}
	if w.url != "" {
		engine = verify.PostgreSQL
		unchecked = []string{`SET session_replication_role = replica`, `BEGIN ISOLATION LEVEL REPEATABLE READ`}
	}
	for _, c := range corruptions() {
		noticed[c.book] = true
		for _, statement := range append(slices.Clone(unchecked), w.bytesIn(c.statement)) {
			_, err := conn.ExecContext(t.Context(), statement)
			w.must(err)
		}
		once := prepared{conn, make(map[string]*sql.Stmt)}
		report, err := verify.Compare(t.Context(), once, engine, 1)
		w.must(errors.Join(err, once.close()))
		if !slices.ContainsFunc(report.Differences, func(d verify.Difference) bool { return d.Check == c.book }) {
			t.Errorf("%s: no difference in %s, only %+v", c.statement, c.book, report.Differences)
		}
		_, err = conn.ExecContext(t.Context(), `ROLLBACK`)
		w.must(err)
	}
	for _, check := range verify.Checks() {
		if !noticed[check] {
			t.Errorf("nothing shows that %s notices anything", check)
		}
	}
}

// prepared is a connection that parses each statement once: almost all that a comparison of
// a few rows takes, which asks the same of each run.
type prepared struct {
	*sql.Conn
	statements map[string]*sql.Stmt
}

func (p prepared) statement(ctx context.Context, query string) (*sql.Stmt, error) {
	if s := p.statements[query]; s != nil {
		return s, nil
	}
	s, err := p.PrepareContext(ctx, query)
	if err == nil {
		p.statements[query] = s
	}
	return s, err
}

func (p prepared) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	s, err := p.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.ExecContext(ctx, args...)
}

func (p prepared) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := p.statement(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (p prepared) close() (err error) {
	for _, s := range p.statements {
		err = errors.Join(err, s.Close())
	}
	return err
}

// verify asks Verify with options of its own.
func (w *world) verify(opts verify.Options) verify.Report {
	w.t.Helper()
	report, err := w.verification(context.Background(), opts)
	w.must(err)
	return report
}

// verification verifies the database of the world's engine.
func (w *world) verification(ctx context.Context, opts verify.Options) (verify.Report, error) {
	if w.url != "" {
		return VerifyPostgres(ctx, w.url, embed.PostgresMigrations(), opts)
	}
	opts.Migrations = embed.Migrations()
	return verify.File(ctx, w.path, opts)
}

// books of a world, as text, without the ledger.
func (w *world) figuresOf(tables ...string) string {
	w.t.Helper()
	var all strings.Builder
	for _, table := range tables {
		rows, err := w.otherProcess.QueryContext(context.Background(), "SELECT * FROM "+table+" ORDER BY 1, 2, 3")
		w.must(err)
		columns, err := rows.Columns()
		w.must(err)
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		for rows.Next() {
			w.must(rows.Scan(into...))
			fmt.Fprintln(&all, table, columns, values)
		}
		w.must(errors.Join(rows.Err(), rows.Close()))
	}
	return all.String()
}

func TestRepairSetsEveryFigureRightAndNothingElse(t *testing.T) {
	w := newVerifiedWorld(t)
	w.everyKind()
	w.everyKind()
	tables := []string{"runs", "users", "workspaces", "workspace_days", "user_days", "model_days", "steps", "denials"}
	before := w.figuresOf(tables...)
	const minutes = `SELECT sum(spend_nanos) FROM spend_minutes`
	spent := w.number(minutes)
	for _, statement := range []string{
		`UPDATE runs SET step_count = 77, spend_nanos = -3 WHERE status = 2`,
		`UPDATE users SET run_count = 12`,
		`UPDATE workspaces SET running_runs = 0 WHERE id = 1`,
		`UPDATE workspace_days SET spend_nanos = spend_nanos + 1, run_count = 0 WHERE workspace_id = 1`,
		`DELETE FROM workspace_days WHERE workspace_id = 2`,
		`UPDATE user_days SET run_count = run_count + 5`,
		`DELETE FROM model_days`,
		`DELETE FROM spend_minutes`, // what is added again names no run
	} {
		w.elsewhere(statement)
	}
	spoilt := w.figuresOf(tables...)
	if looked := w.verify(verify.Options{}); looked.Clean() || looked.Repaired != 0 || w.figuresOf(tables...) != spoilt {
		t.Errorf("looking found %+v, or changed something", looked)
	}
	repaired := w.verify(verify.Options{Repair: true})
	if n := w.number(minutes); n != spent || n == 0 {
		t.Errorf("the minutes add up to %d, and did to %d", n, spent)
	}
	if !repaired.Clean() || repaired.Found < 10 {
		t.Errorf("repaired %+v", repaired)
	}
	if after := w.figuresOf(tables...); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if again := w.verify(verify.Options{Repair: true}); again.Found != 0 {
		t.Errorf("again: %+v", again)
	}
}

func TestDifferenceSaysWhatIsStoredAndWhatShouldBe(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.everyKind()
	w.elsewhere(`UPDATE workspace_days SET run_count = 9`)
	report := w.verify(verify.Options{Repair: true})
	want := verify.Difference{
		Check: "workspace_days", Row: "workspace_id " + strconv.Itoa(int(ws)) + ", day 2026-11-15",
		Stored: "run_count 9", ShouldBe: "run_count 2", Repaired: true,
	}
	if !slices.Contains(report.Differences, want) {
		t.Errorf("%+v lacks %+v", report.Differences, want)
	}
}

// Which of two rows is wrong, only a person can tell.
func TestRepairLeavesAloneWhatTheLedgerDoesNotProve(t *testing.T) {
	w := newWorld(t)
	w.everyKind()
	w.elsewhere(`UPDATE runs SET deny_reason = NULL; UPDATE workspaces SET running_runs = 8`)
	report := w.verify(verify.Options{Repair: true})
	if report.Clean() || report.Repaired != 1 || w.number(`SELECT running_runs FROM workspaces`) != 1 {
		t.Errorf("%+v", report)
	}
}

func TestBooksOutliveTheirLedger(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.everyKind()
	old := w.start(ws, "v") // stays RUNNING, and is kept
	w.Advance(100 * 24 * time.Hour)
	w.everyKind()
	if n, err := w.Expire(t.Context()); err != nil || n != 2 {
		t.Fatalf("%d runs expired, %v", n, err)
	}
	w.mustVerify()
	// What is left still proves a lower bound, and what came later everything.
	w.elsewhere(`
		UPDATE workspace_days SET run_count = run_count + 1, spend_nanos = spend_nanos - 1;
		UPDATE user_days SET spend_nanos = spend_nanos - 1 WHERE spend_nanos > 0;
		UPDATE model_days SET spend_nanos = spend_nanos - 1`)
	lower := dateOf(dayOf(noon())).Format("2006-01-02")
	for _, d := range w.verify(verify.Options{}).Differences {
		if d.Check != "days agree" && strings.Contains(d.Row, lower) {
			t.Errorf("the day without a ledger: %+v", d)
		}
	}
	w.elsewhere(`
		UPDATE workspace_days SET run_count = run_count - 1, spend_nanos = spend_nanos + 1;
		UPDATE user_days SET spend_nanos = spend_nanos + 1 WHERE spend_nanos > 0;
		UPDATE model_days SET spend_nanos = spend_nanos + 1;
		UPDATE workspace_days SET run_count = 0 WHERE workspace_id = 1`)
	report := w.verify(verify.Options{})
	if !slices.ContainsFunc(report.Differences, func(d verify.Difference) bool { return d.ShouldBe == "run_count 2 or more" }) {
		t.Errorf("two runs of the day are left: %+v", report.Differences)
	}
	w.elsewhere(`UPDATE workspace_days SET run_count = 3 WHERE workspace_id = 1`)
	w.end(ws, old.ID, RunCompleted)
	w.mustVerify()
}

// Retention works in pieces, and a crash may come between two.
func TestBooksHoldBetweenTheDeletionOfARunsSteps(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	run := w.start(ws, "u")
	for range 250 { // pieces and segments may end together
		w.patch(ws, run.ID, w.step(ws, run.ID).ID, 500, 100)
		w.Advance(4 * time.Minute) // past midnight
	}
	w.end(ws, run.ID, RunCompleted)
	for range 250 {
		w.step(ws, run.ID) // denied: the run has ended
	}
	w.Advance(100 * 24 * time.Hour)
	pieces := 0
	for more := true; more; pieces++ {
		more = w.expirePiece(ws)
		w.mustVerify()
	}
	if pieces < 5 || w.number(`SELECT count(*) FROM steps`) != 0 {
		t.Errorf("%d pieces, %d steps are left", pieces, w.number(`SELECT count(*) FROM steps`))
	}
}

func TestDamagedFileIsReportedAndNothingElseIsBelieved(t *testing.T) {
	w := newWorld(t)
	w.everyKind()
	w.must(w.Close())
	content, err := os.ReadFile(w.path)
	w.must(err)
	for i := range content[4096*3 : 4096*6] {
		content[4096*3+i] ^= 0x5a
	}
	w.must(os.WriteFile(w.path, content, 0o600))
	report := w.verify(verify.Options{Repair: true})
	if report.Clean() || report.Differences[0].Check != "integrity" {
		t.Errorf("%+v", report)
	}
	if after, err := os.ReadFile(w.path); err != nil || string(after) != string(content) {
		t.Errorf("a damaged file was changed (%v)", err)
	}
}

func TestVerifyEndsWithItsContext(t *testing.T) {
	w := newWorld(t)
	w.everyKind()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.verification(ctx, verify.Options{Gentle: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("err %v", err)
	}
	opts := verify.Options{Migrations: embed.Migrations(), Gentle: true} // a file that is not there is not made
	if _, err := verify.File(t.Context(), w.path+"x", opts); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

// corruptions are ways to break the books of the test above, and who must notice.
func corruptions() []struct{ book, statement string } {
	// As if retention had been there: then the figures may be higher, not lower.
	const expired = `INSERT INTO expired_history SELECT id, 9e15, 99999 FROM workspaces; `
	const endpoint = `INSERT INTO endpoints (uuid, workspace_id, kind, label, address, events, created_at)
			SELECT x'00', min(id), 'ntfy', 'x', x'', -1, 0 FROM workspaces;
		INSERT INTO deliveries (endpoint_id, uuid, workspace_id, event, data, state, attempts)
			SELECT id, x'00', workspace_id, 16, '{}', 2, 1 FROM endpoints; `
	return []struct{ book, statement string }{
		{"workspaces", `UPDATE workspaces SET running_runs = 0`},
		{"workspaces", `UPDATE workspaces SET pending_reviews = 0`},
		{"policy_counters.used", `UPDATE policy_counters SET used = used + 1`},
		{"policy_counters.used", `UPDATE steps SET policies = NULL`},
		{"below zero", `UPDATE policy_counters SET used = -1`},
		{"policy_days.hit_count", `UPDATE policy_days SET hit_count = hit_count + 1`},
		{"policy_days.hit_count", `DELETE FROM policy_days`},
		{"reviews", `UPDATE steps SET status = 1 WHERE status = 6`},
		{"reviews", `UPDATE reviews SET resolution = 2 WHERE resolution = 1`},
		{"reviews", `UPDATE reviews SET decided_at = NULL`},
		{"reviews", `UPDATE grants SET used = uses + 1`},
		{"orphans", `UPDATE steps SET policies = '[[999,1]]'`},
		{"orphans", `UPDATE runs SET policies = '[[999,1]]'`},
		{"orphans", `UPDATE steps SET policies = '[[1,1'`},
		{"orphans", `UPDATE runs SET policies = '[[1,1'`},
		{"orphans", `UPDATE reviews SET segment = segment + 1`},
		{"workspaces", `UPDATE runs SET status = 2, ended_at = 1, ended_by = 1 WHERE status = 1`},
		{"runs", `UPDATE runs SET step_count = step_count - 1 WHERE step_count > 0`},
		{"runs", `UPDATE runs SET blocked_step_count = 0`},
		{"runs", `UPDATE runs SET prompt_tokens = 501 WHERE prompt_tokens = 500`},
		{"runs", `UPDATE runs SET completion_tokens = 99 WHERE completion_tokens = 100`},
		{"runs", `UPDATE runs SET spend_nanos = spend_nanos + 1 WHERE spend_nanos > 0`},
		{"runs", `DELETE FROM steps WHERE status = 1 AND run_id IN (SELECT id FROM runs WHERE status <> 1)`},
		{"users.run_count", `UPDATE users SET run_count = 3`},
		{"workspace_days", `UPDATE workspace_days SET spend_nanos = spend_nanos - 1`},
		{"workspace_days", `UPDATE workspace_days SET prompt_tokens = 0`},
		{"workspace_days", `UPDATE workspace_days SET spend_nanos = spend_nanos + 1 WHERE day > 1000000`},
		{"tag_days", `DELETE FROM tag_days WHERE day > 1000000`},
		{"user_days", `UPDATE user_days SET run_count = 0 WHERE day > 1000000`},
		{"local_day", `UPDATE steps SET local_day = local_day + 2 WHERE local_day IS NOT NULL`},
		{"local_day", `UPDATE steps SET booked_day = NULL WHERE local_day IS NOT NULL`},
		{"local_day", `UPDATE runs SET local_day = local_day - 2 WHERE local_day IS NOT NULL`},
		{"workspace_days", `UPDATE workspace_days SET completion_tokens = 0`},
		{"workspace_days", `UPDATE workspace_days SET run_count = 30`},
		{"workspace_days", `UPDATE workspace_days SET blocked_run_count = 0`},
		{"workspace_days", `UPDATE workspace_days SET day = day + 1`},
		{"workspace_days", `DELETE FROM workspace_days`},
		{"workspace_days", `INSERT INTO workspace_days VALUES (1, 1, 1, 0, 0, 0, 0, 0, 0, 0)`},
		{"workspace_days", `UPDATE workspace_days SET unpriced_tokens = 12`},
		{"workspace_days", `UPDATE workspace_days SET unpriced_steps = 2`},
		{"workspace_days", `UPDATE workspace_days SET calls_without_usage = 0`},
		{"workspace_days", `UPDATE steps SET completed_at = completed_at + 86400000 WHERE prompt_tokens = 0`},
		{"spend_minutes.spend_nanos", `UPDATE spend_minutes SET spend_nanos = spend_nanos + 1`},
		{"spend_minutes.spend_nanos", `DELETE FROM spend_minutes`},
		{"spend_minutes.spend_nanos", `UPDATE steps SET completed_at = completed_at + 60000 WHERE cost_nanos > 0`},
		{"spend_minutes: top run", `UPDATE spend_minutes SET top_nanos = 1`},
		{"spend_quarter_hours.spend_nanos", `INSERT INTO spend_quarter_hours VALUES (1, 1960000, 1)`},
		{"spend_quarter_hours.spend_nanos", `UPDATE workspaces SET minutes_from = 99999999`},
		{"runs: burn", `UPDATE runs SET burn_nanos = burn_nanos + 1`},
		{"runs: burn", `UPDATE runs SET burn_before_nanos = 1`},
		{"runs: burn", `UPDATE runs SET burn_minute = burn_minute - 1`},
		{"user_days", `UPDATE user_days SET unpriced_tokens = unpriced_tokens + 1`},
		{"model_days", `UPDATE model_days SET unpriced_steps = 0`},
		{"model_days", `UPDATE model_days SET calls_without_usage = 2`},
		{"runs", `UPDATE runs SET unpriced_tokens = 0`},
		{"runs", `UPDATE runs SET calls_without_usage = 0`},
		{"user_days", `UPDATE user_days SET spend_nanos = 0`},
		{"user_days", `UPDATE user_days SET run_count = 1`},
		{"model_days", `UPDATE model_days SET spend_nanos = 0`},
		{"model_days", `UPDATE model_days SET prompt_tokens = 0`},
		{"model_days", `UPDATE model_days SET completion_tokens = 0`},
		{"model_days", `UPDATE model_days SET unpriced_tokens = 600`},
		{"model_days", `DELETE FROM model_days`},
		{"denial_days.denial_count", `UPDATE denial_days SET denial_count = denial_count + 1`},
		{"denial_days.denial_count", `UPDATE denial_days SET day = day - 1`},
		{"denial_days.denial_count", `DELETE FROM denial_days`},
		{"denial_days.denial_count", `INSERT INTO denial_days VALUES (1, 1, 2, 1)`},
		{"denial_days.denial_count", `DELETE FROM denials WHERE octet_length(step_uuid) > 0`},
		{"denial_days.denial_count", expired + `UPDATE denial_days SET denial_count = denial_count - 1`},
		{"denials", `DELETE FROM denials WHERE octet_length(step_uuid) = 0`},
		{"denials", `DELETE FROM denials WHERE octet_length(step_uuid) > 0`},
		{"denials", `INSERT INTO denials SELECT run_id, uuid, 2, 0, 0, NULL, NULL, NULL FROM steps WHERE status = 2`},
		{"denials", `INSERT INTO denials SELECT id, x'', 2, 0, 0, NULL, NULL, NULL FROM runs WHERE status = 2`},
		{"denials: contents", `UPDATE denials SET reason = 1`},
		{"denials: contents", `UPDATE denials SET reason = 7 WHERE octet_length(step_uuid) > 0`},
		{"denials: contents", `UPDATE denials SET reason = 4, limit_value = 2, used_value = 1, resets_at = 1`},
		{"denials: contents", `UPDATE denials SET reason = 4`},
		{"runs.deny_reason", `UPDATE runs SET deny_reason = NULL`},
		{"runs.deny_reason", `UPDATE runs SET deny_reason = 4`},
		{"runs: ends", `UPDATE runs SET ended_at = NULL`},
		{"runs: ends", `UPDATE runs SET ended_by = NULL`},
		{"runs: ends", `UPDATE runs SET status = 5 WHERE status = 1`},
		{"steps: of a denied run", `UPDATE runs SET status = 4, ended_by = NULL WHERE status = 2`},
		{"steps: completion", `UPDATE steps SET completed_at = 1`},
		{"steps: completion", `UPDATE steps SET completed_at = NULL`},
		{"steps: usage", `UPDATE steps SET cost_nanos = NULL`},
		{"steps: usage", `UPDATE steps SET booked_day = NULL`},
		{"steps: usage", `UPDATE steps SET completion_tokens = NULL`},
		{"steps: usage", `UPDATE steps SET output_picos = NULL`},
		{"steps: usage", `UPDATE steps SET status = 4`},
		{"steps.cost_nanos", `UPDATE steps SET cost_nanos = cost_nanos + 1`},
		{"steps.cost_nanos", `UPDATE steps SET input_picos = input_picos + 1`},
		{"steps.cost_nanos", `UPDATE price_points SET call_nanos = 1`},
		{"steps.price_id", `DELETE FROM price_points`},
		{"steps.price_id", `UPDATE price_points SET workspace_id = 0`},
		{"steps.price_id", `UPDATE steps SET price_id = 1 WHERE input_picos IS NULL`},
		{"price_points", `UPDATE price_points SET source = 4`},
		{"price_points", `UPDATE price_points SET call_nanos = -1`},
		{"price_points", `UPDATE price_points SET version = 'x' WHERE source = 1; UPDATE price_points SET source = 3`},
		{"models: prices", `UPDATE models SET same_as = 'x' WHERE name = 'gpt-4o'`},
		{"models: prices", `UPDATE models SET output_picos = NULL`},
		{"models: prices", `UPDATE models SET is_active = 1, same_as = NULL, input_picos = NULL, output_picos = NULL`},
		{"steps.cost_nanos", `DELETE FROM capped_steps`},
		{"step_usage", `UPDATE step_usage SET cached_tokens = 701 WHERE cached_tokens = 500`},
		{"step_usage", `UPDATE step_usage SET cache_write_1h_tokens = 201 WHERE cached_tokens = 500`},
		{"step_usage", `UPDATE step_usage SET reasoning_tokens = 301 WHERE cached_tokens = 500`},
		{"step_usage", `UPDATE step_usage SET service_tier = 6`},
		{"step_usage", `UPDATE step_usage SET reported_nanos = -1 WHERE reported_nanos IS NULL`},
		{"steps.cost_nanos", `UPDATE step_usage SET cached_tokens = 499 WHERE cached_tokens = 500`},
		{"steps.cost_nanos", `UPDATE step_usage SET cache_write_1h_picos = 4000000 WHERE cached_tokens = 500`},
		{"steps.cost_nanos", `UPDATE step_usage SET reasoning_tokens = 99 WHERE cached_tokens = 500`},
		{"steps.cost_nanos", `UPDATE price_points SET call_nanos = call_nanos + 1 WHERE call_nanos > 0`},
		{"steps: usage", `UPDATE step_usage SET reported_nanos = reported_nanos + 1`},
		{"steps: usage", `DELETE FROM step_usage WHERE reported_nanos IS NOT NULL`},
		{"models: prices", `UPDATE models SET rates = ''`},
		{"orphans", `UPDATE step_usage SET segment = segment + 1`},
		{"capped_steps", `UPDATE capped_steps SET prompt_tokens = 100`},
		{"capped_steps", `UPDATE capped_steps SET completion_tokens = -1`},
		{"capped_steps", `INSERT INTO capped_steps SELECT run_id, uuid, prompt_tokens, completion_tokens FROM steps WHERE cost_nanos = 0`},
		{"orphans", `UPDATE capped_steps SET step_uuid = x'00'`},
		{"days agree", `UPDATE workspace_days SET unpriced_tokens = 0`},
		{"days agree", `UPDATE workspace_days SET unpriced_steps = 0`},
		{"days agree", `UPDATE user_days SET unpriced_tokens = 12 WHERE unpriced_tokens > 0`},
		{"below zero", `UPDATE workspace_days SET unpriced_steps = -1`},
		{"below zero", `UPDATE runs SET calls_without_usage = -1`},
		{"below zero", `UPDATE workspace_days SET blocked_run_count = -1`},
		{"below zero", `UPDATE steps SET duration_ms = -1`},
		{"days agree", expired + `UPDATE workspace_days SET spend_nanos = spend_nanos + 1`},
		{"days agree", expired + `DELETE FROM user_days`},
		{"days agree", expired + `UPDATE model_days SET prompt_tokens = prompt_tokens + 1`},
		{"workspace_days", expired + `UPDATE workspace_days SET run_count = run_count - 1`},
		{"runs", expired + `UPDATE runs SET step_count = step_count - 1 WHERE status = 2`},
		{"users.run_count", expired + `UPDATE users SET run_count = run_count + 1`},
		{"tag_days", `UPDATE tag_days SET spend_nanos = spend_nanos + 1`},
		{"tag_days", `UPDATE tag_days SET run_count = 0`},
		{"tag_days", `DELETE FROM tag_days`},
		{"tag_days", `UPDATE run_tags SET value = 'another'`},
		{"orphans", `UPDATE run_tags SET run_uuid = x'00'`},
		{"orphans", `INSERT INTO run_terms VALUES (0, 1, 'x', 1, x'00')`},
		{"users.erased_at", `UPDATE users SET erased_at = 1`},
		{"run_segments", `DELETE FROM run_segments`},
		{"run_segments", `UPDATE steps SET segment = segment + 1 WHERE status = 4`},
		{"run_segments", `UPDATE steps SET segment = -7 WHERE status = 2`},
		{"run_segments", `UPDATE steps SET segment = 9223372036854775807 WHERE status = 2`},
		{"run_segments", `INSERT INTO run_segments SELECT id, 1000 FROM runs`},
		{"run_segments", `INSERT INTO steps SELECT 77, run_id, uuid, sequence, type, status, created_at, model_id, tool_name, completed_at,
			duration_ms, booked_day, prompt_tokens, completion_tokens, input_picos, output_picos, cost_nanos, price_id, local_day,
			input_payload, report_payload, policies FROM steps;
			INSERT INTO run_segments SELECT DISTINCT run_id, 77 FROM steps`},
		{"orphans", `DELETE FROM runs`},
		{"users.erased_at", `UPDATE users SET erased_at = 1; INSERT INTO run_metadata SELECT id, '{}' FROM runs WHERE true ON CONFLICT (run_id) DO NOTHING`},
		{"orphans", `DELETE FROM models`},
		{"orphans", `UPDATE users SET workspace_id = 0`},
		{"orphans", `INSERT INTO step_payloads (run_id, step_uuid) VALUES (1, x'01')`},
		{"orphans", `DELETE FROM payload_blocks`},
		{"orphans", `UPDATE steps SET report_payload = 256000000 WHERE report_payload IS NULL`},
		{"payload_blocks.payloads", `UPDATE payload_blocks SET payloads = payloads + 1`},
		{"payload_blocks.payloads", `UPDATE steps SET input_payload = NULL`},
		{"payload_blocks.payloads", `INSERT INTO dropped_payloads SELECT workspace_id, number * 256 + 255 FROM payload_blocks`},
		{"orphans", `INSERT INTO dropped_payloads VALUES (1, 256000000)`},
		{"payload_blocks.payloads", `INSERT INTO payload_blocks SELECT workspace_id, number + 1000, 1, data FROM payload_blocks`},
		{"users.erased_at", `UPDATE runs SET title = NULL; DELETE FROM run_metadata; DELETE FROM run_tags; UPDATE users SET erased_at = 1`},
		{"orphans", `INSERT INTO run_metadata VALUES (0, '{}')`},
		{"orphans", `INSERT INTO idempotency_keys VALUES (1, 100, 'k', x'', x'', 0)`},
		{"below zero", `UPDATE denial_days SET denial_count = -1`},
		{"api_keys: first", `UPDATE api_keys SET revoked_at = 1`},
		{"api_keys: first", `UPDATE api_keys SET expires_at = 1`},
		{"api_keys: first", `UPDATE api_keys SET scope = 'admin'`},
		{"api_keys: scope", `UPDATE api_keys SET scope = 'owner'`},
		{"key_days", `UPDATE key_days SET run_count = run_count + 1`},
		{"key_days", `UPDATE key_days SET blocked_run_count = blocked_run_count + 1`},
		{"key_days", `UPDATE key_days SET spend_nanos = spend_nanos - 1`},
		{"key_days", `UPDATE key_days SET completion_tokens = 0`},
		{"key_days", `DELETE FROM key_days`},
		{"key_days", `UPDATE runs SET key_id = NULL`},
		{"below zero", `UPDATE key_days SET prompt_tokens = -1`},
		{"days agree", expired + `UPDATE key_days SET run_count = run_count + 10`},
		{"orphans", `UPDATE runs SET key_id = 77`},
		{"orphans", `INSERT INTO key_days VALUES (1, 1, 77, 0, 0, 0, 0, 0)`},
		{"workspaces: beyond the plan", `UPDATE workspaces SET plan = 'basic'`},
		{"workspaces: beyond the plan", `UPDATE workspaces SET plan = 'pro', kill_switch = 1`},
		{"endpoints", endpoint + `UPDATE endpoints SET off_at = 1`},
		{"endpoints", endpoint + `UPDATE endpoints SET off_reason = 'GONE'`},
		{"endpoints", endpoint + `UPDATE endpoints SET kind = 'webhook'`},
		{"endpoints", endpoint + `UPDATE endpoints SET old_secret = x'00', old_secret_until = 1`},
		{"deliveries", endpoint + `UPDATE deliveries SET state = 1`},
		{"deliveries", endpoint + `UPDATE deliveries SET due_at = 1`},
		{"deliveries", endpoint + `UPDATE deliveries SET state = 5`},
		{"orphans", endpoint + `UPDATE endpoints SET workspace_id = 77`},
		{"users.erased_at", endpoint + `UPDATE deliveries SET user_id = 1; UPDATE users SET erased_at = 1`},
		{"plan_changes", `UPDATE workspaces SET plan = 'pro'`},
		{"plan_changes", `INSERT INTO plan_changes SELECT 99999, id, 0, 'pro', plan, 2, NULL, 0, NULL, NULL FROM workspaces`},
	}
}

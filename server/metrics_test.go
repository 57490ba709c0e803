package server_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// scrape reads /metrics.
func (w *world) scrape() string {
	w.t.Helper()
	ts := httptest.NewServer(w.server.MetricsHandler())
	defer ts.Close()
	resp, err := http.Get(ts.URL + "/metrics")
	w.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	w.must(err)
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("scraping answered %d %s", resp.StatusCode, text)
	}
	return string(text)
}

// metric is the value of one series, as Prometheus writes its name and labels.
func (w *world) metric(series string) float64 {
	w.t.Helper()
	text := w.scrape()
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			w.must(err)
			return f
		}
	}
	w.t.Fatalf("no %s in\n%s", series, text)
	return 0
}

func TestMetricsCountDecisionsByOutcomeAndReason(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	const series = `pikarc_decisions_total{kind="%s",outcome="%s",reason="%s"}`
	run := w.start(a, "someone")
	w.step(a, run, "gpt-4o")
	w.step(a, run, "gpt-4o")
	w.call("POST", "/v1/runs/"+run+"/heartbeat", a.key, nil).want(http.StatusOK)
	w.call("POST", "/v1/workspace/kill-switch", a.token, map[string]bool{"active": true}).want(http.StatusOK)
	for range 2 { // the second one repeats the first answer, and decides nothing
		w.call("POST", "/v1/runs/", a.key, map[string]string{"user_id": "u"}, "Idempotency-Key", "k").want(http.StatusCreated)
	}
	w.call("POST", "/v1/runs/", a.key, map[string]int{"user_id": 7}).want(http.StatusUnprocessableEntity)
	for _, c := range []struct {
		kind, outcome, reason string
		want                  float64
	}{
		{"start", "ALLOW", "", 1}, {"start", "DENY", "KILL_SWITCH_ACTIVE", 1}, {"start", "DENY", "USER_BLOCKED", 0},
		{"step", "ALLOW", "", 2}, {"step", "DENY", "RUN_ALREADY_ENDED", 0}, {"heartbeat", "ALLOW", "", 1},
	} {
		if got := w.metric(fmt.Sprintf(series, c.kind, c.outcome, c.reason)); got != c.want {
			t.Errorf("%+v: %v are counted", c, got)
		}
	}
	requests := func(status string) float64 {
		return w.metric(`pikarc_http_requests_total{method="POST",route="/v1/runs/",status="` + status + `"}`)
	}
	if requests("2xx") != 3 || requests("4xx") != 1 || requests("5xx") != 0 {
		t.Errorf("starts: %v done, %v refused, %v failed; want 3, 1 and 0", requests("2xx"), requests("4xx"), requests("5xx"))
	}
	if n := w.metric(`pikarc_http_request_seconds_count{method="POST",route="/v1/runs/"}`); n != 4 {
		t.Errorf("%v starts were timed, want 4", n)
	}
	if n := w.metric("pikarc_writer_batch_writes_sum"); n < 7 {
		t.Errorf("%v writes are counted", n)
	}
}

// What callers send never becomes a label: a scanner would fill the memory.
func TestMetricsHaveTheSameSeriesWhateverCallersSend(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	names := func() string {
		return regexp.MustCompile(`(?m) \S+$|^(go|process)_.*\n`).ReplaceAllString(w.scrape(), "")
	}
	before := names()
	for i := range 20 {
		user := fmt.Sprintf("user-%d", i)
		run := w.start(a, user)
		w.step(a, run, "model-"+user)
		w.call("POST", "/v1/runs/"+run+"/end", a.key, map[string]string{"status": "COMPLETED"}).want(http.StatusOK)
		w.call("GET", "/no/"+user, "", nil).want(http.StatusNotFound)
		w.call("DELETE", "/v1/runs/"+run, a.key, nil).want(http.StatusMethodNotAllowed)
	}
	after := names()
	if after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if strings.Contains(after, "user-1") || strings.Count(before, "\n") > 2400 {
		t.Errorf("%d lines", strings.Count(before, "\n"))
	}
}

// An alert on a job that has not run yet, or that a setting turns on later, must find a series.
func TestEveryJobHasItsSeriesBeforeItsFirstRound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	jobs := []string{"end_idle_runs", "delete_expired_runs", "erase_users", "expire_reviews", "shrink_file", "end_unpaid_plans", "repair_customers", "verify", "backup", "record_key_use", "index_runs", "fold_minutes", "check_alerts"}
	if diff := cmp.Diff(jobs, server.Jobs()); diff != "" {
		t.Errorf("name a new job here, in metrics.md and in alerts.yml: %s", diff)
	}
	described, err := os.ReadFile("../docs/ops/metrics.md")
	w.must(err)
	for _, job := range jobs {
		for _, series := range []string{
			`pikarc_job_runs_total{job_name="%s",outcome="success"}`, `pikarc_job_runs_total{job_name="%s",outcome="failure"}`,
			`pikarc_job_last_success_timestamp_seconds{job_name="%s"}`, `pikarc_job_last_seconds{job_name="%s"}`,
			`pikarc_job_handled_total{job_name="%s"}`, `pikarc_job_enabled{job_name="%s"}`,
		} {
			if got := w.metric(fmt.Sprintf(series, job)); got != 0 {
				t.Errorf("%s %s is %v before its first round", series, job, got)
			}
		}
		if !strings.Contains(string(described), "`"+job+"`") {
			t.Errorf("metrics.md does not name %s", job)
		}
	}
}

// An alert on a job that this server does not do would never end.
func TestJobsThatSettingsLeaveOutAreNotEnabled(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*server.Config)
		not    []string
	}{
		"the least": {
			func(cfg *server.Config) { cfg.VerifyEvery = 0 },
			[]string{"end_unpaid_plans", "repair_customers", "verify", "backup"},
		},
		"with verifications": {
			func(cfg *server.Config) { cfg.VerifyEvery = time.Hour },
			[]string{"end_unpaid_plans", "repair_customers", "backup"},
		},
		"with backups": {
			func(cfg *server.Config) {
				cfg.VerifyEvery, cfg.Backups = time.Hour, server.Backups{Dir: t.TempDir(), Every: time.Hour, Keep: 1}
			},
			[]string{"end_unpaid_plans", "repair_customers"},
		},
	} {
		w := newWorld(t, c.change)
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		w.must(err)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		w.must(w.server.Serve(ctx, ln))
		var not []string
		for _, job := range server.Jobs() {
			if w.metric(fmt.Sprintf(`pikarc_job_enabled{job_name="%s"}`, job)) == 0 {
				not = append(not, job)
			}
		}
		if diff := cmp.Diff(c.not, not); diff != "" {
			t.Errorf("%s: jobs that are not enabled: %s", name, diff)
		}
	}
}

// Prometheus gives these names to where it scrapes, and renames ours: a rule
// that asks for job="backup" would stay silent for ever.
func TestNoMetricTakesALabelOfPrometheus(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if taken := regexp.MustCompile(`(?m)^.*[{,](job|instance)=.*$`).FindAllString(w.scrape(), -1); len(taken) > 0 {
		t.Errorf("%q", taken)
	}
	rules, err := os.ReadFile("../docs/ops/alerts.yml")
	w.must(err)
	for _, found := range regexp.MustCompile(`job="([^"]*)"`).FindAllStringSubmatch(string(rules), -1) {
		if found[1] != "pikarc" {
			t.Errorf("alerts.yml asks for the scrape job %q", found[1])
		}
	}
}

func TestMetricsFollowPrometheusConventions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	problems, err := promlint.New(strings.NewReader(w.scrape())).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "pikarc_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

func TestMetricsTellWhatTheStoreHolds(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, storage.Options{QueueSize: 77})
	w.account(plans.Scale)
	for series, least := range map[string]float64{
		"pikarc_writer_queue_capacity": 77, "pikarc_writer_queue_depth": 0, "pikarc_writer_commit_seconds_count": 1,
		"pikarc_database_file_bytes": 4096, "pikarc_database_free_bytes": 0, "pikarc_database_expiring_bytes": 0, "pikarc_database_wal_bytes": 1, "pikarc_writer_refused_total": 0,
		"pikarc_writer_lock_seconds_count": 1, "pikarc_cache_outdated_total": 0, "pikarc_postgres_round_trips_total": 0,
		"pikarc_postgres_reconnects_total": 0,
	} {
		if got := w.metric(series); got < least {
			t.Errorf("%s is %v, want %v or more", series, got, least)
		}
	}
}

// A dashboard or an alert on a metric that does not exist stays silent for ever.
func TestDashboardAndAlertsNameOnlyMetricsThatExist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := w.scrape()
	for _, file := range []string{"grafana.json", "alerts.yml", "metrics.md"} {
		content, err := os.ReadFile("../docs/ops/" + file)
		w.must(err)
		named := regexp.MustCompile(`\b(pikarc|go|process)_[a-z_]+[a-z]`).FindAllString(string(content), -1)
		if len(named) < 10 {
			t.Errorf("%s names only %v", file, named)
		}
		for _, name := range named {
			if !strings.Contains(text, "\n"+name+"{") && !strings.Contains(text, "\n# TYPE "+name+" ") && !strings.Contains(text, "\n"+name+" ") {
				t.Errorf("%s names %s, which does not exist", file, name)
			}
		}
	}
	described, err := os.ReadFile("../docs/ops/metrics.md")
	w.must(err)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (pikarc_\S+)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(string(described), m[1]) {
			t.Errorf("metrics.md does not describe %s", m[1])
		}
	}
}

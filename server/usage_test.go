package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
)

func TestUsageAddsUpByDayModelAndUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("PUT", "/v1/model-pricing/cheap", a.token, `{"input_cost_per_token":0.1,"output_cost_per_token":0}`).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/dear", a.token, `{"input_cost_per_token":0,"output_cost_per_token":2}`).want(http.StatusOK)
	today := w.clock.now()
	for _, use := range []struct {
		daysAgo    int
		user       string
		model      string
		prompt     int
		completion int
	}{
		{30, "ada", "dear", 0, 100}, // the 31st day: in no figure
		{29, "ada", "cheap", 10, 1}, // $1, in October
		{7, "bob", "dear", 1, 2},    // $4, in the 30 days only
		{6, "bob", "cheap", 5, 0},   // $0.5
		{0, "ada", "dear", 3, 1},    // $2
		{0, "cleo", "free", 7, 7},   // no price
	} {
		w.clock.set(today.AddDate(0, 0, -use.daysAgo))
		run := w.start(a, use.user)
		w.call("PATCH", w.step(a, run, use.model), a.key,
			fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d}`, use.prompt, use.completion)).want(http.StatusOK)
		w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
	}
	w.clock.set(today)
	w.call("PUT", "/v1/blocked-users/ada", a.token, nil).want(http.StatusOK)
	w.call("POST", "/v1/runs", a.key, `{"user_id":"ada"}`).want(http.StatusCreated)
	const gaps14 = `"unpriced_tokens":14,"unpriced_step_count":1,"calls_without_usage":0,"capped":false`
	usage := `{"today":{"total_usd":2,"total_tokens":18,"run_count":2,"denial_count":1,` + gaps14 + `},"last_7_days":{"total_usd":2.5,"total_tokens":23,"run_count":3,"denial_count":1,` + gaps14 + `},` +
		`"last_30_days":{"total_usd":7.5,"total_tokens":37,"run_count":5,"denial_count":1,` + gaps14 + `},"running_runs":0,` +
		`"by_reason":[{"reason":"USER_BLOCKED","today":1,"last_7_days":1,"last_30_days":1}],"by_model":[` +
		`{"model":"dear","total_usd":6,"prompt_tokens":4,"completion_tokens":3,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0},` +
		`{"model":"cheap","total_usd":1.5,"prompt_tokens":15,"completion_tokens":1,"unpriced_tokens":0,"unpriced_step_count":0,"calls_without_usage":0},` +
		`{"model":"free","total_usd":0,"prompt_tokens":7,"completion_tokens":7,"unpriced_tokens":14,"unpriced_step_count":1,"calls_without_usage":0}],"by_user":[{"user_id":"bob","total_usd":4.5,"run_count":2,"unpriced_tokens":0},` +
		`{"user_id":"ada","total_usd":3,"run_count":2,"unpriced_tokens":0},{"user_id":"cleo","total_usd":0,"run_count":1,"unpriced_tokens":14}],"monthly_run_count":4,"monthly_run_limit":1000}`
	before := w.call("GET", "/v1/usage/", a.token, nil).want(http.StatusOK)
	wantBody(t, before, usage)
	daily := w.call("GET", "/v1/usage/daily", a.token, nil).want(http.StatusOK)
	for place, want := range map[string]string{
		"items.0.date": "2026-10-25", "items.0.total_usd": "1", "items.22.total_usd": "4", "items.29.date": "2026-11-23",
		"items.29.run_count": "2", "items.29.blocked_run_count": "1", "items.29.completion_tokens": "8", "items.28.run_count": "0",
	} {
		if got := daily.text(place); got != want {
			t.Errorf("daily usage has %s %s, want %s", place, got, want)
		}
	}
	split := w.call("GET", "/v1/usage/daily?days=30&by=model", a.key, nil).want(http.StatusOK)
	for place, want := range map[string]string{
		"items.0.by_model":      `[{"model":"dear","total_usd":0},{"model":"cheap","total_usd":1}]`,
		"items.28.by_model":     `[{"model":"dear","total_usd":0},{"model":"cheap","total_usd":0}]`,
		"items.29.by_model":     `[{"model":"dear","total_usd":2},{"model":"cheap","total_usd":0}]`,
		"items.29.denial_count": "1",
	} {
		if got := split.text(place); got != want {
			t.Errorf("daily usage by model has %s %s, want %s", place, got, want)
		}
	}
	for days, first := range map[string]string{"1": "2026-11-23", "31": "2026-10-24", "365": "2025-11-24"} {
		r := w.call("GET", "/v1/usage/daily?days="+days, a.key, nil).want(http.StatusOK)
		if list, _ := r.get("items").([]any); fmt.Sprint(len(list)) != days || r.text("items.0.date") != first {
			t.Errorf("%d days from %s, want %s from %s", len(list), r.text("items.0.date"), days, first)
		}
	}
	user := w.call("GET", "/v1/users?q=ada", a.key, nil).want(http.StatusOK)
	if user.text("items.0.today_usd") != "2" || user.text("items.0.last_30_days_usd") != "3" || user.text("items.0.run_count") != "3" {
		t.Errorf("ada is %s", user.body)
	}
	// Retention deletes the runs of the past, and not one figure.
	if _, err := w.store.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := names(w.call("GET", "/v1/runs", a.key, nil), "user_id"); len(got) != len("ada|ada|cleo") {
		t.Errorf("after retention there are runs of %s", got)
	}
	wantBody(t, w.call("GET", "/v1/usage/", a.token, nil), usage)
}

func TestTheMonthBeginsAtMidnightUTC(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.clock.set(time.Date(2026, 11, 30, 23, 59, 59, 999e6, time.UTC))
	w.start(a, "ada")
	month := func() string {
		return w.call("GET", "/v1/usage", a.key, nil).want(http.StatusOK).text("monthly_run_count")
	}
	if got := month(); got != "1" {
		t.Errorf("%s runs in November", got)
	}
	w.clock.advance(time.Millisecond)
	if got := month(); got != "0" {
		t.Errorf("%s runs in December", got)
	}
}

// Files are of what is shown, and no cell of a stranger's begins a formula.
// A workspace's usage is of its own days: dates stand for their start there, and the day on which
// the clocks go back has 25 hours.
func TestUsageIsOfTheWorkspacesDays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.call("PATCH", "/v1/workspace/", a.token, `{"timezone":"America/New_York"}`).want(http.StatusOK)
	w.call("PUT", "/v1/model-pricing/m", a.token, `{"input_cost_per_token":1,"output_cost_per_token":0}`).want(http.StatusOK)
	spend := func(at string, tokens int) {
		when, err := time.Parse(time.RFC3339, at)
		if err != nil {
			t.Fatal(err)
		}
		w.clock.set(when)
		run := w.start(a, "u")
		w.call("PATCH", w.step(a, run, "m"), a.key, fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":0}`, tokens)).
			want(http.StatusOK)
		w.call("POST", "/v1/runs/"+run+"/end", a.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
	}
	spend("2027-11-06T23:30:00-04:00", 1) // UTC's 7 November
	spend("2027-11-07T00:10:00-04:00", 2)
	spend("2027-11-07T23:50:00-05:00", 4)
	spend("2027-11-08T00:00:00-05:00", 8)
	path := "/v1/usage/by?group=model&by_day=true&by_hour=true&since=2027-11-06&until=2027-11-09&before_since=2027-11-05&before_until=2027-11-06"
	var got struct {
		Since, Until time.Time
		Days         []time.Time
		Timezone     string
		From         string `json:"timezone_since"`
		Total        struct {
			ByDay struct {
				Spend []float64 `json:"total_usd"`
			} `json:"by_day"`
		}
		ByHour struct {
			Hours []struct {
				At    time.Time
				Spend float64 `json:"total_usd"`
			}
		} `json:"by_hour"`
	}
	if err := json.Unmarshal(w.call("GET", path, a.key, nil).want(http.StatusOK).body, &got); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got.Total.ByDay.Spend) != "[1 6 8]" || got.Timezone != "America/New_York" || got.From != "2026-11-23" {
		t.Errorf("%+v", got)
	}
	if len(got.Days) != 3 || got.Days[2].Sub(got.Days[1]) != 25*time.Hour || !got.Until.Equal(got.Days[2].Add(day)) {
		t.Errorf("days begin at %v, until %v", got.Days, got.Until)
	}
	if hours := got.ByHour.Hours; len(hours) != 73 || hours[23].Spend != 1 || hours[24].Spend != 2 || hours[48].Spend != 4 || hours[49].Spend != 8 {
		t.Errorf("by the hour: %+v", hours)
	}
	csv := w.call("GET", path+"&format=csv", a.key, nil).want(http.StatusOK)
	if head := string(csv.body); !strings.Contains(head, ",2027-11-06_usd,2027-11-07_usd,2027-11-08_usd") {
		t.Errorf("%.200s", head)
	}
	for _, query := range []string{"since=2027-11-31", "since=2027-11-01&by_hour=true", "since=2026-11-06&until=2027-11-07"} {
		w.call("GET", "/v1/usage/by?group=model&"+query, a.key, nil).want(http.StatusUnprocessableEntity)
	}
	w.call("GET", "/v1/usage/by?group=model&since=2026-11-07&until=2027-11-07", a.key, nil).want(http.StatusOK)
}

func TestUsageFilesSayWhatIsShown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PUT", "/v1/model-pricing/m", a.token, `{"input_cost_per_token":0.000000001,"output_cost_per_token":0}`).want(http.StatusOK)
	for i, user := range []string{"=1+1", "acme/ä 🦊", "quiet"} {
		run := w.start(a, user)
		w.call("PATCH", w.step(a, run, "m"), a.key, fmt.Sprintf(`{"prompt_tokens":%d}`, 9-3*i)).want(http.StatusOK)
	}
	r := w.call("GET", "/v1/usage/by?group=user&limit=2&since=2026-11-23T00:00:00Z&by_day=true&format=csv"+
		"&before_since=2026-11-22T00:00:00Z&before_until=2026-11-23T00:00:00Z", a.key, nil).want(http.StatusOK)
	want := "row,value,total_usd,prompt_tokens,completion_tokens,run_count,blocked_run_count,before_usd,change_usd,2026-11-23_usd\r\n" +
		"item,'=1+1,0.000000009,,,1,,0,0.000000009,0.000000009\r\n" +
		"item,acme/ä 🦊,0.000000006,,,1,,0,0.000000006,0.000000006\r\n" +
		"other,,0.000000003,,,1,,0,0.000000003,0.000000003\r\n" +
		"total,,0.000000018,,,3,,0,0.000000018,0.000000018\r\n"
	if string(r.body) != want || r.header.Get("Content-Type") != "text/csv; charset=utf-8" ||
		r.header.Get("Content-Disposition") != `attachment; filename="pikarc-usage-2026-11-23-to-2026-11-23.csv"` {
		t.Errorf("%v\n%s", r.header, r.body)
	}
}

// A user's report has the rollups' figures, what the runs used by model, tool
// and tag, and the rules that count for this user.
func TestAUserIsReportedWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for name, price := range map[string]string{"m": "0.1", "n": "0.01"} {
		w.call("PUT", "/v1/model-pricing/"+name, a.token, `{"input_cost_per_token":`+price+`,"output_cost_per_token":0}`).want(http.StatusOK)
	}
	w.call("PUT", "/v1/policies/theirs", a.token, `{"limit":{"measure":"usd","per":"user","window":"day","amount":9},"effect":"log"}`).want(http.StatusOK)
	w.call("PUT", "/v1/policies/named", a.token, `{"match":{"users":["acme/*"]},"effect":"log"}`).want(http.StatusOK)
	w.call("PUT", "/v1/policies/others", a.token, `{"match":{"users":["globex/*"]},"effect":"log"}`).want(http.StatusOK)
	w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":100}`).want(http.StatusOK)
	const user = "acme/a b/../🦊"
	spend := func(user, tags string, models ...string) {
		run := w.call("POST", "/v1/runs", a.key, map[string]any{"user_id": user, "metadata": map[string]any{"tags": map[string]string{"agent": tags}}}).want(http.StatusCreated).text("id")
		for _, model := range models {
			w.call("PATCH", w.step(a, run, model), a.key, `{"prompt_tokens":10}`).want(http.StatusOK)
		}
	}
	spend(user, "billing", "m")
	w.clock.advance(18 * time.Hour) // over midnight
	spend(user, "billing", "m", "n")
	spend(user, "support", "n")
	spend("globex/b", "support", "m")
	w.call("POST", "/v1/blocked-users", a.token, map[string]string{"user_id": user}).want(http.StatusOK)
	w.call("POST", "/v1/runs", a.key, map[string]string{"user_id": user}).want(http.StatusCreated)
	r := w.call("GET", "/v1/usage/of-user?user_id="+url.QueryEscape(user)+"&since=2026-11-24T00:00:00Z"+
		"&before_since=2026-11-23T00:00:00Z&before_until=2026-11-24T00:00:00Z", a.key, nil).want(http.StatusOK)
	for place, want := range map[string]string{
		"user.user_id": user, "user.blocked": "true",
		"usage.total_usd": "1.2", "usage.before.total_usd": "1", "usage.run_count": "2", "usage.by_day.total_usd.0": "1.2",
		"total.total_usd": "2.2", "total.before.total_usd": "1",
		"runs.run_count": "3", "runs.blocked_count": "1", "runs.denied_run_count": "1", "runs.total_usd": "1.2", "runs.more": "false",
		"runs.parts.0.model": "m", "runs.parts.0.total_usd": "1", "runs.parts.1.model": "n", "runs.parts.1.total_usd": "0.2", "runs.parts.1.step_count": "2",
		"runs.tags.0.value": "billing", "runs.tags.0.total_usd": "1.1", "runs.tags.1.value": "support", "runs.tags.1.total_usd": "0.1",
		"policies.0.name": "named", "policies.1.name": "theirs", "policies.1.use.0.used": "1.2", "policies.1.use.0.scope": user,
	} {
		if got := r.text(place); got != want {
			t.Errorf("%s is %s, want %s", place, got, want)
		}
	}
	if n := len(r.get("policies").([]any)); n != 2 {
		t.Errorf("%d policies", n)
	}
	w.call("GET", "/v1/usage/of-user?user_id=nobody", a.key, nil).want(http.StatusNotFound)
	runs := w.call("GET", "/v1/runs?user_prefix=acme/", a.key, nil).want(http.StatusOK)
	if n := len(runs.get("items").([]any)); n != 4 {
		t.Errorf("%d runs of a prefix", n)
	}
}

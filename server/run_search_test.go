package server_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pikarc/server/plans"
)

// explored is a workspace with three runs: a refund of acme's by the agent
// billing, which failed; a dear and long one of jo's; and one that was denied.
func (w *world) explored() (a account, refund, dear, denied string) {
	w.t.Helper()
	a = w.account(plans.Scale)
	w.call("PUT", "/v1/model-pricing/gpt-4o", a.token, `{"input_cost_per_token":0.001,"output_cost_per_token":0.002}`).want(http.StatusOK)
	start := func(user, metadata string) string {
		body := fmt.Sprintf(`{"user_id":%q,"metadata":%s}`, user, metadata)
		return w.call("POST", "/v1/runs", a.key, body).want(http.StatusCreated).text("id")
	}
	step := func(run, body, update string) {
		id := w.call("POST", "/v1/runs/"+run+"/steps", a.key, body).want(http.StatusCreated).text("id")
		w.call("PATCH", "/v1/runs/"+run+"/steps/"+id, a.key, update).want(http.StatusOK)
	}
	refund = start("acme/maria", `{"title":"Refund the double charges","tags":{"agent":"billing","env":"live"}}`)
	step(refund, `{"type":"TOOL_CALL","sequence":1,"tool_name":"refund"}`, `{"status":"FAILED","error":"TimeoutError: fetch_statement"}`)
	w.call("POST", "/v1/runs/"+refund+"/end", a.key, `{"status":"FAILED"}`).want(http.StatusOK)
	w.clock.advance(time.Minute)
	dear = start("jo", `{"title":"=HYPERLINK(\"x\")","agent":"support"}`)
	step(dear, `{"type":"MODEL_CALL","sequence":1,"model":"gpt-4o"}`, `{"prompt_tokens":500,"completion_tokens":100}`)
	w.clock.advance(time.Hour)
	w.call("PUT", "/v1/blocked-users/bad", a.token, `{}`).want(http.StatusOK)
	denied = start("bad", `{"title":"nothing"}`)
	_, err := w.store.IndexRuns(w.t.Context())
	w.must(err)
	return a, refund, dear, denied
}

func (w *world) listed(a account, query string) (ids []string) {
	w.t.Helper()
	var list struct {
		Items []struct{ ID string }
	}
	r := w.call("GET", "/v1/runs?"+query, a.key, nil).want(http.StatusOK)
	w.must(json.Unmarshal(r.body, &list))
	for _, run := range list.Items {
		ids = append(ids, run.ID)
	}
	return ids
}

func TestEachFilterFindsItsRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, refund, dear, denied := w.explored()
	w.call("POST", "/v1/runs", w.account(plans.Scale).key, `{"user_id":"acme/maria","metadata":{"title":"Refund","agent":"billing"}}`).want(http.StatusCreated)
	for query, want := range map[string][]string{
		"":                                      {denied, dear, refund},
		"q=refund":                              {refund},
		"q=double+REF":                          {refund},
		"q=efund":                               nil,
		"q=acme":                                {refund},
		"q=timeouterror":                        {refund},
		"q=" + dear:                             {dear},
		"q=%20%20":                              {denied, dear, refund},
		"q=%3F%3F":                              nil,
		"q=%25":                                 nil,
		"q=refund*":                             {refund},
		"model=gpt-4o":                          {dear},
		"model=other&model=gpt-4o":              {dear},
		"tool=refund":                           {refund},
		"tag=agent:billing":                     {refund},
		"tag=agent:billing&tag=agent:support":   {dear, refund},
		"tag=agent:billing&tag=env:live":        {refund},
		"tag=agent:support&tag=env:live":        nil,
		"min_cost_usd=0.7":                      {dear},
		"min_cost_usd=0.700000001":              nil,
		"min_duration_ms=1000":                  {dear},
		"status=FAILED":                         {refund},
		"status=FAILED&q=refund":                {refund},
		"denied=true&sort=oldest":               {denied},
		"reason=USER_BLOCKED&q=nothing":         {denied},
		"user_id=jo&sort=cost":                  {dear},
		"sort=cost":                             {dear, denied, refund},
		"sort=oldest":                           {refund, dear, denied},
		"sort=duration":                         {dear, denied, refund},
		"sort=steps&since=2026-11-23T07:09:00Z": {dear, denied},
	} {
		if got := w.listed(a, query); !slices.Equal(got, want) {
			t.Errorf("?%s lists %v, want %v", query, got, want)
		}
		totals := w.call("GET", "/v1/run-totals?"+strings.ReplaceAll(query, "sort=", "x="), a.key, nil).want(http.StatusOK)
		if got := totals.get("run_count"); fmt.Sprint(got) != fmt.Sprint(len(want)) || totals.get("at_least") != false {
			t.Errorf("?%s: %v runs, want %d", query, got, len(want))
		}
		export := w.call("GET", "/v1/export-runs?format=jsonl&"+query, a.key, nil).want(http.StatusOK)
		if got := strings.Count(string(export.body), "\n"); got != len(want) {
			t.Errorf("?%s: %d lines, want %d", query, got, len(want))
		}
	}
}

// A chart's pieces keep to the days of the workspace's zone; where none is
// asked for, they begin with the first run.
func TestTotalsKeepToTheDaysOfTheZone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PATCH", "/v1/workspace", a.token, `{"timezone":"Asia/Kathmandu"}`).want(http.StatusOK) // a day begins at 18:15 UTC
	for _, wait := range []time.Duration{0, 11 * time.Hour, 10 * time.Minute} {
		w.clock.advance(wait)
		w.call("POST", "/v1/runs", a.key, `{"user_id":"u"}`).want(http.StatusCreated)
	}
	type answer struct {
		Minutes *int64    `json:"bucket_minutes"`
		Since   time.Time `json:"since"`
		ByTime  []struct {
			Since time.Time `json:"since"`
			Runs  int64     `json:"run_count"`
		} `json:"by_time"`
	}
	read := func(query string) (out answer) {
		w.must(json.Unmarshal(w.call("GET", "/v1/run-totals?"+query, a.key, nil).want(http.StatusOK).body, &out))
		return out
	}
	days := read("since=2026-11-20T00:00:00Z&bucket_minutes=1440")
	if got := fmt.Sprint(days.ByTime); got != "[{2026-11-22 18:15:00 +0000 UTC 2} {2026-11-23 18:15:00 +0000 UTC 1}]" {
		t.Errorf("days %s", got)
	}
	all := read("buckets=100")
	if all.Minutes == nil || *all.Minutes != 15 || all.Since.Format(time.TimeOnly) != "07:08:29" || len(all.ByTime) != 3 {
		t.Errorf("%+v", all)
	}
	if none := read("buckets=100&since=2026-11-24T00:00:00Z"); none.Minutes != nil || !none.Since.IsZero() || none.ByTime == nil {
		t.Errorf("%+v", none)
	}
}

func TestHostileSearchesAreRefusedOrFindNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, _, _, _ := w.explored()
	for query, status := range map[string]int{
		"q=%00":                               http.StatusUnprocessableEntity,
		"q=%ff":                               http.StatusUnprocessableEntity,
		"q=" + strings.Repeat("a", 201):       http.StatusUnprocessableEntity,
		"q=" + strings.Repeat("a+", 99):       http.StatusOK,
		"q=%27%3B+DROP+TABLE+runs--":          http.StatusOK,
		"q=%F0%9F%A6%8A":                      http.StatusOK,
		"tag=agent":                           http.StatusUnprocessableEntity,
		"tag=:billing":                        http.StatusUnprocessableEntity,
		"tag=a:%00":                           http.StatusUnprocessableEntity,
		strings.Repeat("tag=a:b&", 11):        http.StatusUnprocessableEntity,
		strings.Repeat("model=m&", 11):        http.StatusUnprocessableEntity,
		"model=":                              http.StatusUnprocessableEntity,
		"min_cost_usd=-1":                     http.StatusUnprocessableEntity,
		"min_cost_usd=NaN":                    http.StatusUnprocessableEntity,
		"min_cost_usd=1e999":                  http.StatusUnprocessableEntity,
		"min_duration_ms=-1":                  http.StatusUnprocessableEntity,
		"min_duration_ms=9999999999999999999": http.StatusUnprocessableEntity,
		"sort=price":                          http.StatusUnprocessableEntity,
		"sort=last_call&status=RUNNING&q=x":   http.StatusUnprocessableEntity,
		"since=2026-11-24T00:00:00Z&until=2026-11-23T00:00:00Z&q=refund": http.StatusOK,
	} {
		w.call("GET", "/v1/runs?"+query, a.key, nil).want(status)
	}
	// A megabyte is more than a request's header may have: that is refused by net/http, and nothing breaks.
	r, err := w.client.Get(w.url + "/v1/runs?q=" + strings.Repeat("a", 2<<20))
	if err == nil {
		_ = r.Body.Close()
		if r.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a megabyte answered %d", r.StatusCode)
		}
	}
	next := w.call("GET", "/v1/runs?sort=cost&limit=1", a.key, nil).want(http.StatusOK).text("next_cursor")
	for _, query := range []string{"", "sort=steps", "sort=cost&q=refund", "sort=cost&tag=agent:billing", "sort=cost&status=FAILED"} {
		w.call("GET", "/v1/runs?limit=1&cursor="+next+"&"+query, a.key, nil).want(http.StatusUnprocessableEntity)
	}
	w.call("GET", "/v1/runs?sort=cost&limit=1&cursor="+next, a.key, nil).want(http.StatusOK)
	if got := w.listed(a, "q=refund"); len(got) != 1 {
		t.Errorf("then it finds %v", got)
	}
}

// Whatever people and agents write, no cell begins a formula, and a program
// reads the same text but for the apostrophe.
func TestNoCellOfACSVIsAFormula(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	hostile := []string{
		"=1+1", "+1", "-1", "@SUM(A1)", " =1", "\u00a0=1", "＝1", "a,b", `quo"te`, "=cmd|' /C calc'!A0", "plain", "ünïcode",
	}
	for _, text := range hostile {
		body, err := json.Marshal(map[string]any{"user_id": text, "metadata": map[string]any{"title": text, "agent": text}})
		w.must(err)
		w.call("POST", "/v1/runs", a.key, body).want(http.StatusCreated)
		w.clock.advance(time.Second)
	}
	r := w.call("GET", "/v1/export-runs?format=csv", a.key, nil).want(http.StatusOK)
	if got := r.header.Get("Content-Disposition"); got != `attachment; filename="pikarc-runs-2026-11-23.csv"` {
		t.Errorf("Content-Disposition %q", got)
	}
	rows, err := csv.NewReader(strings.NewReader(string(r.body))).ReadAll()
	w.must(err)
	if len(rows) != len(hostile)+1 || rows[0][17] != "agent" || rows[0][0] != "id" || rows[0][2] != "user_id" {
		t.Fatalf("%d rows, %v", len(rows), rows[0])
	}
	for i, row := range rows[1:] {
		text := hostile[len(hostile)-1-i]
		if strings.TrimPrefix(row[2], "'") != text {
			t.Errorf("user %q is %q", text, row[2])
		}
		for _, cell := range row {
			if first := strings.TrimLeft(cell, " \u00a0"); first != "" && strings.ContainsRune("=+-@＝", []rune(first)[0]) {
				t.Errorf("%q begins a formula", cell)
			}
		}
	}
}

// One export of a workspace is made at a time, and it ends when its reader goes.
func TestAnExportEndsWithItsReader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.exec(`INSERT INTO users (id, workspace_id, external_id, run_count, created_at) VALUES (1000, ` + fmt.Sprint(int64(a.workspace)) + `, 'u', 0, 0)`)
	w.exec(`INSERT INTO runs (uuid, workspace_id, user_id, status, started_at, ended_at, ended_by, last_call_at, step_count, blocked_step_count,
			prompt_tokens, completion_tokens, spend_nanos, title)
		WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000)
		SELECT unhex(printf('01a00000000070008000%012x', i)), ` + fmt.Sprint(int64(a.workspace)) + `, 1000, 2, 1796000000000, 1796000000001, 1, 1796000000000, 0, 0, 0, 0, 0, printf('%0200d', i) FROM n`)
	export := func(query string) *http.Response {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.url+"/v1/export-runs?"+query, nil)
		w.must(err)
		req.Header.Set("Authorization", "Bearer "+a.key)
		r, err := w.client.Do(req)
		w.must(err)
		return r
	}
	first := export("format=csv")
	if _, err := io.ReadFull(first.Body, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	w.call("GET", "/v1/export-runs?format=csv", a.key, nil).wantDetail(http.StatusTooManyRequests,
		"An export of this workspace is under way. Try again when it has ended.")
	w.must(first.Body.Close())
	for {
		r := export("format=jsonl&status=RUNNING")
		status := r.StatusCode
		w.must(r.Body.Close())
		if status == http.StatusOK {
			break
		}
	}
	whole := export("format=csv")
	defer whole.Body.Close()
	rows, err := csv.NewReader(whole.Body).ReadAll()
	if err != nil || len(rows) != 60001 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
}

// Whatever agents do, what they cost by model, tool, user, tag, key and day adds
// up to the total, to the nano-dollar, as do the runs and their export.
func TestCostsAddUpByWhateverTheyAreAskedBy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	rapid.Check(t, func(t *rapid.T) {
		a := w.account(plans.Scale)
		w.call("PATCH", "/v1/workspace", a.token, `{"max_concurrent_runs":100}`).want(http.StatusOK)
		for i, name := range []string{"gpt-4o", "sonnet", "tool:search"} {
			body := fmt.Sprintf(`{"input_cost_per_token":0.00000%d,"output_cost_per_token":0.0000000%d7,"cost_per_call":0.00%d}`, i+1, i+3, i+1)
			w.call("PUT", "/v1/model-pricing/"+name, a.token, body).want(http.StatusOK)
		}
		for range rapid.IntRange(1, 6).Draw(t, "runs") {
			user := rapid.SampledFrom([]string{"acme/a", "acme/b", "c"}).Draw(t, "user")
			agent := rapid.SampledFrom([]string{`{}`, `{"agent":"billing"}`, `{"tags":{"agent":"support","env":"live"}}`}).Draw(t, "agent")
			run := w.call("POST", "/v1/runs", a.key, `{"user_id":"`+user+`","metadata":`+agent+`}`).want(http.StatusCreated).text("id")
			for range rapid.IntRange(0, 4).Draw(t, "steps") {
				kind := rapid.SampledFrom([]string{`"MODEL_CALL","model":"gpt-4o"`, `"MODEL_CALL","model":"sonnet"`, `"TOOL_CALL","tool_name":"search"`}).Draw(t, "kind")
				step := w.call("POST", "/v1/runs/"+run+"/steps", a.key, `{"sequence":1,"type":`+kind+`}`).want(http.StatusCreated).text("id")
				if rapid.IntRange(0, 9).Draw(t, "midnight") == 0 {
					w.clock.advance(24 * time.Hour)
				}
				w.call("PATCH", "/v1/runs/"+run+"/steps/"+step, a.key, fmt.Sprintf(`{"status":"COMPLETED","prompt_tokens":%d,"completion_tokens":%d}`,
					rapid.IntRange(0, 99999).Draw(t, "prompt"), rapid.IntRange(0, 99999).Draw(t, "completion"))).want(http.StatusOK)
			}
		}
		window := "&since=" + url.QueryEscape(w.clock.now().AddDate(0, 0, -60).Format(time.RFC3339))
		total := nanosOf(t, w, a, "/v1/run-totals", "total")
		tool := nanosOf(t, w, a, "/v1/usage/by?group=tool"+window, "items")
		if byModel := nanosOf(t, w, a, "/v1/usage/by?group=model"+window, "items"); byModel != total || tool > total {
			t.Fatalf("by model %d, of it tools %d, total %d", byModel, tool, total)
		}
		for _, group := range []string{"model", "tool", "user", "prefix", "key", "tag:agent", "tag:env"} {
			path := "/v1/usage/by?group=" + group + window
			mustAddUpTo(t, w, a, path, total)
			if sum := nanosOf(t, w, a, path, "items", "other"); sum != total {
				t.Fatalf("by %s %d, total %d", group, sum, total)
			}
		}
		if days := nanosOf(t, w, a, "/v1/usage/daily?days=60", "items"); days != total {
			t.Fatalf("by day %d, total %d", days, total)
		}
		if runs := nanosOf(t, w, a, "/v1/runs?limit=200", "items"); runs != total {
			t.Fatalf("the runs %d, total %d", runs, total)
		}
		tagged := nanosOf(t, w, a, "/v1/run-totals?tag=agent:billing&tag=agent:support", "total")
		if byTag := nanosOf(t, w, a, "/v1/usage/by?group=tag:agent"+window, "items"); byTag != tagged {
			t.Fatalf("by tag %d, its runs %d", byTag, tagged)
		}
		rows, err := csv.NewReader(strings.NewReader(string(w.call("GET", "/v1/export-runs?format=csv", a.key, nil).want(http.StatusOK).body))).ReadAll()
		w.must(err)
		var exported int64
		for _, row := range rows[1:] {
			exported += nanos(t, row[13])
		}
		if exported != total {
			t.Fatalf("exported %d, total %d", exported, total)
		}
	})
}

func nanos(t *rapid.T, text string) int64 {
	money, err := plans.ParseMoney(text)
	if err != nil {
		t.Fatal(err)
	}
	return int64(money)
}

// nanosOf adds up total_usd of parts of an answer: of all of it ("total"), of its list, or of an object in it.
func nanosOf(t *rapid.T, w *world, a account, path string, parts ...string) (sum int64) {
	type cost struct {
		Total json.Number `json:"total_usd"`
	}
	body := w.call("GET", path, a.key, nil).want(http.StatusOK).body
	var answer struct {
		cost
		Items []cost `json:"items"`
		Other cost   `json:"other"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	for _, part := range parts {
		switch part {
		case "items":
			for _, item := range answer.Items {
				sum += nanos(t, item.Total.String())
			}
		case "other":
			sum += nanos(t, answer.Other.Total.String())
		default:
			sum += nanos(t, answer.Total.String())
		}
	}
	return sum
}

// mustAddUpTo wants the parts of usage and the rest, all together, each over
// its days, and in files, to be the whole; and the period before as well, which
// here is the same.
func mustAddUpTo(t *rapid.T, w *world, a account, path string, total int64) {
	since := path[strings.Index(path, "&since=")+len("&since="):]
	before := "&before_since=" + since + "&before_until=" + url.QueryEscape(w.clock.now().Format(time.RFC3339))
	path += "&by_day=true&limit=2" + before
	type part struct {
		Row    string      `json:"row"`
		Total  json.Number `json:"total_usd"`
		Before struct {
			Total json.Number `json:"total_usd"`
		} `json:"before"`
		ByDay struct {
			Total []json.Number `json:"total_usd"`
		} `json:"by_day"`
	}
	var answer struct {
		Items []part `json:"items"`
		Other part   `json:"other"`
		Total part   `json:"total"`
	}
	if err := json.Unmarshal(w.call("GET", path, a.key, nil).want(http.StatusOK).body, &answer); err != nil {
		t.Fatal(err)
	}
	sums := func(parts []part) (all [3]int64) {
		for _, p := range parts {
			all[0] += nanos(t, p.Total.String())
			all[1] += nanos(t, p.Before.Total.String())
			for _, day := range p.ByDay.Total {
				all[2] += nanos(t, day.String())
			}
		}
		return all
	}
	want := [3]int64{total, total, total}
	if got := sums(append(answer.Items, answer.Other)); got != want || sums([]part{answer.Total}) != want {
		t.Fatalf("%s: the sums, before and by day are %v, of all %v, want %d", path, got, sums([]part{answer.Total}), total)
	}
	var rows []part
	lines := json.NewDecoder(strings.NewReader(string(w.call("GET", path+"&format=jsonl", a.key, nil).want(http.StatusOK).body)))
	for lines.More() {
		var p part
		if err := lines.Decode(&p); err != nil {
			t.Fatal(err)
		}
		rows = append(rows, p)
	}
	if n := len(rows) - 1; rows[n].Row != "total" || sums(rows[:n]) != want || sums(rows[n:]) != want {
		t.Fatalf("%s: lines %+v", path, rows)
	}
	table, err := csv.NewReader(strings.NewReader(string(w.call("GET", path+"&format=csv", a.key, nil).want(http.StatusOK).body))).ReadAll()
	w.must(err)
	var spent, earlier int64
	for _, row := range table[1 : len(table)-1] {
		spent += nanos(t, row[2])
		earlier += nanos(t, row[7])
	}
	if last := table[len(table)-1]; spent != total || earlier != total || last[0] != "total" || nanos(t, last[2]) != total || len(last) != len(table[0]) {
		t.Fatalf("%s: rows %v", path, table)
	}
}

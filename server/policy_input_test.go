package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

// What is no policy is refused where it is wrong, and changes nothing.
func TestWhatIsNoPolicyIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	limited := func(window, amount string) string {
		return fmt.Sprintf(`{"effect":"deny","limit":{"measure":"usd","per":"user","window":%s,"amount":%s}}`, window, amount)
	}
	for name, c := range map[string]struct{ path, body, place, says string }{
		"no effect":             {"x", `{}`, "effect", "say deny, review or log"},
		"an unknown field":      {"x", `{"effect":"deny","efect":1}`, "efect", "Extra inputs are not permitted"},
		"1 MB of CEL":           {"x", `{"effect":"deny","when":"` + strings.Repeat("1+", 1<<19) + `1"}`, "", "bytes"},
		"5 kB of CEL":           {"x", `{"effect":"deny","when":"` + strings.Repeat("1+", 2500) + `1 > 0"}`, "when", "4096 are the most"},
		"a regexp that grows":   {"x", `{"effect":"deny","when":"input.a.matches('((a{100}){100}){100}')"}`, "when", "column"},
		"too dear a condition":  {"x", `{"effect":"deny","when":"input.a.all(x, input.b.all(y, x == y))"}`, "when", "cost"},
		"a window of 0":         {"x", limited(`0`, `1`), "window", "must be run, minute"},
		"an amount of 1e400":    {"x", limited(`"day"`, `1e400`), "amount", "must be at most"},
		"an amount of -1e400":   {"x", limited(`"day"`, `-1e400`), "amount", "must be 0 or more"},
		"a name with a space":   {"a%20b", `{"effect":"deny"}`, "name", "letters, digits"},
		"a name with a slash":   {"a%2Fb", `{"effect":"deny"}`, "name", "letters, digits"},
		"a name of 300":         {strings.Repeat("n", 300), `{"effect":"deny"}`, "name", "64"},
		"a tag with NUL":        {"x", `{"effect":"deny","match":{"tags":{"a\u0000":"b"}}}`, "tags", "invisible"},
		"a value with NUL":      {"x", `{"effect":"deny","match":{"tags":{"a":"\u0000"}}}`, "tags", "invisible"},
		"11 tags":               {"x", `{"effect":"deny","match":{"tags":{` + tagsOf(11, "v") + `}}}`, "tags", "10 tags are the most"},
		"a value of 10 kB":      {"x", `{"effect":"deny","match":{"tags":{"a":"` + strings.Repeat("v", 10_000) + `"}}}`, "tags", "100 characters"},
		"two approvals":         {"x", `{"effect":"review","review":{"approvals":2}}`, "approvals", "at most 1"},
		"a review of 4 seconds": {"x", `{"effect":"review","review":{"expires_seconds":4}}`, "expires_seconds", "at least 5"},
	} {
		r := w.call("PUT", "/v1/policies/"+c.path, a.token, c.body)
		if r.status != http.StatusUnprocessableEntity && (name != "1 MB of CEL" || r.status != http.StatusRequestEntityTooLarge) {
			t.Errorf("%s: %d %s", name, r.status, r.body)
			continue
		}
		if body := string(r.body); !strings.Contains(body, c.place) || !strings.Contains(body, c.says) {
			t.Errorf("%s: %.400s", name, body)
		}
	}
	slash := w.call("POST", "/v1/policies/backtest", a.token, `{"since":"2026-11-01T00:00:00Z","until":"2026-11-02T00:00:00Z",
		"policies":[{"name":"a/b","effect":"deny"}]}`).want(http.StatusUnprocessableEntity)
	if !strings.Contains(string(slash.body), "letters, digits") {
		t.Errorf("a name with a slash: %s", slash.body)
	}
	if got := w.call("GET", "/v1/policies/", a.token, nil).want(http.StatusOK).text("items"); got != "[]" {
		t.Errorf("it was saved: %s", got)
	}
}

// An escaped slash ends no name, so that a proxy's rule about a path holds for what answers it.
func TestAnEscapedSlashLeadsToNoOtherCall(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.call("PUT", "/v1/policies/a", a.token, `{"effect":"deny"}`).want(http.StatusOK)
	w.call("GET", "/v1/policies/a/versions", a.token, nil).want(http.StatusOK)
	w.call("GET", "/v1/policies/a%2Fversions", a.token, nil).want(http.StatusMethodNotAllowed)
	w.call("DELETE", "/v1/policies/a%2fversions", a.token, nil).want(http.StatusNotFound)
	w.call("GET", "/v1/policies%2fa/versions", a.token, nil).want(http.StatusNotFound)
	w.call("DELETE", "/v1/policies/a%2F", a.token, nil).want(http.StatusNotFound)
	w.call("DELETE", "/v1/policies/a/", a.token, nil).want(http.StatusOK)
}

func TestAnUnknownTimeZoneIsRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for _, zone := range []string{`"Mars/Olympus"`, `""`, `"Local"`, `"../../etc/passwd"`, `"Europe/Berlin\u0000"`, `7`, `"` + strings.Repeat("z", 10_000) + `"`} {
		w.call("PATCH", "/v1/workspace/", a.token, `{"timezone":`+zone+`}`).want(http.StatusUnprocessableEntity)
	}
	w.call("PATCH", "/v1/workspace/", a.token, `{"week_start":"someday"}`).want(http.StatusUnprocessableEntity)
	w.call("PATCH", "/v1/workspace/", a.token, `{"timezone":"Asia/Kathmandu"}`).want(http.StatusOK)
	if got := w.call("GET", "/v1/workspace/", a.token, nil).text("timezone"); got != "Asia/Kathmandu" {
		t.Errorf("the zone is %s", got)
	}
}

// A run's tags are repaired rather than refused: the agent cannot do anything about them.
func TestTagsOfARunAreRepaired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for name, tags := range map[string]string{
		"NUL": `{"a\u0000":"b\u0000"}`, "eleven": `{` + tagsOf(11, "v") + `}`, "10 kB": `{"a":"` + strings.Repeat("v", 10_000) + `"}`,
		"a list": `["a"]`, "numbers": `{"a":7,"b":null}`,
	} {
		r := w.call("POST", "/v1/runs/", a.key, `{"user_id":"ada","metadata":{"tags":`+tags+`}}`).want(http.StatusCreated)
		if got := r.text("decision.outcome"); got != "ALLOW" {
			t.Errorf("%s: %s", name, r.body)
		}
		w.call("POST", "/v1/runs/"+r.text("id")+"/end", a.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
	}
}

// tagsOf writes n tags with a value.
func tagsOf(n int, value string) string {
	pairs := make([]string, n)
	for i := range pairs {
		pairs[i] = fmt.Sprintf(`"t%d":%q`, i, value)
	}
	return strings.Join(pairs, ",")
}

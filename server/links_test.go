package server_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// isLink reports whether a case is one of a link, of which tables have none that is good.
func isLink(c apiCase) bool { return strings.HasPrefix(c.path, "/decide/") }

// linked is a review that waits, with the links of a message about it.
type linked struct {
	account
	w             *world
	endpoint      storage.Endpoint
	run, review   string
	approve, deny string
}

func (w *world) linked() linked {
	w.t.Helper()
	l := linked{w: w, account: w.account(plans.Scale)}
	var err error
	l.endpoint, _, err = w.store.CreateEndpoint(w.t.Context(), l.workspace, storage.NewEndpoint{
		Kind: storage.Slack, Label: "on call", Address: "https://hooks.example.com/x", Events: storage.AllEvents,
	})
	w.must(err)
	l.run, _, l.review = w.waiting(l.account)
	l.approve, l.deny, err = w.server.ReviewLinks(w.t.Context(), l.endpoint, uuid.MustParse(l.review))
	w.must(err)
	if l.approve == "" || l.deny == "" || l.approve == l.deny {
		w.t.Fatalf("the links are %q and %q", l.approve, l.deny)
	}
	return l
}

// state is all that deciding changes.
func (l linked) state() string {
	l.w.t.Helper()
	r := l.w.call("GET", "/v1/reviews/"+l.review, l.token, nil).want(http.StatusOK)
	log := l.w.call("GET", "/v1/audit", l.token, nil).want(http.StatusOK)
	return r.text("status") + r.text("resolution") + r.text("decided_by") + r.text("note") + string(log.body)
}

// says wants a page with these words.
func says(t *testing.T, r *response, status int, words ...string) {
	t.Helper()
	r.want(status)
	for _, word := range words {
		if !strings.Contains(string(r.body), word) {
			t.Errorf("%s does not say %q: %s", r.what, word, r.body)
		}
	}
	for name, want := range map[string]string{"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "Content-Type": "text/html; charset=utf-8"} {
		if got := r.header.Get(name); got != want {
			t.Errorf("%s has %s: %q", r.what, name, got)
		}
	}
	policy := r.header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"} {
		if !strings.Contains(policy, part) || strings.Contains(policy, "unsafe") || strings.Contains(policy, "script") {
			t.Errorf("%s has the policy %q", r.what, policy)
		}
	}
}

const form = "application/x-www-form-urlencoded"

func TestALinkAsksAgainAndDecidesOnce(t *testing.T) {
	t.Parallel()
	for _, approve := range []bool{true, false} {
		w := newWorld(t)
		l := w.linked()
		path, asks, resolution := l.deny, "Deny this?", "denied"
		body := "note=" + url.QueryEscape("not\r\nthis one")
		if approve {
			path, asks, resolution, body = l.approve, "Approve this?", "approved", ""
		}
		before := l.state()
		for range 3 { // a scanner may look as often as it likes
			says(t, w.call("GET", path, "", nil), http.StatusOK, asks, "refund", "&#34;amount&#34;: 101", "refunds need a person", `<form method="post">`)
			w.call("HEAD", path, "", nil).want(http.StatusOK)
		}
		if got := l.state(); got != before {
			t.Errorf("looking changed %s to %s", before, got)
		}
		says(t, w.call("POST", path, "", []byte(body), "Content-Type", form), http.StatusOK, "The agent is told")
		r := w.call("GET", "/v1/reviews/"+l.review, l.key, nil).want(http.StatusOK)
		if r.text("resolution") != resolution || r.text("decided_by.channel") != "slack: on call" || r.text("decided_by.account") != "null" {
			t.Errorf("the review is %s", r.body)
		}
		if want := map[bool]string{true: "null", false: "not\nthis one"}[approve]; r.text("note") != want {
			t.Errorf("the note is %q, want %q", r.text("note"), want)
		}
		action := map[bool]string{true: "review.approve", false: "review.deny"}[approve]
		log := w.call("GET", "/v1/audit?action="+action, l.token, nil).want(http.StatusOK)
		if log.text("items.0.actor.kind") != "channel" || log.text("items.0.actor.name") != "slack: on call" || log.text("items.0.target") != l.review {
			t.Errorf("the audit log says %s", log.text("items.0"))
		}
		after := l.state()
		for _, used := range []string{l.approve, l.deny} {
			for _, method := range []string{"GET", "POST"} {
				says(t, w.call(method, used, "", nil), http.StatusGone, "This was "+resolution+" already", "By slack: on call")
			}
		}
		if got := l.state(); got != after {
			t.Errorf("a used link changed %s to %s", after, got)
		}
	}
}

// A stale link says why it is, and changes nothing.
func TestAStaleLinkDecidesNothing(t *testing.T) {
	t.Parallel()
	endpoint := func(l linked, body string) {
		l.w.call("PATCH", "/v1/endpoints/"+l.endpoint.ID.String(), l.token, body).want(http.StatusOK)
	}
	for name, c := range map[string]struct {
		make func(linked)
		says string
	}{
		"expired":         {func(l linked) { l.w.clock.advance(290 * time.Second) }, "The time is over"},
		"switched off":    {func(l linked) { endpoint(l, `{"enabled":false}`) }, "is switched off"},
		"another address": {func(l linked) { endpoint(l, `{"url":"https://hooks.example.com/y"}`) }, "has another address"},
		"deleted": {func(l linked) {
			l.w.call("DELETE", "/v1/endpoints/"+l.endpoint.ID.String(), l.token, nil).want(http.StatusOK)
		}, "has been deleted"},
		"policy changed": {func(l linked) {
			l.w.call("PUT", "/v1/policies/refunds", l.token, `{"effect":"review"}`).want(http.StatusOK)
		}, "The policy has changed"},
		"run ended": {func(l linked) {
			l.w.call("POST", "/v1/runs/"+l.run+"/end", l.token, `{"status":"FAILED"}`).want(http.StatusOK)
		}, "There is nothing left to decide"},
		"stopped": {func(l linked) {
			l.w.call("POST", "/v1/workspace/kill-switch", l.token, `{"active":true}`).want(http.StatusOK)
		}, "There is nothing left to decide"},
		"decided": {func(l linked) {
			l.w.call("POST", "/v1/reviews/"+l.review+"/deny", l.token, `{"note":"no"}`).want(http.StatusOK)
		}, "This was denied already"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := w.linked()
			c.make(l)
			before := l.state()
			for _, path := range []string{l.approve, l.deny} {
				for _, method := range []string{"GET", "POST"} {
					says(t, w.call(method, path, "", nil), http.StatusGone, c.says, "Nothing was changed.")
				}
			}
			if got := l.state(); got != before {
				t.Errorf("it changed %s to %s", before, got)
			}
		})
	}
}

func TestAnAgentThatWaitsNoLongerCanBeDeniedByALinkAndNotApproved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.linked()
	w.clock.advance(time.Minute)
	says(t, w.call("GET", l.approve, "", nil), http.StatusGone, "The agent waits no longer")
	says(t, w.call("POST", l.approve, "", nil), http.StatusGone, "The agent waits no longer")
	says(t, w.call("POST", l.deny, "", nil), http.StatusOK, "Denied")
}

func TestNobodyCanForgeALink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.linked()
	before := l.state()
	prefix := "/decide/"
	token := strings.TrimPrefix(l.approve, prefix)
	forged := []string{
		token[1:], token[:len(token)-1], token + "A", token + "=", strings.ToUpper(token), "x", strings.Repeat("A", len(token)),
		strings.Repeat("A", 5000), "%00", "%0a" + token, l.review, l.token, l.key,
	}
	for i := range token { // each character another one
		forged = append(forged, token[:i]+string('A'+(token[i]-'A'+1)%26)+token[i+1:])
	}
	for _, text := range forged {
		if text == token {
			continue
		}
		for _, method := range []string{"GET", "POST"} {
			r := w.call(method, prefix+text, "", nil)
			if method == "POST" || len(forged) < 20 {
				says(t, r, http.StatusNotFound, "This is not a link of this server")
			}
			r.want(http.StatusNotFound)
		}
	}
	elsewhere := w.another("another secret of the tests, long enough to be taken")
	says(t, elsewhere.call("POST", l.approve, "", nil), http.StatusNotFound, "This is not a link of this server")
	if got := l.state(); got != before {
		t.Errorf("it changed %s to %s", before, got)
	}
	if logs := w.logs.String(); strings.Contains(logs, token) {
		t.Error("the log shows a link")
	}
}

func TestAPageOfALinkShowsHostileTextAsText(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.linked()
	w.call("PUT", "/v1/policies/all", l.token, `{"effect":"review","message":"<b>bold</b> & \"quoted\""}`).want(http.StatusOK)
	r := w.call("POST", "/v1/runs/"+l.run+"/steps", l.key,
		`{"type":"TOOL_CALL","sequence":1,"tool_name":"<script>alert(1)</script>\u2066","input_data":{"to":"evil\u202egpj.exe","html":"</pre><img src=x onerror=alert(1)>","long":"`+strings.Repeat("ä", 20_000)+`"}}`,
		"Pikarc-Client", "test/1; review").want(http.StatusCreated)
	approve, _, err := w.server.ReviewLinks(t.Context(), l.endpoint, uuid.MustParse(r.text("review_id")))
	w.must(err)
	page := w.call("GET", approve, "", nil)
	says(t, page, http.StatusOK, `&lt;script&gt;alert(1)&lt;/script&gt;\u{2066}<`, `evil\u202egpj.exe`, `&lt;img src=x`, "&lt;b&gt;bold&lt;/b&gt; &amp; &#34;quoted&#34;", "bytes more")
	for _, bad := range []string{"<script", "<img", "\u202e", "<b>"} {
		if strings.Contains(string(page.body), bad) {
			t.Errorf("the page has %q", bad)
		}
	}
}

func TestANoteOfALinkIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := w.linked()
	before := l.state()
	for _, body := range []string{"note=" + strings.Repeat("x", 2001), "note=%00", "note=%ff", "note=%zz"} {
		w.call("POST", l.deny, "", []byte(body), "Content-Type", form).want(http.StatusUnprocessableEntity)
	}
	if got := l.state(); got != before {
		t.Errorf("it changed %s to %s", before, got)
	}
	// ntfy sends a request without a body.
	says(t, w.call("POST", l.deny, "", nil), http.StatusOK, "Denied")
	r := w.call("GET", "/v1/reviews/"+l.review, l.key, nil).want(http.StatusOK)
	if r.text("note") == "null" {
		t.Error("the agent hears nothing")
	}
}

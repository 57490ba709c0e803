package server_test

import (
	"net/http"
	"testing"

	"github.com/pikarc/server/plans"
)

// What looks like a page to a browser must stay data: it comes back as it was
// sent, as JSON that no browser takes for anything else.
func TestMarkupIsKeptAsDataAndNeverServedAsAPage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	const markup = `<script>alert(1)</script><img src=x onerror=alert(1)>`
	w.call("PATCH", "/v1/workspace", a.token, map[string]any{"name": markup}).want(http.StatusOK)
	w.call("PUT", "/v1/blocked-users/%3Cscript%3E", a.token, map[string]any{"reason": markup}).want(http.StatusOK)
	w.call("POST", "/v1/api-keys/regenerate", a.token, map[string]any{"label": markup}).want(http.StatusOK)
	for path, field := range map[string]string{
		"/v1/workspace": "name", "/v1/users": "items.0.blocked_reason", "/v1/api-keys": "label", "/v1/auth/me": "workspace.name",
		"/v1/audit?action=user.block": "items.0.after.reason",
	} {
		r := w.call("GET", path, a.token, nil).want(http.StatusOK)
		if got := r.text(field); got != markup {
			t.Errorf("GET %s: %s is %q", path, field, got)
		}
		if r.header.Get("Content-Type") != "application/json" || r.header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("GET %s is served as %s", path, r.header)
		}
	}
	for _, path := range []string{"/%3Cscript%3E", "/v1/runs/%3Cscript%3E", "/v1/runs?cursor=%3Cscript%3E"} {
		r := w.call("GET", path, a.token, nil)
		if r.header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %s is served as %s", path, r.header)
		}
	}
}

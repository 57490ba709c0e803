package e2e_test

import (
	"net/http"
	"testing"
)

func TestCommandsAreInTheAuditLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "basic")
	run(t, "set-plan", "--data-dir", dir, "--email", u.Email, "scale").ok(t)
	run(t, "rotate-key", "--data-dir", dir, "--email", u.Email, "--label", "second").ok(t)
	p := serve(t, dir)
	token := p.signIn(t, u.Email)
	var log struct {
		Items []struct {
			Actor         struct{ Kind, Name string }
			Action        string
			Before, After map[string]any
			Address       *string
		}
	}
	p.call(t, "GET", "/v1/audit/", token, nil).want(t, http.StatusOK).into(t, &log)
	want := [][3]string{
		{"account", "ann@example.com", "account.sign_in"}, {"command", "rotate-key", "api_key.regenerate"},
		{"command", "set-plan", "workspace.plan"}, {"command", "create-user", "account.register"},
	}
	if len(log.Items) != len(want) {
		t.Fatalf("%d entries, want %d: %+v", len(log.Items), len(want), log.Items)
	}
	for i, e := range log.Items {
		if got := [3]string{e.Actor.Kind, e.Actor.Name, e.Action}; got != want[i] {
			t.Errorf("entry %d is %v, want %v", i, got, want[i])
		}
		if local := e.Actor.Kind == "command"; local != (e.Address == nil) {
			t.Errorf("the address of %s is %v", e.Action, e.Address)
		}
	}
	if plan := log.Items[2]; plan.Before["plan"] != "basic" || plan.After["plan"] != "scale" {
		t.Errorf("set-plan is recorded from %v to %v", plan.Before, plan.After)
	}
}

package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// withMovedClock builds the binary with testdata/clock/moved.go in the place
// of cli/clock.go, and returns it with the function that moves its clock.
func withMovedClock(t *testing.T) (binary string, settings []string, move func(time.Duration)) {
	t.Helper()
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{
		filepath.Join(here, "cli", "clock.go"): filepath.Join(here, "testdata", "clock", "moved.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, content []byte) {
		t.Helper()
		// Written aside and renamed: the server reads it at any moment.
		if err := os.WriteFile(filepath.Join(dir, name+".new"), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, name+".new"), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	write("overlay.json", overlay)
	binary = filepath.Join(dir, "pikarc")
	build := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"), "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	move = func(d time.Duration) { write("clock", []byte(d.String())) }
	move(0)
	return binary, []string{"MOVED_CLOCK=" + filepath.Join(dir, "clock")}, move
}

func TestClockThatJumpsADaySpoilsNothing(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "enterprise")
	binary, settings, move := withMovedClock(t)
	start := func() *process {
		return serveBinary(t, binary, settings, "--addr", "127.0.0.1:0", "--data-dir", dir)
	}
	p := start()
	p.call(t, "PUT", "/v1/model-pricing/gpt-4o", p.signIn(t, u.Email), map[string]string{"input_cost_per_token": "0.001", "output_cost_per_token": "0"}).
		want(t, http.StatusOK)
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]any{"daily_budget_usd": "0.5", "max_concurrent_runs": 100}).want(t, http.StatusOK)
	// spend starts a run, uses the budget of the day up, and returns what the next step is told.
	spend := func() (before, after decision) {
		t.Helper()
		r := p.start(t, u.APIKey, "someone")
		if before = r; before.Decision.Outcome == "DENY" {
			return before, before
		}
		steps := "/v1/runs/" + r.ID + "/steps"
		body := map[string]any{"type": "MODEL_CALL", "sequence": 1, "model": "gpt-4o"}
		p.call(t, "POST", steps, u.APIKey, body).want(t, http.StatusCreated).into(t, &before)
		p.call(t, "PATCH", steps+"/"+before.ID, u.APIKey, map[string]any{"status": "COMPLETED", "prompt_tokens": 500, "completion_tokens": 0}).
			want(t, http.StatusOK)
		p.call(t, "POST", steps, u.APIKey, body).want(t, http.StatusCreated).into(t, &after)
		return before, after
	}
	today := "ALLOW"
	for round, jump := range []time.Duration{0, day, -day, 0, day, -day} {
		move(jump)
		if round > 3 { // each day's budget is used up, whichever way one comes back to it
			today = "DENY"
		}
		want := today
		if round == 3 {
			want = "DENY"
		}
		before, after := spend()
		if before.Decision.Outcome != want || after.Decision.Reason != "WORKSPACE_DAILY_BUDGET_EXCEEDED" {
			t.Errorf("round %d, clock moved by %v: %+v, then %+v", round, jump, before.Decision, after.Decision)
		}
		p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
		balanced(t, dir)
		if round%2 == 1 {
			p.stop(t)
			p = start()
		}
	}
	var runs struct{ Items []any }
	p.call(t, "GET", "/v1/runs/", u.APIKey, nil).want(t, http.StatusOK).into(t, &runs)
	if len(runs.Items) != 6 {
		t.Errorf("%d runs are listed, 6 were started", len(runs.Items))
	}
	p.stop(t)
	balanced(t, dir)
}

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Case 26: a mistyped variable is silence, and a server with other settings than its operator believes.
func TestAVariableThatIsNoSettingIsWarnedAboutByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	settings := []string{
		"PIKARC_ADRR=:1", "PIKARC_PORT=9000", "PIKARC_LOG_LEVL=debug", "PIKARC_SOMETHING_ELSE=x", "PIKARC_STRIPE_SECRET_KY=x",
	}
	wants := []string{
		"PIKARC_ADRR is set, but there is no such setting. Did you mean PIKARC_ADDR?",
		"PIKARC_PORT is set, but there is no such setting. Did you mean PIKARC_ADDR?",
		"PIKARC_LOG_LEVL is set, but there is no such setting. Did you mean PIKARC_LOG_LEVEL?",
		"PIKARC_SOMETHING_ELSE is set, but there is no such setting\n",
		"PIKARC_STRIPE_SECRET_KY is set, but there is no such setting. Did you mean PIKARC_STRIPE_SECRET_KEY?",
	}
	out := invocation{args: []string{"migrate", "--init", "--data-dir", dir}, settings: settings}.run(t)
	if out.code != 0 {
		t.Fatalf("exit code %d: %s", out.code, out.stderr)
	}
	for _, want := range wants {
		if !strings.Contains(out.stderr, "Warning: "+want) {
			t.Errorf("stderr is %q, without %q", out.stderr, want)
		}
	}
	// The server's log is one of records, in whatever format was asked for.
	p := serveWith(t, append(settings, "PIKARC_LOG_FORMAT=json"), "--addr", "127.0.0.1:0", "--data-dir", dir)
	p.stop(t)
	for line := range strings.SplitSeq(strings.TrimSpace(p.stderr.String()), "\n") {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a line of the log is no record: %s", line)
		}
	}
	for _, want := range wants {
		if want = strings.TrimSpace(want); !strings.Contains(p.stderr.String(), `"level":"WARN","msg":"`+want) {
			t.Errorf("the log is without %q:\n%s", want, &p.stderr)
		}
	}
	// Every few seconds would be too often.
	invocation{args: []string{"health", "--addr", "127.0.0.1:1"}, settings: settings}.run(t).fails(t, 1, "does not answer")
}

// What agents use, what Kubernetes sets beside a service of this name, and settings of other commands.
func TestVariablesOfOthersAreNotWarnedAbout(t *testing.T) {
	t.Parallel()
	invocation{args: []string{"migrate", "--init", "--data-dir", t.TempDir()}, settings: []string{
		"PIKARC_API_KEY=lg_x", "PIKARC_ADMIN_KEY=lg_y", "PIKARC_BASE_URL=http://localhost:8000", "PIKARC_JOURNAL_DIR=\"/x\"", "PIKARC_PLAN=pro", "PIKARC_SECRET_FILE=", "PIKARC_BASE_PATH=/x", "PIKARC_TLS_DOMAIN=",
		"PIKARC_SERVICE_HOST=10.0.0.1", "PIKARC_SERVICE_PORT=8000", "PIKARC_SERVICE_PORT_HTTP=8000", "PIKARC_PORT=tcp://10.0.0.1:8000",
		"PIKARC_PORT_8000_TCP=tcp://10.0.0.1:8000", "PIKARC_PORT_8000_TCP_PROTO=tcp", "PIKARC_PORT_8000_TCP_ADDR=10.0.0.1",
		"PIKARC_SERVER_SERVICE_HOST=10.0.0.1", "PIKARC_SERVER_PORT=tcp://10.0.0.1:8000",
	}}.run(t).ok(t)
}

func TestAValueInQuotesIsRefusedByName(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	for _, setting := range []string{
		`PIKARC_DATA_DIR="` + filepath.Join(work, "data") + `"`, `PIKARC_ADDR='127.0.0.1:0'`, `PIKARC_LOG_LEVEL="info"`, `PIKARC_ADDR=""`,
		`PIKARC_SECRET="` + firstSecret + `"`, `PIKARC_STRIPE_SECRET_KEY="sk_test_1"`, `PIKARC_SECRET_FILE="/run/secret"`,
	} {
		name, value, _ := strings.Cut(setting, "=")
		for _, args := range [][]string{{"serve"}, {"create-user", "--init", "--email", "ann@example.com", "--password-stdin"}, {"health"}} {
			out := invocation{args: args, settings: []string{setting}, stdin: password, dir: work}.run(t)
			keepsQuiet(t, out.fails(t, 2, name, "quotes").stderr, value, strings.Trim(value, `"'`)+"x")
		}
	}
	if made, err := os.ReadDir(work); err != nil || len(made) > 0 {
		t.Errorf("made %v (%v)", made, err)
	}
}

// A file of settings with Windows' line ends gives such values.
func TestAValueWithSpaceAroundItIsRefusedByName(t *testing.T) {
	t.Parallel()
	work := t.TempDir()
	for _, value := range []string{"data\r", " data", "data\n", "data "} {
		invocation{args: []string{"serve", "--addr", "127.0.0.1:0"}, settings: []string{"PIKARC_DATA_DIR=" + value}, dir: work}.
			run(t).fails(t, 2, "PIKARC_DATA_DIR", "white space")
	}
	if made, err := os.ReadDir(work); err != nil || len(made) > 0 {
		t.Errorf("made %v (%v)", made, err)
	}
}

// Case 25: a mistyped directory is not a new server.
func TestOnlyServeAndInitMakeADatabase(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	commands := [][]string{{"migrate"}, {"create-user", "--email", "ann@example.com", "--password-stdin"}}
	for _, args := range append(commands, []string{"verify"}, []string{"backup", filepath.Join(t.TempDir(), "b.db")},
		[]string{"rotate-key", "--email", "ann@example.com"}, []string{"set-plan", "--email", "ann@example.com", "pro"}) {
		invocation{args: append(args, "--data-dir", dir), stdin: password}.run(t).fails(t, 1, "no database in "+dir, "--data-dir")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Fatalf("%s made the directory (%v)", args[0], err)
		}
	}
	for _, args := range commands {
		dir := filepath.Join(t.TempDir(), "new")
		file := filepath.Join(dir, "pikarc.db")
		invocation{args: append(args, "--data-dir", dir), stdin: password}.run(t).fails(t, 1, "--init")
		out := invocation{args: append(args, "--init", "--data-dir", dir), stdin: password}.run(t).ok(t)
		if !strings.Contains(out.stdout, file) {
			t.Errorf("%s does not say that it made %s: %q", args[0], file, out.stdout)
		}
	}
	p := serve(t, dir)
	if want := "\nDatabase: " + filepath.Join(dir, "pikarc.db") + " (new)\n"; !strings.Contains(p.stdout.String(), want) {
		t.Errorf("serve says %q, without %q", &p.stdout, want)
	}
	p.call(t, "GET", "/health/ready", "", nil).want(t, http.StatusOK)
	p.stop(t)
	p = serve(t, dir)
	if want := "\nDatabase: " + filepath.Join(dir, "pikarc.db") + "\n"; !strings.Contains(p.stdout.String(), want) {
		t.Errorf("serve says %q, without %q", &p.stdout, want)
	}
}

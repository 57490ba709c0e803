package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// looksLikeJSON tells which log format a server was given.
func looksLikeJSON(p *process) bool { return strings.HasPrefix(p.stderr.String(), "{") }

func TestFlagsWinOverEnvironmentWhichWinsOverDefaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings, flags []string
		json            bool
	}{
		"default":     {},
		"environment": {settings: []string{"PIKARC_LOG_FORMAT=json"}, json: true},
		"flag":        {settings: []string{"PIKARC_LOG_FORMAT=json"}, flags: []string{"--log-format", "text"}},
		// A flag that repeats the default was given all the same.
		"flag over a bad value": {settings: []string{"PIKARC_LOG_FORMAT=xml"}, flags: []string{"--log-format=text"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings := append(c.settings, "PIKARC_ADDR=127.0.0.1:0", "PIKARC_DATA_DIR="+t.TempDir())
			p := serveWith(t, settings, c.flags...)
			p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
			p.stop(t)
			if looksLikeJSON(p) != c.json {
				t.Errorf("the log is JSON: %v, want %v\n%s", looksLikeJSON(p), c.json, &p.stderr)
			}
		})
	}
}

func TestEverySettingOfServeWorksFromTheEnvironment(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	p := serveWith(t, []string{
		"PIKARC_ADDR=127.0.0.1:0", "PIKARC_DATA_DIR=" + dir, "PIKARC_DEFAULT_PLAN=pro", "PIKARC_REGISTRATION=open",
		"PIKARC_JWT_TTL=2h", "PIKARC_MAX_BODY=2048", "PIKARC_LOG_LEVEL=error",
		"PIKARC_PUBLIC_URL=http://agents.example.com", "PIKARC_PAYMENT_GRACE=24h",
	})
	var registered struct {
		ExpiresIn int `json:"expires_in"`
		Workspace struct{ Plan string }
	}
	account := map[string]string{"email": "ann@example.com", "password": password}
	p.call(t, "POST", "/v1/auth/register", "", account).want(t, http.StatusCreated).into(t, &registered)
	if registered.ExpiresIn != 7200 || registered.Workspace.Plan != "pro" {
		t.Errorf("registered %+v", registered)
	}
	account["password"] = strings.Repeat("x", 2048)
	p.call(t, "POST", "/v1/auth/register", "", account).want(t, http.StatusRequestEntityTooLarge)
	p.stop(t)
	if got := p.stderr.String(); got != "" {
		t.Errorf("logged %q at level error", got)
	}

	p = serveWith(t, []string{"PIKARC_REGISTRATION=closed", "PIKARC_DATA_DIR=" + dir}, "--addr", "127.0.0.1:0")
	account["password"] = password
	p.call(t, "POST", "/v1/auth/register", "", account).want(t, http.StatusForbidden)
	p.call(t, "POST", "/v1/auth/login", "", account).want(t, http.StatusOK)
}

func TestBadEnvironmentValueIsSaidByTheVariablesName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, setting := range []string{
		"PIKARC_JWT_TTL=soon", "PIKARC_JWT_TTL=1s", "PIKARC_MAX_BODY=1MB", "PIKARC_MAX_BODY=1", "PIKARC_DEFAULT_PLAN=gold",
		"PIKARC_REGISTRATION=perhaps", "PIKARC_LOG_FORMAT=xml", "PIKARC_LOG_LEVEL=loud",
	} {
		name, _, _ := strings.Cut(setting, "=")
		invocation{
			args:     []string{"serve", "--addr", "127.0.0.1:0", "--data-dir", dir},
			settings: []string{setting},
		}.run(t).fails(t, 2, name)
	}
}

// A flag that was renamed works under its old name, as a flag and as a variable, and its new name wins.
func TestARenamedFlagIsStillTaken(t *testing.T) {
	t.Parallel()
	const refusal = "--cache-rows 1: must be"
	serve := []string{"serve", "--addr", "127.0.0.1:0", "--data-dir", t.TempDir()}
	for _, c := range []struct{ flag, variable, says string }{
		{"--held-rows=1", "", refusal},
		{"", "PIKARC_HELD_ROWS=1", refusal},
		{"--cache-rows=1", "PIKARC_HELD_ROWS=2000", refusal},
		{"--cache-rows=2", "PIKARC_HELD_ROWS=1", "--cache-rows 2: must be"},
	} {
		call := invocation{args: slices.Clone(serve)}
		if c.flag != "" {
			call.args = append(call.args, c.flag)
		}
		if c.variable != "" {
			call.settings = []string{c.variable}
		}
		call.run(t).fails(t, 2, c.says)
	}
	if help := (invocation{args: []string{"serve", "--help"}}).run(t); strings.Contains(help.stdout, "held-rows") {
		t.Error("the help shows the old name")
	}
}

// Compose files and Helm charts pass on what is not set as an empty value.
func TestEmptyEnvironmentValueIsNotSet(t *testing.T) {
	t.Parallel()
	p := serveWith(t, []string{
		"PIKARC_DEFAULT_PLAN=", "PIKARC_REGISTRATION=", "PIKARC_LOG_FORMAT=", "PIKARC_LOG_LEVEL=", "PIKARC_JWT_TTL=",
		"PIKARC_MAX_BODY=", "PIKARC_SECRET=", "PIKARC_SECRET_FILE=", "PIKARC_PUBLIC_URL=", "PIKARC_PAYMENT_GRACE=",
		"PIKARC_STRIPE_SECRET_KEY=", "PIKARC_STRIPE_WEBHOOK_SECRET_FILE=", "PIKARC_STRIPE_PRICE_PRO=", "PIKARC_STRIPE_PRICE_SCALE=",
	}, "--addr", "127.0.0.1:0", "--data-dir", t.TempDir())
	p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
}

const (
	firstSecret  = "the-first-secret-of-this-server-0123456789"
	secondSecret = "the-second-secret-of-this-server-987654321"
)

func TestServerSecretMayComeFromTheEnvironmentOrAFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte(firstSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	u := newUser{Email: "ann@example.com"}
	invocation{
		args:     []string{"create-user", "--init", "--data-dir", dir, "--email", u.Email, "--password-stdin"},
		stdin:    password,
		settings: []string{"PIKARC_SECRET=" + firstSecret},
	}.run(t).ok(t)

	with := func(setting string) *process {
		return serveWith(t, []string{setting}, "--addr", "127.0.0.1:0", "--data-dir", dir)
	}
	p := with("PIKARC_SECRET=" + firstSecret)
	token := p.signIn(t, u.Email)
	p.stop(t)
	// The file holds the same secret, so tokens hold and keys can be shown.
	p = with("PIKARC_SECRET_FILE=" + file)
	var shown struct{ Key *string }
	p.call(t, "GET", "/v1/api-keys/", token, nil).want(t, http.StatusOK).into(t, &shown)
	if shown.Key == nil || !apiKey.MatchString(*shown.Key) {
		t.Errorf("the key of a server with the same secret: %v", shown.Key)
	}
	p.stop(t)
	// Another secret ends the tokens and cannot open what was sealed; the key itself goes on working.
	p = with("PIKARC_SECRET=" + secondSecret)
	p.call(t, "GET", "/v1/auth/me", token, nil).want(t, http.StatusUnauthorized)
	var hidden struct{ Key *string }
	p.call(t, "GET", "/v1/api-keys/", p.signIn(t, u.Email), nil).want(t, http.StatusOK).into(t, &hidden)
	if hidden.Key != nil {
		t.Errorf("a server with another secret shows the key %s", *hidden.Key)
	}
	p.start(t, *shown.Key, "someone")
	if _, err := os.Stat(filepath.Join(dir, "secret.key")); !os.IsNotExist(err) {
		t.Errorf("secret.key was made beside a given secret (%v)", err)
	}
}

func TestUnusableServerSecretIsRefusedWithoutRepeatingIt(t *testing.T) {
	t.Parallel()
	const short = "hunter2-hunter2"
	files := t.TempDir()
	write := func(name, content string) string {
		path := filepath.Join(files, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	missing := filepath.Join(files, "missing")
	for setting, says := range map[string]string{
		"PIKARC_SECRET=" + short:                        "PIKARC_SECRET is too short: it needs at least 32 bytes",
		"PIKARC_SECRET=" + strings.Repeat(" ", 40):      "PIKARC_SECRET is too short: it needs at least 32 bytes",
		"PIKARC_SECRET_FILE=" + write("short", short):   "PIKARC_SECRET is too short: it needs at least 32 bytes",
		"PIKARC_SECRET_FILE=" + write("empty", " \r\n"): "PIKARC_SECRET_FILE",
		"PIKARC_SECRET_FILE=" + missing:                 missing,
	} {
		for _, args := range [][]string{
			{"serve", "--addr", "127.0.0.1:0"},
			{"create-user", "--init", "--email", "ann@example.com", "--password-stdin"},
		} {
			dir := t.TempDir()
			out := invocation{args: append(args, "--data-dir", dir), stdin: password, settings: []string{setting}}.run(t)
			keepsQuiet(t, out.fails(t, 1, says).stderr, short, password)
			if made, err := os.ReadDir(dir); err != nil || len(made) > 0 {
				t.Errorf("%s with %s left %v (%v)", args[0], setting, made, err)
			}
		}
	}
}

func TestSecretFileThatOthersCanReadIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "basic")
	if err := os.Chmod(filepath.Join(dir, "secret.key"), 0o640); err != nil {
		t.Fatal(err)
	}
	run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", dir).fails(t, 1, "secret.key", "chmod 600")
}

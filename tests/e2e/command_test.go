package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var apiKey = regexp.MustCompile(`^lg_[0-9a-f]{8}_[0-9a-f]{64}$`)

// uuidText is an id as the API writes it.
var uuidText = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// onlyObject reads a result that must be one line of JSON with exactly these members.
func onlyObject(t *testing.T, stdout string, members ...string) map[string]string {
	t.Helper()
	if strings.Count(stdout, "\n") != 1 || !strings.HasSuffix(stdout, "\n") {
		t.Fatalf("not one line: %q", stdout)
	}
	got := map[string]string{}
	if err := json.Unmarshal([]byte(stdout), &got); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, slices.Sorted(slices.Values(members))) {
		t.Fatalf("members %v, want %v", names, members)
	}
	return got
}

func TestCreateUserPrintsTheNewAccountAsJSON(t *testing.T) {
	t.Parallel()
	got := onlyObject(t, invocation{
		args: []string{"create-user", "--init", "--data-dir", t.TempDir(), "--email", "Ann@Example.com", "--plan", "scale",
			"--password-stdin", "--json"},
		stdin: password,
	}.run(t).ok(t).stdout, "account_id", "email", "workspace_id", "plan", "api_key")
	if got["email"] != "Ann@Example.com" || got["plan"] != "scale" {
		t.Errorf("got %v", got)
	}
	if !apiKey.MatchString(got["api_key"]) || !uuidText.MatchString(got["account_id"]) || !uuidText.MatchString(got["workspace_id"]) {
		t.Errorf("malformed: %v", got)
	}
}

func TestCreateUserTellsAPersonTheNewKeyAndWorkspace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run(t, "migrate", "--init", "--data-dir", dir).ok(t)
	out := invocation{
		args: []string{"create-user", "--data-dir", dir, "--email", "ann@example.com", "--workspace", "Ann & Co",
			"--plan", "pro", "--password-stdin"},
		settings: []string{"PIKARC_TLS_DOMAIN=agents.example.com", "PIKARC_BASE_PATH=/pikarc"},
		stdin:    password,
	}.run(t).ok(t).stdout
	want := regexp.MustCompile(`^Account +ann@example\.com\nWorkspace +Ann & Co \(pro plan\)\nAPI key +(lg_[0-9a-f]{8}_[0-9a-f]{64})\n` +
		`\nNext:\n  pikarc serve --data-dir ` + regexp.QuoteMeta(dir) + ` +unless the server runs\n` +
		`  https://agents\.example\.com/pikarc/ +sign in with the email and the password\n  Agents send the API key .*\n$`)
	if !want.MatchString(out) {
		t.Errorf("printed %q", out)
	}
}

func TestCreateUserWorksBesideARunningServerAndItsKeyAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	u := createUser(t, dir, "ann@example.com", "pro")
	if d := p.start(t, u.APIKey, "someone"); d.Decision.Outcome != "ALLOW" {
		t.Errorf("the new key's first run: %+v", d)
	}
	var me struct {
		ID        string
		Workspace struct{ ID, Plan string }
	}
	p.call(t, "GET", "/v1/auth/me", p.signIn(t, "ann@example.com"), nil).want(t, http.StatusOK).into(t, &me)
	if me.ID != u.AccountID || me.Workspace.ID != u.WorkspaceID || me.Workspace.Plan != "pro" {
		t.Errorf("the server knows %+v, create-user printed %+v", me, u)
	}
}

// A shell's echo ends the line, printf does not, and Windows ends it in its own way: all mean the same password.
func TestPasswordFromStandardInputIsItsFirstLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := serve(t, dir)
	for i, stdin := range []string{password, password + "\n", password + "\r\n", password + "\nsecond line\n"} {
		email := fmt.Sprintf("user%d@example.com", i)
		invocation{
			args:  []string{"create-user", "--data-dir", dir, "--email", email, "--password-stdin"},
			stdin: stdin,
		}.run(t).ok(t)
		p.signIn(t, email)
	}
}

func TestCreateUserRefusesBadInputAndMakesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args  []string
		stdin string
		code  int
		says  []string
	}{
		"no email":            {args: []string{"--password-stdin"}, stdin: password, code: 2, says: []string{"--email", "--help"}},
		"no address":          {args: []string{"--email", "ann", "--password-stdin"}, stdin: password, code: 2, says: []string{`"ann"`, "email"}},
		"name and address":    {args: []string{"--email", "Ann <ann@example.com>", "--password-stdin"}, stdin: password, code: 2, says: []string{"email"}},
		"unknown plan":        {args: []string{"--email", "ann@example.com", "--plan", "gold", "--password-stdin"}, stdin: password, code: 2, says: []string{"--plan", "basic, pro, scale or enterprise"}},
		"empty workspace":     {args: []string{"--email", "ann@example.com", "--workspace", "", "--password-stdin"}, stdin: password, code: 2, says: []string{"--workspace"}},
		"argument":            {args: []string{"--email", "ann@example.com", "--password-stdin", "extra"}, stdin: password, code: 2, says: []string{"extra"}},
		"password as flag":    {args: []string{"--email", "ann@example.com", "--password", password}, code: 2, says: []string{"--password"}},
		"short password":      {args: []string{"--email", "ann@example.com", "--password-stdin"}, stdin: "seven77\n", code: 1, says: []string{"8 to 1024"}},
		"no password":         {args: []string{"--email", "ann@example.com", "--password-stdin"}, code: 1, says: []string{"8 to 1024"}},
		"neither one nor tty": {args: []string{"--email", "ann@example.com"}, stdin: password, code: 2, says: []string{"--password-stdin"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			out := invocation{args: append([]string{"create-user", "--init", "--data-dir", dir}, c.args...), stdin: c.stdin}.run(t)
			out.fails(t, c.code, c.says...)
			keepsQuiet(t, out.stderr, password, "seven77")
			if _, err := os.Stat(dir); !os.IsNotExist(err) {
				t.Errorf("the data directory was made (%v)", err)
			}
		})
	}
}

// keepsQuiet fails the test if a text holds one of these secrets.
func keepsQuiet(t *testing.T, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("%q shows the secret %q", text, secret)
		}
	}
}

func TestCreateUserRefusesAnEmailThatIsTakenInAnyCase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	first := createUser(t, dir, "ann@example.com", "basic")
	invocation{
		args:  []string{"create-user", "--data-dir", dir, "--email", "ANN@example.com", "--password-stdin"},
		stdin: "another password",
	}.run(t).fails(t, 1, "ANN@example.com", "already registered")
	p := serve(t, dir)
	p.signIn(t, "ann@example.com") // with the first password
	p.call(t, "GET", "/v1/workspace/", first.APIKey, nil).want(t, http.StatusOK)
}

func TestRotatedKeyHoldsForTheServersVeryNextRequest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "basic")
	p := serve(t, dir)
	p.call(t, "GET", "/v1/workspace/", u.APIKey, nil).want(t, http.StatusOK)

	out := run(t, "rotate-key", "--data-dir", dir, "--email", "Ann@Example.com").ok(t)
	second := strings.TrimSuffix(out.stdout, "\n")
	if !apiKey.MatchString(second) || second == u.APIKey {
		t.Fatalf("printed %q, want a new key alone", out.stdout)
	}
	p.call(t, "GET", "/v1/workspace/", u.APIKey, nil).want(t, http.StatusUnauthorized)
	p.call(t, "GET", "/v1/workspace/", second, nil).want(t, http.StatusOK)

	out = run(t, "rotate-key", "--data-dir", dir, "--email", "ann@example.com", "--label", "third", "--json").ok(t)
	third := onlyObject(t, out.stdout, "id", "prefix", "label", "key", "created_at")
	if third["label"] != "third" || !strings.HasPrefix(third["key"], "lg_"+third["prefix"]+"_") || !uuidText.MatchString(third["id"]) {
		t.Errorf("printed %v", third)
	}
	if at, err := time.Parse("2006-01-02T15:04:05.000Z", third["created_at"]); err != nil || time.Since(at).Abs() > patience {
		t.Errorf("created_at is %q (%v)", third["created_at"], err)
	}
	p.call(t, "POST", "/v1/runs/", second, map[string]string{"user_id": "someone"}).want(t, http.StatusUnauthorized)
	p.start(t, third["key"], "someone")
}

func TestSetPlanResetsWhatTheNewPlanLacksBesideARunningServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "scale")
	p := serve(t, dir)
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]any{
		"daily_budget_usd": 7, "user_daily_budget_usd": 5, "max_concurrent_runs": 50,
	}).want(t, http.StatusOK)
	p.call(t, "POST", "/v1/workspace/kill-switch", p.signIn(t, u.Email), map[string]any{"active": true}).want(t, http.StatusOK)
	if d := p.start(t, u.APIKey, "someone"); d.Decision.Reason != "KILL_SWITCH_ACTIVE" {
		t.Fatalf("under the kill switch: %+v", d)
	}

	// The first of the next requests is the decision itself.
	run(t, "set-plan", "--data-dir", dir, "--email", "ann@example.com", "basic").ok(t)
	for i := range 4 {
		want := "ALLOW"
		if i == 3 {
			want = "DENY" // 3 at once, not 50
		}
		if d := p.start(t, u.APIKey, "someone"); d.Decision.Outcome != want {
			t.Errorf("run %d on basic: %+v", i+1, d)
		}
	}
	var w map[string]any
	p.call(t, "GET", "/v1/workspace/", u.APIKey, nil).want(t, http.StatusOK).into(t, &w)
	for name, want := range map[string]any{
		"plan": "basic", "kill_switch": false, "user_daily_budget_usd": nil, "max_concurrent_runs": 3.0, "daily_budget_usd": 7.0,
	} {
		if w[name] != want {
			t.Errorf("%s is %v after the downgrade, want %v", name, w[name], want)
		}
	}

	out := run(t, "set-plan", "--data-dir", dir, "--email", "ann@example.com", "enterprise").ok(t)
	if want := "My workspace: basic -> enterprise\n"; out.stdout != want {
		t.Errorf("printed %q, want %q", out.stdout, want)
	}
	p.call(t, "PATCH", "/v1/workspace/", p.signIn(t, u.Email), map[string]any{"max_concurrent_runs": 50}).want(t, http.StatusOK)
}

func TestCommandsOnAnAccountSayWhichOneIsMissing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "basic")
	for _, command := range [][]string{{"rotate-key"}, {"set-plan", "pro"}} {
		with := func(args ...string) outcome { return run(t, slices.Concat(command, args)...) }
		with("--data-dir", dir, "--email", "bob@example.com").fails(t, 1, "bob@example.com")
		with("--data-dir", dir).fails(t, 2, "--email", "--help")
		elsewhere := filepath.Join(dir, "elsewhere")
		with("--data-dir", elsewhere, "--email", "ann@example.com").fails(t, 1, elsewhere, "--data-dir")
		if _, err := os.Stat(elsewhere); !os.IsNotExist(err) {
			t.Errorf("%s made a data directory (%v)", command[0], err)
		}
	}
}

func TestWrongUsageExitsWithTwoAndSaysWhereToLook(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line string
		says []string
	}{
		{"frobnicate", []string{`"frobnicate"`, "pikarc --help"}},
		{"srve", []string{`"srve". Did you mean serve?`, "pikarc --help"}},
		{"serve --adr :1", []string{"--adr. Did you mean --addr?", "pikarc serve --help"}},
		{"set-plan --mail a@example.com pro", []string{"--mail. Did you mean --email?"}},
		{"migrate --data-dr /x", []string{"--data-dr. Did you mean --data-dir?"}},
		{"serve -x", []string{"-x"}},
		{"--frobnicate", []string{"--frobnicate", "pikarc --help"}},
		{"serve --frobnicate", []string{"--frobnicate", "pikarc serve --help"}},
		{"serve now", []string{`"now"`, "pikarc serve --help"}},
		{"migrate --status=perhaps", []string{"--status", "pikarc migrate --help"}},
		{"rotate-key --email ann@example.com --label=", []string{"--label"}},
		{"set-plan --email ann@example.com", []string{"pikarc set-plan --help"}},
		{"set-plan --email ann@example.com gold", []string{`"gold"`, "basic, pro, scale or enterprise"}},
		{"version 2", []string{`"2"`}},
	} {
		run(t, strings.Fields(c.line)...).fails(t, 2, c.says...)
	}
}

func TestEveryCommandExplainsItsFlags(t *testing.T) {
	t.Parallel()
	commands := map[string][]string{
		"serve":       {"--addr", "--default-plan", "--registration", "--log-format", "--log-level", "--jwt-ttl", "--max-body", "PIKARC_SECRET_FILE"},
		"migrate":     {"--status"},
		"create-user": {"--email", "--workspace", "--plan", "--password-stdin", "--json"},
		"rotate-key":  {"--email", "--label", "--json"},
		"set-plan":    {"--email", "PLAN"},
		"demo":        {"--addr", "--seed"},
		"version":     {},
	}
	root := run(t, "--help").ok(t).stdout
	for command, words := range commands {
		if !strings.Contains(root, "\n  "+command+" ") {
			t.Errorf("pikarc --help does not list %s", command)
		}
		help := run(t, command, "--help").ok(t).stdout
		for _, word := range append(words, "--data-dir", "pikarc "+command) {
			if !strings.Contains(help, word) {
				t.Errorf("pikarc %s --help does not mention %s", command, word)
			}
		}
	}
	if bare := run(t).ok(t).stdout; bare != root {
		t.Errorf("pikarc alone prints %q, not its help", bare)
	}
}

func TestVersionNamesTheBinaryAndItsParts(t *testing.T) {
	t.Parallel()
	want := regexp.MustCompile(`^pikarc ` + regexp.QuoteMeta(builtVersion) + `\ncommit ` + builtCommit + `\ngo1\.\d\S*\nSQLite 3\.\d+\.\d+\n$`)
	if out := run(t, "version").ok(t).stdout; !want.MatchString(out) {
		t.Errorf("printed %q", out)
	}
}

// A container's start script may well begin with all of this at once.
func TestCommandsAndServerMayStartAtOnceOnAFreshDirectory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	const users = 5
	var made [users]newUser
	var group sync.WaitGroup
	for i := range users {
		group.Go(func() {
			out, err := invocation{
				args: []string{"create-user", "--init", "--data-dir", dir, "--email", fmt.Sprintf("user%d@example.com", i),
					"--password-stdin", "--json"},
				stdin: password,
			}.try(context.WithoutCancel(t.Context()))
			if err == nil && (out.code != 0 || out.stderr != "") {
				err = fmt.Errorf("exit code %d: %s", out.code, out.stderr)
			}
			if err == nil {
				err = json.Unmarshal([]byte(out.stdout), &made[i])
			}
			if err != nil {
				t.Errorf("create-user %d: %v", i, err)
			}
		})
	}
	p := serve(t, dir)
	group.Wait()
	if t.Failed() {
		return
	}
	for _, u := range made {
		p.start(t, u.APIKey, "someone")
		// The key is shown only if whoever sealed it had the server's secret.
		var shown struct{ Key string }
		p.call(t, "GET", "/v1/api-keys/", p.signIn(t, u.Email), nil).want(t, http.StatusOK).into(t, &shown)
		if shown.Key != u.APIKey {
			t.Errorf("%s: the server shows the key %q, create-user printed %q", u.Email, shown.Key, u.APIKey)
		}
	}
}

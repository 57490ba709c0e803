package e2e_test

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// registers tries to make an account, and returns the status.
func (p *process) registers(t *testing.T, email string, headers ...string) int {
	t.Helper()
	a, err := send(t.Context(), http.DefaultClient, "POST", p.url+"/v1/auth/register", "",
		map[string]string{"email": email, "password": password}, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return a.status
}

// offers returns what the server says of registration to whom it answers.
func (p *process) offers(t *testing.T) string {
	t.Helper()
	var said struct{ Registration string }
	p.call(t, "GET", "/v1/server", "", nil).want(t, http.StatusOK).into(t, &said)
	return said.Registration
}

func TestRegistrationIsOpenToThisMachineForTheFirstAccount(t *testing.T) {
	t.Parallel()
	const first = "open: somebody on this machine may make the first account"
	for _, c := range []struct {
		flags []string
		says  string
		open  bool // to the first
		more  bool
	}{
		{[]string{"--addr=127.0.0.1:0"}, first, true, false},
		{[]string{"--addr=localhost:0"}, first, true, false},
		{[]string{"--addr=0.0.0.0:0"}, "closed, because others can reach this address", false, false},
		{[]string{"--addr=:0"}, "closed, because others can reach this address", false, false},
		{[]string{"--addr=127.0.0.1:0", "--trusted-proxies=127.0.0.1"}, "closed, because others can reach this address", false, false},
		{[]string{"--addr=127.0.0.1:0", "--public-url=https://agents.example.com"}, "closed, because others can reach this address", false, false},
		{[]string{"--addr=127.0.0.1:0", "--public-url=http://localhost:8000"}, first, true, false},
		{[]string{"--addr=0.0.0.0:0", "--registration=open"}, "open: anyone who can reach this address", true, true},
		{[]string{"--addr=127.0.0.1:0", "--registration=closed"}, "closed\n", false, false},
	} {
		dir := t.TempDir()
		flags := append(c.flags, "--data-dir", dir)
		p := serveWith(t, nil, flags...)
		p.await(t, "says who may register", func() bool { return strings.Contains(p.stdout.String(), "Registration: "+c.says) })
		p.url = "http://127.0.0.1" + p.url[strings.LastIndex(p.url, ":"):]
		word, status := "closed", http.StatusForbidden
		if c.open {
			word, status = "open", http.StatusCreated
		}
		if got := p.offers(t); got != word {
			t.Errorf("%v: registration is %s, want %s", c.flags, got, word)
		}
		if got := p.registers(t, "a@example.com"); got != status {
			t.Errorf("%v: the first was answered %d, want %d", c.flags, got, status)
		}
		if status, word = http.StatusForbidden, "closed"; c.more {
			status, word = http.StatusCreated, "open"
		}
		if got := p.registers(t, "b@example.com"); got != status {
			t.Errorf("%v: the second was answered %d, want %d", c.flags, got, status)
		}
		if got := p.offers(t); got != word {
			t.Errorf("%v: after that registration is %s, want %s", c.flags, got, word)
		}
		p.stop(t)
		if c.says == first {
			again := serveWith(t, nil, flags...)
			again.await(t, "says that it is closed", func() bool {
				return strings.Contains(again.stdout.String(), "Registration: closed, because there is an account")
			})
			again.stop(t)
		}
	}
}

func TestNobodyElsewhereMakesTheFirstAccount(t *testing.T) {
	t.Parallel()
	p := serve(t, t.TempDir())
	for _, header := range []string{"X-Forwarded-For", "X-Real-Ip", "Forwarded", "X-Forwarded-Host", "X-Forwarded-Proto", "Via"} {
		if got := p.registers(t, "a@example.com", header, "x"); got != http.StatusForbidden {
			t.Errorf("with %s it was answered %d", header, got)
		}
	}
	const body = `{"email":"a@example.com","password":"12345678"}`
	for name, line := range map[string]string{
		"HTTP/1.0, as nginx speaks":    "POST /v1/auth/register HTTP/1.0\r\nHost: localhost\r\n",
		"another name, as of a proxy":  "POST /v1/auth/register HTTP/1.1\r\nHost: agents.example.com\r\n",
		"a name that leads here":       "POST /v1/auth/register HTTP/1.1\r\nHost: localhost.example.com:8000\r\n",
		"the address of another place": "POST /v1/auth/register HTTP/1.1\r\nHost: 203.0.113.5\r\n",
	} {
		conn := p.dial(t)
		fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", line, len(body), body)
		if status, _, err := readAnswer(bufio.NewReader(conn)); status != http.StatusForbidden {
			t.Errorf("%s: answered %d, %v", name, status, err)
		}
	}
	for name, location := range map[string]string{
		"plain":              "location / { proxy_pass http://pikarc; }",
		"as localhost":       "location / { proxy_pass http://pikarc; proxy_http_version 1.1; proxy_set_header Host $host; }",
		"with the client":    "location / { proxy_pass http://pikarc; proxy_set_header X-Forwarded-For $remote_addr; }",
		"with its host name": "location / { proxy_pass http://pikarc; proxy_set_header Host $http_host; proxy_http_version 1.1; }",
	} {
		client := behindNginx(t, p, location)
		a, err := send(t.Context(), client, "POST", "http://agents.example.com/v1/auth/register", "",
			map[string]string{"email": "a@example.com", "password": password})
		if err != nil {
			t.Fatal(err)
		}
		if a.status != http.StatusForbidden {
			t.Errorf("nginx, %s: answered %d %s", name, a.status, a.body)
		}
	}
	if got := p.registers(t, "a@example.com"); got != http.StatusCreated {
		t.Errorf("the owner, on this machine, was answered %d", got)
	}
}

// signsInThrough tries to sign in by a proxy, as somebody at an address.
func signsInThrough(t *testing.T, client *http.Client, address, email, password string) answer {
	t.Helper()
	a, err := send(t.Context(), client, "POST", "http://pikarc/v1/auth/login", "",
		map[string]string{"email": email, "password": password}, "X-Client", address)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestFailedSignInsBehindNginxRefuseNobodyElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "basic")
	createUser(t, dir, "bob@example.com", "basic")
	p := serve(t, dir)
	// Not named, and it tells no address: all its clients are one.
	client := behindNginx(t, p, "location / { proxy_pass http://pikarc; }")
	for i := range 10 {
		signsInThrough(t, client, "", fmt.Sprintf("nobody-%d@example.com", i), "wrong password").want(t, http.StatusUnauthorized)
	}
	signsInThrough(t, client, "", "ann@example.com", password).want(t, http.StatusOK)
	for range 10 {
		signsInThrough(t, client, "", "bob@example.com", "wrong password").want(t, http.StatusUnauthorized)
	}
	if wait := signsInThrough(t, client, "", "bob@example.com", password).want(t, http.StatusTooManyRequests).header.Get("Retry-After"); len(wait) != 1 {
		t.Errorf("his right password must wait %q s, want some seconds", wait)
	}
	signsInThrough(t, client, "", "ann@example.com", password).want(t, http.StatusOK)
	p.stop(t)

	named := serve(t, dir, "--trusted-proxies", "127.0.0.1")
	client = behindNginx(t, named, "location / { proxy_pass http://pikarc; proxy_set_header X-Forwarded-For $http_x_client; }")
	for range 10 {
		signsInThrough(t, client, "203.0.113.5", "ann@example.com", "wrong password").want(t, http.StatusUnauthorized)
	}
	signsInThrough(t, client, "203.0.113.5", "ann@example.com", password).want(t, http.StatusTooManyRequests)
	signsInThrough(t, client, "198.51.100.7", "ann@example.com", password).want(t, http.StatusOK)
}

func TestANewWorkspaceHasTheDefaultPlan(t *testing.T) {
	t.Parallel()
	stripe := []string{
		"PIKARC_PUBLIC_URL=http://localhost:8000", "PIKARC_STRIPE_SECRET_KEY=sk_test_1", "PIKARC_STRIPE_WEBHOOK_SECRET=whsec_1",
		"PIKARC_STRIPE_PRICE_PRO=price_1", "PIKARC_STRIPE_PRICE_SCALE=price_2",
		"PIKARC_STRIPE_API_URL=http://127.0.0.1:1", // nobody is there, and nobody is asked in time
	}
	for plan, settings := range map[string][]string{
		"enterprise": nil,
		"basic":      stripe,
		"scale":      append(stripe, "PIKARC_DEFAULT_PLAN=scale"),
	} {
		dir := t.TempDir()
		p := serveWith(t, settings, "--addr", "127.0.0.1:0", "--data-dir", dir)
		var registered struct{ Workspace struct{ Plan string } }
		p.call(t, "POST", "/v1/auth/register", "", map[string]string{"email": "ann@example.com", "password": password}).
			want(t, http.StatusCreated).into(t, &registered)
		made := invocation{
			args:  []string{"create-user", "--data-dir", dir, "--email", "bob@example.com", "--password-stdin", "--json"},
			stdin: password, settings: settings,
		}.run(t).ok(t)
		var u newUser
		answer{body: []byte(made.stdout)}.into(t, &u)
		if registered.Workspace.Plan != plan || u.Plan != plan {
			t.Errorf("with %v, registering gives the plan %s and create-user %s, want %s", settings, registered.Workspace.Plan, u.Plan, plan)
		}
		p.kill()
	}
}

func TestAForgottenPasswordIsSetBesideARunningServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	createUser(t, dir, "ann@example.com", "scale")
	u := createUser(t, dir, "bob@example.com", "basic")
	p := serve(t, dir)
	token := p.signIn(t, "Bob@Example.com")
	login := func(password string) answer {
		return p.call(t, "POST", "/v1/auth/login", "", map[string]string{"email": "bob@example.com", "password": password})
	}
	for range 10 {
		login("wrong password").want(t, http.StatusUnauthorized)
	}
	login(password).want(t, http.StatusTooManyRequests)
	set := invocation{
		args:  []string{"set-password", "--data-dir", dir, "--email", "BOB@example.com", "--password-stdin"},
		stdin: "a new password\n",
	}
	out := set.run(t).ok(t)
	if !strings.Contains(out.stdout, "bob@example.com") || strings.Contains(out.stdout, "a new password") {
		t.Errorf("said %q", out.stdout)
	}
	p.call(t, "GET", "/v1/auth/me", token, nil).want(t, http.StatusUnauthorized)
	var fresh struct {
		AccessToken string `json:"access_token"`
	}
	login("a new password").want(t, http.StatusOK).into(t, &fresh) // and not one of the lockout
	login(password).want(t, http.StatusUnauthorized)
	p.call(t, "GET", "/v1/workspace/", u.APIKey, nil).want(t, http.StatusOK)
	p.signIn(t, "ann@example.com")
	log := p.call(t, "GET", "/v1/audit/?action=account.set_password", fresh.AccessToken, nil).want(t, http.StatusOK)
	if !strings.Contains(string(log.body), `"actor":{"kind":"command","name":"set-password"}`) {
		t.Errorf("the audit log says %s", log.body)
	}
	set.stdin = "short\n"
	set.run(t).fails(t, 1, "8 to 1024 characters", "nothing was changed")
	login("a new password").want(t, http.StatusOK)
	run(t, "set-password", "--data-dir", dir, "--email", "eve@example.com", "--password-stdin").fails(t, 1, "no account with the email eve@example.com")
	run(t, "set-password", "--data-dir", dir, "--password-stdin").fails(t, 2, "--email is required")
	run(t, "set-password", "--data-dir", t.TempDir(), "--email", "a@example.com", "--password-stdin").fails(t, 1, "no database")
}

func TestAccountsAreListedWithTheirWorkspacesAndPlans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, b := createUser(t, dir, "ann@example.com", "scale"), createUser(t, dir, "bob@example.com", "basic")
	lines := strings.Split(run(t, "accounts", "--data-dir", dir).ok(t).stdout, "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "EMAIL ") {
		t.Fatalf("listed %q", lines)
	}
	for i, want := range [][]string{{"ann@example.com", "My workspace", "scale"}, {"bob@example.com", "My workspace", "basic"}} {
		for _, word := range want {
			if !strings.Contains(lines[i+1], word) {
				t.Errorf("line %q does not have %q", lines[i+1], word)
			}
		}
	}
	var listed []map[string]string
	answer{body: []byte(run(t, "accounts", "--data-dir", dir, "--json").ok(t).stdout)}.into(t, &listed)
	for i, want := range []newUser{a, b} {
		got := listed[i]
		if got["account_id"] != want.AccountID || got["workspace_id"] != want.WorkspaceID || got["email"] != want.Email ||
			got["plan"] != want.Plan || got["workspace_name"] != "My workspace" || got["created_at"] == "" {
			t.Errorf("listed %v, want %+v", got, want)
		}
	}
	empty := t.TempDir()
	run(t, "accounts", "--data-dir", empty).fails(t, 1, "no database")
	run(t, "migrate", "--init", "--data-dir", empty)
	if out := run(t, "accounts", "--data-dir", empty, "--json").ok(t); out.stdout != "[]\n" {
		t.Errorf("of none it lists %q", out.stdout)
	}
}

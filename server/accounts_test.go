package server_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

func login(w *world, email, pass string) *response {
	w.t.Helper()
	return w.call("POST", "/v1/auth/login", "", map[string]string{"email": email, "password": pass})
}

func TestANewAccountWorksAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) {
		plan, err := plans.ByID(plans.Pro)
		if err != nil {
			t.Fatal(err)
		}
		cfg.DefaultPlan, cfg.TokenTTL = plan, 90*time.Minute
	})
	r := w.call("POST", "/v1/auth/register", "", `{"email":"Ada@Example.com","password":"pässword"}`).want(http.StatusCreated)
	if r.text("expires_in") != "5400" || r.text("workspace.plan") != "pro" || r.text("workspace.name") != "My workspace" {
		t.Errorf("registration answered %s", r.body)
	}
	token, key := r.text("access_token"), r.text("api_key.key")
	if got := w.call("GET", "/v1/workspace", token, nil).want(http.StatusOK).text("id"); got != r.text("workspace.id") {
		t.Errorf("the token opens workspace %s", got)
	}
	if got := w.call("GET", "/v1/auth/me", token, nil).want(http.StatusOK).text("email"); got != "Ada@Example.com" {
		t.Errorf("the account's email is %s", got)
	}
	w.start(account{key: key}, "someone")
	if got := login(w, "aDA@eXAMPLE.COM", "pässword").want(http.StatusOK).text("access_token"); got == "" {
		t.Error("no token")
	}
	login(w, "ada@example.com", "Pässword").wantDetail(http.StatusUnauthorized, "Incorrect email or password")
	w.clock.advance(90 * time.Minute)
	w.call("GET", "/v1/auth/me", token, nil).wantDetail(http.StatusUnauthorized, "Token has expired")
}

func TestAnEmailIsTakenWhateverTheLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call("POST", "/v1/auth/register", "", `{"email":"ada@example.com","password":"12345678","workspace_name":"A"}`).want(http.StatusCreated)
	for _, email := range []string{"ada@example.com", "ADA@example.COM"} {
		w.call("POST", "/v1/auth/register", "", `{"email":"`+email+`","password":"12345678"}`).
			wantDetail(http.StatusBadRequest, "Email already registered")
	}
	r := w.call("POST", "/v1/auth/register", "", `{"email":"bob@example.com","password":"12345678","workspace_name":"A"}`).want(http.StatusCreated)
	if slug := r.text("workspace.slug"); slug == "a" || !strings.HasPrefix(slug, "a-") {
		t.Errorf("a second workspace named A has the slug %s", slug)
	}
}

func TestClosedRegistrationRefusesEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) { cfg.OpenRegistration = false })
	const closed = "Registration is closed on this server"
	if got := w.call("GET", "/v1/server", "", nil).want(http.StatusOK).text("registration"); got != "closed" {
		t.Errorf("the server says that registration is %s", got)
	}
	w.call("POST", "/v1/auth/register", "", `{"email":"ada@example.com","password":"12345678"}`).wantDetail(http.StatusForbidden, closed)
	w.call("POST", "/v1/auth/register", "", `{}`).wantDetail(http.StatusForbidden, closed)
	login(w, "ada@example.com", "12345678").want(http.StatusUnauthorized)
	login(w, w.account(plans.Basic).email, password).want(http.StatusOK)
}

func TestChangingThePasswordEndsAllEarlierTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	second := login(w, a.email, password).want(http.StatusOK).text("access_token")
	change := func(token, from, to string) *response {
		return w.call("POST", "/v1/auth/change-password", token, map[string]string{"current_password": from, "new_password": to})
	}
	change(a.token, "wrong", "new password").wantDetail(http.StatusBadRequest, "Current password is incorrect")
	w.call("GET", "/v1/auth/me", second, nil).want(http.StatusOK)
	fresh := change(a.token, password, "new password").want(http.StatusOK).text("access_token")
	for _, old := range []string{a.token, second} {
		w.call("GET", "/v1/auth/me", old, nil).wantDetail(http.StatusUnauthorized, "Token is no longer valid")
		change(old, "new password", password).want(http.StatusUnauthorized)
	}
	w.call("GET", "/v1/auth/me", fresh, nil).want(http.StatusOK)
	login(w, a.email, password).want(http.StatusUnauthorized)
	login(w, a.email, "new password").want(http.StatusOK)
	w.start(a, "ada") // the API key is not touched
}

func TestATokenIsTakenOnlyAsThisServerSignedIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.account(plans.Basic), w.account(plans.Basic)
	sign := func(secret string, ws string) string {
		s, err := auth.LoadSecret(t.TempDir(), secret)
		w.must(err)
		token, err := auth.NewTokens(s, time.Hour, w.clock.now).Issue(auth.NewSessionID(), a.id.String(), ws, 1)
		w.must(err)
		return token
	}
	w.call("GET", "/v1/auth/me", sign(testSecret, a.workspaceID.String()), nil).want(http.StatusOK)
	for name, token := range map[string]string{
		"of another server":    sign("the secret of some other server, not ours", a.workspaceID.String()),
		"of another workspace": sign(testSecret, b.workspaceID.String()),
		"of no workspace":      sign(testSecret, "none"),
		"unsigned":             "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + strings.Split(a.token, ".")[1] + ".",
		"cut":                  a.token[:len(a.token)-2],
		"of two":               a.token + "." + a.token,
	} {
		t.Run(name, func(t *testing.T) {
			w.in(t).call("GET", "/v1/auth/me", token, nil).wantDetail(http.StatusUnauthorized, "Invalid token")
		})
	}
}

func TestTheSchemeIsBearerInAnyLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	for _, header := range []string{"Bearer " + a.key, "bearer " + a.token, "BEARER  " + a.key + " "} {
		w.call("GET", "/v1/workspace", "", nil, "Authorization", header).want(http.StatusOK)
	}
	for _, header := range []string{"", " ", "Bearer", "Bearer ", a.key, "Basic " + a.key, "Token " + a.token, "Bearer" + a.key} {
		w.call("GET", "/v1/workspace", "", nil, "Authorization", header).wantDetail(http.StatusUnauthorized, "Not authenticated")
	}
	for _, key := range []string{"lg_", a.key[:len(a.key)-1], a.key + "0", strings.ToUpper(a.key[3:]), a.key + " " + a.key, a.key[:len(a.key)-64] + strings.Repeat("0", 64)} {
		r := w.call("GET", "/v1/workspace", key, nil).want(http.StatusUnauthorized)
		if strings.HasPrefix(key, "lg_") && r.text("detail") != "Invalid API key" {
			t.Errorf("key %d characters long: %s", len(key), r.body)
		}
	}
}

func TestNoProblemRepeatsAPassword(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	const guess = "hunter2!hunter2!"
	for path, body := range map[string]any{
		"/v1/auth/register":        map[string]any{"email": "x", "password": guess, "pasword": guess, "workspace_name": 1},
		"/v1/auth/login":           map[string]any{"password": guess, "extra": guess},
		"/v1/auth/change-password": map[string]any{"current_password": guess, "new_password": strings.Repeat(guess, 100), "old": guess},
	} {
		r := w.call("POST", path, a.token, body).want(http.StatusUnprocessableEntity)
		if strings.Contains(string(r.body), guess) {
			t.Errorf("%s answered %s", path, r.body)
		}
		var entries struct {
			Detail []struct{ Input json.RawMessage }
		}
		if err := json.Unmarshal(r.body, &entries); err != nil || len(entries.Detail) < 2 {
			t.Errorf("%s answered %s", path, r.body)
		}
	}
}

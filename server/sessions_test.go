package server_test

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

const tokenEnded = "Token is no longer valid"

func TestSigningOutEndsThatSessionForTheVeryNextRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	elsewhere := w.another(testSecret) // a second process on the same database
	first := login(w, a.email, password).want(http.StatusOK).text("access_token")
	// in the same second
	second := login(w, a.email, password).want(http.StatusOK).text("access_token")
	for _, on := range []*world{w, elsewhere} {
		on.call("GET", "/v1/auth/me", first, nil).want(http.StatusOK)
	}
	w.call("POST", "/v1/auth/logout", first, nil).want(http.StatusOK)
	for _, on := range []*world{w, elsewhere} {
		on.call("GET", "/v1/auth/me", first, nil).wantDetail(http.StatusUnauthorized, tokenEnded)
		on.call("PATCH", "/v1/workspace", first, `{"name":"x"}`).wantDetail(http.StatusUnauthorized, tokenEnded)
		on.call("POST", "/v1/auth/logout", first, nil).wantDetail(http.StatusUnauthorized, tokenEnded)
		on.call("GET", "/v1/auth/me", second, nil).want(http.StatusOK)
	}
	w.start(a, "ada") // the API key is not touched
}

func TestSigningOutEverywhereEndsAllSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.account(plans.Basic), w.account(plans.Basic)
	elsewhere := w.another(testSecret)
	first := login(w, a.email, password).want(http.StatusOK).text("access_token")
	second := login(elsewhere, a.email, password).want(http.StatusOK).text("access_token")
	w.call("POST", "/v1/auth/logout-everywhere", first, nil).want(http.StatusOK)
	for _, on := range []*world{w, elsewhere} {
		for _, token := range []string{a.token, first, second} {
			on.call("GET", "/v1/auth/me", token, nil).wantDetail(http.StatusUnauthorized, tokenEnded)
		}
		on.call("GET", "/v1/auth/me", b.token, nil).want(http.StatusOK)
	}
	fresh := login(w, a.email, password).want(http.StatusOK).text("access_token")
	w.call("GET", "/v1/auth/me", fresh, nil).want(http.StatusOK)
	w.start(a, "ada")
}

func TestEndedSessionsAreDeletedOnceTheirTokensHaveExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	for range 120 { // more than one chunk deletes
		w.call("POST", "/v1/auth/logout", login(w, a.email, password).text("access_token"), nil).want(http.StatusOK)
	}
	w.clock.advance(tokenTTL + 24*time.Hour - time.Second)
	if _, err := w.store.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`SELECT count(*) FROM ended_sessions`); n != 120 {
		t.Errorf("%d are left a day after the tokens' end, want all", n)
	}
	w.clock.advance(time.Second)
	if _, err := w.store.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := w.count(`SELECT count(*) FROM ended_sessions`); n != 0 {
		t.Errorf("%d are left after that", n)
	}
}

func TestAPasswordThatWasSetAnewHasNoFailuresAndNoSessions(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	failTen(w, "203.0.113.5", a.email)
	elsewhere := w.another(testSecret) // as `set-password` is
	elsewhere.must(elsewhere.store.SetPassword(t.Context(), a.id, cheapHash()))
	login(w, a.email, password).want(http.StatusOK)
	w.call("GET", "/v1/auth/me", a.token, nil).wantDetail(http.StatusUnauthorized, tokenEnded)
}

func TestAStreamEndsWithItsSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	first := login(w, a.email, password).want(http.StatusOK).text("access_token")
	second := login(w, a.email, password).want(http.StatusOK).text("access_token")
	ofFirst, ofSecond := w.stream(first), w.stream(second)
	w.call("POST", "/v1/auth/logout", first, nil).want(http.StatusOK)
	ofFirst.ended()
	w.call("PUT", "/v1/blocked-users/after", second, nil).want(http.StatusOK)
	ofSecond.until("config.changed", func(r *response) bool { return r.text("what") == "users" })
	w.call("POST", "/v1/auth/logout-everywhere", second, nil).want(http.StatusOK)
	ofSecond.ended()
}

// sessionsOf lists what an account sees of its sessions.
func (w *world) sessionsOf(token string) (agents []string, ids map[string]string) {
	w.t.Helper()
	ids = make(map[string]string)
	for _, item := range w.call("GET", "/v1/auth/sessions", token, nil).want(http.StatusOK).get("items").([]any) {
		session := item.(map[string]any)
		agent := session["agent"].(string)
		if session["current"].(bool) {
			agent += ", current"
		}
		agents = append(agents, agent)
		ids[session["agent"].(string)] = session["id"].(string)
	}
	return agents, ids
}

// signIn makes a session of a browser, and returns its token.
func (w *world) signIn(a account, agent string) string {
	w.t.Helper()
	w.clock.advance(time.Second) // the latest comes first
	body := `{"email":"` + a.email + `","password":"` + password + `"}`
	return w.call("POST", "/v1/auth/login", "", body, "User-Agent", agent).want(http.StatusOK).text("access_token")
}

func TestSessionsAreListedAndEndedOneByOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a, b := w.account(plans.Basic), w.account(plans.Basic)
	laptop, phone := w.signIn(a, "laptop\u202e\t"), w.signIn(a, "phone")
	want := func(token string, want ...string) map[string]string {
		t.Helper()
		agents, ids := w.sessionsOf(token)
		if !slices.Equal(agents, want) {
			t.Errorf("it lists %q, want %q", agents, want)
		}
		return ids
	}
	ids := want(laptop, "phone", "laptop, current", "a browser")
	want(b.token, "a browser, current")
	// Another's session is none.
	w.call("DELETE", "/v1/auth/sessions/"+ids["phone"], b.token, nil).wantDetail(http.StatusNotFound, "Session not found")
	elsewhere := w.another(testSecret)
	elsewhere.call("DELETE", "/v1/auth/sessions/"+ids["phone"], laptop, nil).want(http.StatusOK)
	for _, on := range []*world{w, elsewhere} {
		on.call("GET", "/v1/auth/me", phone, nil).wantDetail(http.StatusUnauthorized, tokenEnded)
		on.call("DELETE", "/v1/auth/sessions/"+ids["phone"], laptop, nil).wantDetail(http.StatusNotFound, "Session not found")
	}
	want(laptop, "laptop, current", "a browser")
	w.call("POST", "/v1/auth/logout", a.token, nil).want(http.StatusOK)
	want(laptop, "laptop, current")
	w.clock.advance(tokenTTL - time.Second)
	last := w.signIn(a, "last")
	w.clock.advance(time.Second)
	want(last, "last, current") // the other has expired
}

func TestSigningOutElsewhereLeavesTheSessionThatAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	laptop, phone := w.signIn(a, "laptop"), w.signIn(a, "phone")
	ofPhone := w.stream(phone)
	fresh := w.call("POST", "/v1/auth/logout-others", laptop, nil).want(http.StatusOK).text("access_token")
	for _, ended := range []string{laptop, phone, a.token} {
		w.call("GET", "/v1/auth/me", ended, nil).wantDetail(http.StatusUnauthorized, tokenEnded)
	}
	ofPhone.ended()
	if agents, _ := w.sessionsOf(fresh); !slices.Equal(agents, []string{"laptop, current"}) {
		t.Errorf("it lists %q", agents)
	}
	// A new password does the same, and the session stays the one that began.
	body := `{"current_password":"` + password + `","new_password":"another battery"}`
	changed := w.call("POST", "/v1/auth/change-password", fresh, body, "User-Agent", "laptop, updated").want(http.StatusOK).text("access_token")
	if agents, _ := w.sessionsOf(changed); !slices.Equal(agents, []string{"laptop, current"}) {
		t.Errorf("it lists %q after a new password", agents)
	}
}

func TestASessionSaysWhenItWasLastUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	laptop := w.signIn(a, "laptop")
	phone := w.signIn(a, "phone")
	usedAt := func(on *world) any {
		return on.call("GET", "/v1/auth/sessions", phone, nil).want(http.StatusOK).get("items").([]any)[1].(map[string]any)["last_used_at"]
	}
	w.clock.advance(10 * time.Minute)
	before := usedAt(w)
	w.call("GET", "/v1/auth/me", laptop, nil).want(http.StatusOK)
	after := usedAt(w)
	if want := "2026-11-23T07:18:00.000Z"; after != want {
		t.Errorf("last used at %v and then at %v, want %v", before, after, want)
	}
	// Other processes know once it is written.
	elsewhere := w.another(testSecret)
	if got := usedAt(elsewhere); got != before {
		t.Errorf("elsewhere it was last used at %v, want %v", got, before)
	}
	_, err := w.store.RecordKeyUse(t.Context())
	w.must(err)
	if got := usedAt(elsewhere); got != after {
		t.Errorf("elsewhere it was last used at %v, want %v", got, after)
	}
}

// Only a password begins a session anew, and a session that has ended meanwhile ends no other.
func TestSigningOutElsewhereProlongsNoSession(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	laptop := w.signIn(a, "laptop")
	lives := func(r *response) time.Duration {
		seconds, err := strconv.Atoi(r.text("expires_in"))
		w.must(err)
		return time.Duration(seconds) * time.Second
	}
	whole := lives(w.call("POST", "/v1/auth/login", "", `{"email":"`+a.email+`","password":"`+password+`"}`).want(http.StatusOK))
	w.clock.advance(time.Hour)
	again := w.call("POST", "/v1/auth/logout-others", laptop, nil).want(http.StatusOK)
	if got := lives(again); got != whole-time.Hour {
		t.Errorf("an hour later it lives for %v, want %v", got, whole-time.Hour)
	}
	fresh := again.text("access_token")
	claims, err := w.tokens().Parse(fresh)
	w.must(err)
	session := storage.NewSession{ID: claims.Session, Expires: claims.ExpiresAt}
	// As if its call had begun before.
	if _, err := w.store.EndOtherSessions(t.Context(), a.id, claims.Version-1, session); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("of a version before: %v", err)
	}
	w.call("POST", "/v1/auth/logout", fresh, nil).want(http.StatusOK)
	if _, err := w.store.EndOtherSessions(t.Context(), a.id, claims.Version, session); !errors.Is(err, storage.ErrNotFound) {
		t.Errorf("of a session that has ended: %v", err)
	}
}

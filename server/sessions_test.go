package server_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
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

package server_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// loginFrom signs in from an address, as the proxy tells it.
func loginFrom(w *world, address, email, password string) *response {
	return w.call("POST", "/v1/auth/login", "", map[string]string{"email": email, "password": password}, "X-Forwarded-For", address)
}

// wantSlowedDown ends the test unless the attempt must wait, for so many seconds.
func wantSlowedDown(t *testing.T, r *response, wait int) {
	t.Helper()
	r.wantDetail(http.StatusTooManyRequests, fmt.Sprintf("Too many failed attempts. Try again in %d s.", wait))
	if got := r.header.Get("Retry-After"); got != strconv.Itoa(wait) {
		t.Errorf("Retry-After is %s, want %d", got, wait)
	}
}

// failTen sends as many wrong passwords as are taken at once.
func failTen(w *world, address, email string) {
	w.t.Helper()
	for range 10 {
		loginFrom(w, address, email, "wrong").wantDetail(http.StatusUnauthorized, "Incorrect email or password")
	}
}

func TestTenFailedLoginsSlowDownTheEmailFromTheirNetworkOnly(t *testing.T) {
	t.Parallel()
	w := newWorld(t, behindProxy)
	a, b := w.account(plans.Basic), w.account(plans.Basic)
	for range 9 {
		loginFrom(w, "203.0.113.5", strings.ToUpper(a.email), "wrong").want(http.StatusUnauthorized)
	}
	loginFrom(w, "203.0.113.5", a.email, "wrong").want(http.StatusUnauthorized)
	wantSlowedDown(t, loginFrom(w, "203.0.113.5", a.email, password), 8)
	wantSlowedDown(t, loginFrom(w, "203.0.113.77", a.email, password), 8) // the same /24
	loginFrom(w, "203.0.113.5", b.email, password).want(http.StatusOK)    // another's email
	loginFrom(w, "203.0.114.5", a.email, password).want(http.StatusOK)    // the owner, elsewhere
	w.clock.advance(8*time.Second - time.Millisecond)
	wantSlowedDown(t, loginFrom(w, "203.0.113.5", a.email, password), 1)
	w.clock.advance(time.Millisecond)
	loginFrom(w, "203.0.113.5", a.email, "wrong").want(http.StatusUnauthorized) // one at a time
	wantSlowedDown(t, loginFrom(w, "203.0.113.5", a.email, password), 8)
	w.clock.advance(15 * time.Minute)
	failTen(w, "203.0.113.5", a.email) // all is forgotten
}

func TestARightPasswordNeverWaitsMoreThanSeconds(t *testing.T) {
	t.Parallel()
	w := newWorld(t) // all come from one address, as behind a proxy that is not named
	a := w.account(plans.Basic)
	for range 100 {
		if r := login(w, a.email, "wrong"); r.status == http.StatusTooManyRequests {
			w.clock.advance(8 * time.Second)
		}
	}
	w.clock.advance(8 * time.Second)
	login(w, a.email, password).want(http.StatusOK)
	login(w, a.email, password).want(http.StatusOK) // a right one costs nothing
}

func TestAnAddressThatHasSignedInPassesItsNeighboursFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, behindProxy)
	a := w.account(plans.Basic)
	for known, neighbour := range map[string]string{"203.0.113.9": "203.0.113.5", "2001:db8::1": "2001:db8::2"} {
		loginFrom(w, known, a.email, password).want(http.StatusOK)
		failTen(w, neighbour, a.email)
		if known == "203.0.113.9" {
			loginFrom(w, known, a.email, password).want(http.StatusOK)
		} else { // a /64 is one customer's
			wantSlowedDown(t, loginFrom(w, known, a.email, password), 8)
		}
	}
	failTen(w, "203.0.113.9", a.email) // what it may itself is bounded
	wantSlowedDown(t, loginFrom(w, "203.0.113.9", a.email, password), 8)
	w.clock.advance(181 * 24 * time.Hour) // it is forgotten
	failTen(w, "203.0.113.5", a.email)
	wantSlowedDown(t, loginFrom(w, "203.0.113.9", a.email, password), 8)
}

func TestFailuresForManyEmailsSlowTheirNetworkDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t, behindProxy)
	a, b := w.account(plans.Basic), w.account(plans.Basic)
	loginFrom(w, "203.0.113.9", a.email, password).want(http.StatusOK)
	for i := range 100 {
		loginFrom(w, "203.0.113.5", fmt.Sprintf("nobody-%d@example.com", i), "wrong").want(http.StatusUnauthorized)
	}
	wantSlowedDown(t, loginFrom(w, "203.0.113.5", b.email, password), 1)
	loginFrom(w, "203.0.113.9", a.email, password).want(http.StatusOK) // who is known there
	loginFrom(w, "203.0.114.5", b.email, password).want(http.StatusOK)
	w.clock.advance(time.Second)
	loginFrom(w, "203.0.113.5", b.email, password).want(http.StatusOK)
}

func TestFailuresOfStrangersBehindAnUnnamedProxyRefuseNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	for i := range 120 {
		loginFrom(w, "203.0.113.5", fmt.Sprintf("nobody-%d@example.com", i), "wrong").want(http.StatusUnauthorized)
	}
	loginFrom(w, "198.51.100.7", a.email, password).want(http.StatusOK)
	if n := strings.Count(w.logs.String(), "name it with --trusted-proxies"); n != 1 {
		t.Errorf("the unnamed proxy was told %d times", n)
	}
}

func TestAnUnnamedProxyIsToldBesideNamedOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(cfg *server.Config) { cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	w.call("GET", "/health", "", nil, "X-Forwarded-For", "203.0.113.5").want(http.StatusOK)
	if !strings.Contains(w.logs.String(), "name it with --trusted-proxies") {
		t.Error("nothing was told")
	}
	named := newWorld(t, behindProxy)
	named.call("GET", "/health", "", nil, "X-Forwarded-For", "10.1.2.3").want(http.StatusOK) // a client in the proxy's own network
	if strings.Contains(named.logs.String(), "name it with --trusted-proxies") {
		t.Error("a named proxy was told")
	}
}

func TestUnknownEmailsAreLimitedLikeKnownOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, behindProxy)
	failTen(w, "203.0.113.5", "nobody@example.com")
	wantSlowedDown(t, loginFrom(w, "203.0.113.6", "nobody@example.com", "wrong"), 8)
}

func TestParallelGuessesCannotExceedTheLimit(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	const guesses, limit = 40, 10
	for _, attempt := range []struct{ path, credential string }{
		{"/v1/auth/login", ""},
		{"/v1/auth/change-password", a.token},
	} {
		statuses := make(chan int, guesses)
		var group sync.WaitGroup
		for range guesses {
			group.Go(func() {
				body := map[string]string{"email": a.email, "password": "wrong"}
				if attempt.credential != "" {
					body = map[string]string{"current_password": "wrong", "new_password": "another battery"}
				}
				r, err := w.try("POST", attempt.path, attempt.credential, body)
				if err != nil {
					t.Error(err)
					return
				}
				statuses <- r.status
			})
		}
		group.Wait()
		close(statuses)
		count := make(map[int]int)
		for status := range statuses {
			count[status]++
		}
		if count[http.StatusTooManyRequests] != guesses-limit {
			t.Errorf("%d parallel guesses at %s were answered %v", guesses, attempt.path, count)
		}
	}
}

func TestFailuresToChangeThePasswordAreLimitedAndAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	w.clock.advance(time.Second)
	change := func(token, current string) *response {
		body := map[string]string{"current_password": current, "new_password": "another battery"}
		return w.call("POST", "/v1/auth/change-password", token, body)
	}
	change(a.token, "wrong").wantDetail(http.StatusBadRequest, "Current password is incorrect")
	r := w.call("GET", "/v1/audit?limit=1", a.token, nil).want(http.StatusOK)
	if r.text("items.0.action") != "account.change_password_failed" || r.text("items.0.actor.name") != a.email || r.text("items.0.target") != a.email {
		t.Errorf("left %s", r.body)
	}
	for range 20 { // failures of others to sign in do not count for who is signed in
		login(w, a.email, "wrong")
	}
	for range 9 {
		change(a.token, "wrong").want(http.StatusBadRequest)
	}
	wantSlowedDown(t, change(a.token, password), 8)
	if n := w.count(`SELECT count(*) FROM audit_entries WHERE action = 'account.change_password_failed'`); n != 10 {
		t.Errorf("%d failures are recorded, want 10", n)
	}
	w.clock.advance(8 * time.Second)
	fresh := change(a.token, password).want(http.StatusOK).text("access_token")
	login(w, a.email, "another battery").want(http.StatusOK) // a new password has no failures
	change(fresh, "wrong").want(http.StatusBadRequest)
}

package server_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// behindProxy has the server believe what comes from this machine, as it does of a proxy.
func behindProxy(cfg *server.Config) {
	cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
}

func TestOnlyATrustedProxyIsBelievedAboutTheAddress(t *testing.T) {
	t.Parallel()
	for forwarded, want := range map[string]string{
		"":                                     "127.0.0.1",
		"203.0.113.7":                          "203.0.113.7",
		"198.51.100.1, 203.0.113.7":            "203.0.113.7", // the first is the client's own invention
		"203.0.113.7, 10.1.2.3":                "203.0.113.7", // two proxies of ours
		"10.9.9.9, 10.1.2.3":                   "10.9.9.9",    // a client in our own network
		"203.0.113.7:4711":                     "203.0.113.7",
		"[2001:db8::7]:4711":                   "2001:db8::7",
		"2001:db8::7, fd00::1":                 "2001:db8::7",
		"::ffff:203.0.113.7":                   "203.0.113.7",
		"203.0.113.7, nonsense":                "127.0.0.1",
		"nonsense, 10.1.2.3":                   "10.1.2.3",
		"203.0.113.7,":                         "127.0.0.1",
		"1.1.1.1' OR 1=1 --":                   "127.0.0.1",
		strings.Repeat("1.1.1.1,", 5000) + "x": "127.0.0.1",
	} {
		for trusting, want := range map[bool]string{true: want, false: "127.0.0.1"} {
			w := newWorld(t, func(cfg *server.Config) {
				if trusting {
					behindProxy(cfg)
				}
			})
			a := w.account(plans.Basic)
			w.clock.advance(time.Second)
			w.call("PUT", "/v1/blocked-users/ada", a.token, nil, "X-Forwarded-For", forwarded).want(http.StatusOK)
			if got := w.call("GET", "/v1/audit?limit=1", a.key, nil).text("items.0.address"); got != want {
				t.Errorf("trusting %v, X-Forwarded-For %.60q is taken for %s, want %s", trusting, forwarded, got, want)
			}
			if !strings.Contains(w.logs.String(), "remote="+want) {
				t.Errorf("the access log does not have %s", want)
			}
		}
	}
}

// Whatever is sent, the address is the connection's own, or one that the header
// holds behind nothing but proxies of ours.
func FuzzClientAddress(f *testing.F) {
	for _, said := range []string{"", "203.0.113.7", "1.2.3.4, 10.0.0.1:80", "[2001:db8::7]:1, fd00::1", "::ffff:10.0.0.1,x", ",", "fe80::1%eth0"} {
		f.Add(said)
	}
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, said string) {
		ours, foreign := netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("192.0.2.1")
		r := &http.Request{Header: http.Header{"X-Forwarded-For": {said}}, RemoteAddr: netip.AddrPortFrom(foreign, 80).String()}
		if got := server.ClientAddress(r, trusted); got != foreign {
			t.Errorf("a stranger who says %q is taken for %s", said, got)
		}
		r.RemoteAddr = netip.AddrPortFrom(ours, 80).String()
		got := server.ClientAddress(r, trusted)
		if !got.IsValid() || got.Is4In6() || got.Zone() != "" {
			t.Errorf("%q is taken for %s, which has another spelling", said, got)
		}
		// Whatever a client puts before what the proxies say changes nothing, once they have named a stranger.
		r.Header.Set("X-Forwarded-For", "198.51.100.1,"+said)
		if again := server.ClientAddress(r, trusted); !trusted[0].Contains(got) && again != got {
			t.Errorf("with an address before %q, %s becomes %s", said, got, again)
		}
	})
}

func TestARateIsKeptAndGivenBackWithTime(t *testing.T) {
	t.Parallel()
	w := newWorld(t, behindProxy, func(cfg *server.Config) { cfg.RatePerAddress = 5 })
	from := func(address string) *response { return w.call("GET", "/health", "", nil, "X-Forwarded-For", address) }
	for range 10 { // twice the rate at once
		from("203.0.113.7").want(http.StatusOK)
	}
	for range 20 { // what is turned away takes nothing
		r := from("203.0.113.7").wantDetail(http.StatusTooManyRequests, "Too many requests from this address. Nothing was recorded; slow down.")
		if got := r.header.Get("Retry-After"); got != "1" {
			t.Errorf("Retry-After is %q", got)
		}
	}
	from("203.0.113.8").want(http.StatusOK)
	for i := range 10 { // one customer has a whole /64
		from(fmt.Sprintf("2001:db8:1:2::%x", i)).want(http.StatusOK)
	}
	from("2001:db8:1:2:3:4:5:6").want(http.StatusTooManyRequests)
	from("2001:db8:1:3::1").want(http.StatusOK)
	w.clock.advance(200 * time.Millisecond)
	from("203.0.113.7").want(http.StatusOK)
	from("203.0.113.7").want(http.StatusTooManyRequests)
}

func TestAKeyHasARateOfItsOwnThatOnlyItsOwnerUses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, behindProxy, func(cfg *server.Config) { cfg.RatePerKey = 3 })
	a, other := w.account(plans.Scale), w.account(plans.Scale)
	path := func(i int) []string { return []string{"X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i)} }
	for i := range 50 { // who knows the prefix, which is public, gets nowhere
		w.call("GET", "/v1/usage", a.key[:len(a.key)-1]+"x", nil, path(i)...).want(http.StatusUnauthorized)
	}
	for i := range 6 {
		w.call("POST", "/v1/runs", a.key, `{"user_id":"u"}`, path(i)...).want(http.StatusCreated)
	}
	runs := w.count(`SELECT count(*) FROM runs`)
	w.call("POST", "/v1/runs", a.key, `{"user_id":"u"}`, path(7)...).
		wantDetail(http.StatusTooManyRequests, "Too many requests from this API key. Nothing was recorded; slow down.")
	if got := w.count(`SELECT count(*) FROM runs`); got != runs {
		t.Error("a call that was turned away left a run")
	}
	w.call("POST", "/v1/runs", other.key, `{"user_id":"u"}`, path(7)...).want(http.StatusCreated)
	w.call("GET", "/v1/runs", a.token, nil, path(7)...).want(http.StatusOK)
	for range 50 { // an agent beside its server
		w.call("GET", "/v1/usage", a.key, nil).want(http.StatusOK)
	}
}

func TestAProxyThatIsNotNamedIsHintedAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for range 3 {
		w.call("GET", "/health", "", nil, "X-Forwarded-For", "203.0.113.7").want(http.StatusOK)
	}
	if got := strings.Count(w.logs.String(), "--trusted-proxies"); got != 1 {
		t.Errorf("the log hints %d times at a proxy", got)
	}
}

package notify

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"
)

// What the operating system and Go say of a network is for programmers: people read what happened
// and what to look at.
func TestWhyAMessageWasNotTakenIsSaidInWords(t *testing.T) {
	t.Parallel()
	quiet := func(s *httptest.Server) *httptest.Server {
		s.Config.ErrorLog = log.New(io.Discard, "", 0)
		t.Cleanup(s.Close)
		return s
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	plain := quiet(httptest.NewServer(http.NotFoundHandler()))
	secure := quiet(httptest.NewTLSServer(http.NotFoundHandler()))
	hangsUp := quiet(httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		panic(http.ErrAbortHandler)
	})))
	overTLS := func(s *httptest.Server) string { return "https" + s.URL[len("http"):] }
	trusting := newClient(true, 5*time.Second)
	trusting.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: secure.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
	for name, c := range map[string]struct {
		url, want string
		client    *http.Client
	}{
		"nothing there": {gone.URL, "nothing listens at " + gone.Listener.Addr().String() + ": is it running, and is the port right?", nil},
		"no TLS":        {overTLS(plain), "it does not speak TLS there: check the port of the URL", nil},
		"self-signed":   {secure.URL, "its certificate is from no authority that this server trusts", nil},
		"another name": {
			"https://localhost:" + portOf(t, secure.URL), "its certificate is for another name: check the URL", trusting,
		},
		"hangs up":  {hangsUp.URL, "it closed the connection without an answer", nil},
		"forbidden": {plain.URL, "127.0.0.1 is not a public address: the server sends there only with --webhook-private", newClient(false, time.Second)},
		"not found": {plain.URL, "answered 404: nothing takes messages there; check the URL", nil},
	} {
		client := c.client
		if client == nil {
			client = newClient(true, 5*time.Second)
		}
		s := &Sender{client: client}
		a := s.post(t.Context(), request{url: c.url, header: http.Header{}, body: []byte("{}")})
		if a.problem != c.want {
			t.Errorf("%s: %q, want %q", name, a.problem, c.want)
		}
	}
	// What no test of one machine can bring about.
	for want, err := range map[string]error{
		"nobody has the name hooks.exmaple.com: check it for a typing error":              &net.DNSError{Name: "hooks.exmaple.com", IsNotFound: true},
		"the name hooks.example.com could not be looked up: check the DNS of this server": &net.DNSError{Name: "hooks.example.com", Err: "server misbehaving"},
		"something new": errors.New("something new"),
	} {
		if got := reasonOf(&url.Error{Op: "Post", URL: "https://secret", Err: err}); got != want {
			t.Errorf("%v is said as %q, want %q", err, got, want)
		}
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

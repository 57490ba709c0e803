package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	standin "github.com/pikarc/server/testdata/stripe"
)

// The path may be said by either setting, or by both alike.
func TestServeBelowABasePath(t *testing.T) {
	t.Parallel()
	for name, settings := range map[string][]string{
		"a path":                {"PIKARC_BASE_PATH=/pikarc"},
		"a path, written so":    {"PIKARC_BASE_PATH=pikarc/"},
		"the path of an URL":    {"PIKARC_PUBLIC_URL=http://localhost:8000/pikarc/"},
		"both":                  {"PIKARC_PUBLIC_URL=http://localhost:8000/pikarc", "PIKARC_BASE_PATH=/pikarc"},
		"an URL without a path": {"PIKARC_PUBLIC_URL=http://localhost:8000", "PIKARC_BASE_PATH=/pikarc"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := serveWith(t, settings, "--addr", "127.0.0.1:0", "--data-dir", t.TempDir())
			at, err := url.Parse(p.url)
			if err != nil || at.Path != "/pikarc" || !strings.Contains(p.stdout.String(), "Dashboard: "+p.url+"/ ") {
				t.Fatalf("it says %q", &p.stdout)
			}
			p.call(t, "GET", "/v1/server", "", nil).want(t, http.StatusOK)
			if page := string(p.call(t, "GET", "/overview", "", nil).want(t, http.StatusOK).body); !strings.Contains(page, `href="/pikarc/`) {
				t.Errorf("the page is\n%s", page)
			}
			invocation{args: []string{"health", "--addr", at.Host}, settings: settings}.run(t).ok(t)
		})
	}
}

func TestABasePathThatCannotBeServedIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, args := range [][]string{
		{"--base-path", "/v1"}, {"--base-path", "/runs/x"}, {"--base-path", "/a b"}, {"--base-path", "/../x"},
		{"--base-path", "/a", "--public-url", "https://example.com/b"}, {"--public-url", "https://example.com/assets"},
	} {
		run(t, append([]string{"serve", "--addr", "127.0.0.1:0", "--data-dir", dir}, args...)...).fails(t, 2, args[0])
	}
}

// Whoever has paid comes back to the page of plans, not to what lies above it.
func TestStripeSendsPeopleBackBelowTheBasePath(t *testing.T) {
	t.Parallel()
	stripe := standin.New(time.Now)
	t.Cleanup(stripe.Close)
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "basic")
	p := serveWith(t, append(sellerSettings(stripe), "PIKARC_BASE_PATH=/pikarc"), "--addr", "127.0.0.1:0", "--data-dir", dir)
	var page struct{ URL string }
	p.call(t, "POST", "/v1/billing/checkout", p.signIn(t, u.Email), map[string]string{"plan": "pro"}).want(t, http.StatusOK).into(t, &page)
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	paid, err := send(t.Context(), client, "POST", page.URL, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	want := "https://agents.example.com/pikarc/plan?checkout=done"
	if got := paid.header.Get("Location"); got != want {
		t.Errorf("Stripe sends back to %q, want %q", got, want)
	}
}

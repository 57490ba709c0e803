package links_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/server/links"
)

func secret(t *testing.T, text string) auth.Secret {
	t.Helper()
	s, err := auth.LoadSecret(t.TempDir(), text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestALinkSaysWhatWasSealedAndNothingElseOpens(t *testing.T) {
	ours, other := secret(t, "a secret of the tests, long enough to be taken"), secret(t, "another secret, as long as the first one is")
	l := links.Link{
		Workspace: 7, Expires: 1 << 40, Review: uuid.New(), Endpoint: uuid.New(), Address: links.AddressOf("https://a.example"), Approve: true,
	}
	text, err := l.Seal(ours)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := links.Open(ours, text); err != nil || got != l {
		t.Errorf("opened %+v, %v", got, err)
	}
	again, err := l.Seal(ours)
	if err != nil || again == text {
		t.Errorf("sealed twice, it is %q twice (%v)", again, err)
	}
	elsewhere, err := ours.Seal("something else", "another purpose")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := links.Open(other, text); !errors.Is(err, auth.ErrCannotOpen) {
		t.Errorf("under another secret: %v", err)
	}
	for _, forged := range []string{"", text[1:], text + "A", text[:50] + "\n" + text[50:], string(elsewhere)} {
		if got, err := links.Open(ours, forged); !errors.Is(err, auth.ErrCannotOpen) || got != (links.Link{}) {
			t.Errorf("%q opened %+v, %v", forged, got, err)
		}
	}
}

func TestAPageRunsNothingAndShowsTextsAsTheyAre(t *testing.T) {
	p := links.Page{Title: "<t>", Text: "&", Asks: true, MaxNote: 10, Input: links.Input([]byte(`{"a":"</pre>` + "\u202e" + `"}`))}
	p.Add("Wants to", "\u2066\u0000<b>")
	p.Add("Nothing", "")
	html, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"&lt;t&gt;", `\u{202e}`, `\u{2066}\u{0}&lt;b&gt;`, "&lt;/pre&gt;", `maxlength="10" required`} {
		if !strings.Contains(string(html), want) {
			t.Errorf("without %q: %s", want, html)
		}
	}
	for _, bad := range []string{"<script", "javascript:", "Nothing", "http://", "https://"} {
		if strings.Contains(string(html), bad) {
			t.Errorf("with %q: %s", bad, html)
		}
	}
	if policy := links.SecurityPolicy(); strings.Contains(policy, "unsafe") || !strings.Contains(policy, "default-src 'none'") {
		t.Error(policy)
	}
}

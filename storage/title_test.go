package storage

import (
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/pikarc/server/guard"
)

func TestTitleIsTheFirstWordsOfWhatARunDoes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 30)
	for _, c := range []struct{ metadata, want string }{
		{``, ""},
		{`{}`, ""},
		{`{"n":1,"list":["a"],"inner":{"title":"x"}}`, ""},
		{`{"agent":"a","query":"q","goal":"g","prompt":"p","name":"n","task":"t","title":"T"}`, "T"},
		{`{"agent":"a","query":"q","goal":"g","prompt":"p","name":"n","task":"t"}`, "t"},
		{`{"agent":"a","query":"q","goal":"g","prompt":"p","name":"n"}`, "n"},
		{`{"agent":"a","query":"q","goal":"g","prompt":"p"}`, "p"},
		{`{"agent":"a","query":"q","goal":"g"}`, "g"},
		{`{"agent":"a","query":"q"}`, "q"},
		{`{"ticket":"T-7","agent":"a"}`, "a"},
		{`{"ticket":"T-7","channel":"mail"}`, "T-7"},
		{`{"title":null,"task":["x"],"name":7,"channel":"mail"}`, "mail"},
		{`{"title":" \n ","task":"t"}`, "t"},
		{`{"a":"","b":"second"}`, "second"},
		{`{"title":"  one\t\ttwo\r\n three\u0007four\u2003five  "}`, "one two three four five"},
		{`{"title":"<b>&amp; \u202e 日本 🚀"}`, "<b>&amp; \u202e 日本 🚀"},
		{`{"title":"` + strings.Repeat("x", 120) + `"}`, strings.Repeat("x", 120)},
		{`{"title":"` + strings.Repeat("x", 121) + `"}`, strings.Repeat("x", 119) + "…"},
		{`{"title":"` + long + `"}`, strings.TrimSpace(strings.Repeat("word ", 23)) + "…"},
		{`{"title":"` + strings.Repeat("é", 1000) + `"}`, strings.Repeat("é", 119) + "…"},
	} {
		if got := titleOf([]byte(c.metadata)); got != c.want {
			t.Errorf("%s\n got %q\nwant %q", c.metadata, got, c.want)
		}
	}
}

func TestTitleIsNeverTooLongNorUnfolded(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		title := firstWordsOf(rapid.StringOfN(rapid.RuneFrom([]rune("ab \t\n\u00a0é🚀\u0000")), 0, 300, -1).Draw(r, "text"))
		if n := utf8.RuneCountInString(title); n > maxTitle {
			r.Errorf("%d characters", n)
		}
		if title != strings.Join(strings.Fields(title), " ") || strings.ContainsAny(title, "\x00\u00a0") {
			r.Errorf("%q is not folded", title)
		}
	})
}

func TestTitleIsListedAndRead(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	a, err := w.StartRun(t.Context(), Caller{Workspace: ws}, NewRun{UserID: "u", Metadata: []byte(`{"task":"Sort the mail"}`)}, guard.Decide)
	w.must(err)
	w.Advance(1e9)
	w.start(ws, "u")
	runs, _, err := w.Runs(t.Context(), ws, RunFilter{Limit: 2})
	w.must(err)
	if runs[0].Title != "" || runs[1].Title != "Sort the mail" {
		t.Errorf("titles %q and %q", runs[0].Title, runs[1].Title)
	}
	d, err := w.Run(t.Context(), ws, a.ID, "")
	w.must(err)
	if d.Title != "Sort the mail" {
		t.Errorf("title %q", d.Title)
	}
	if n := w.number(`SELECT count(*) FROM runs WHERE title IS NULL`); n != 1 {
		t.Errorf("%d runs without title are stored as null, want 1", n)
	}
}

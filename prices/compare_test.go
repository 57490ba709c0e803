package prices_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/prices"
)

func parsed(t *testing.T, text string) *prices.Catalogue {
	t.Helper()
	c, err := prices.ParseCatalogue(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCatalogsAreComparedByWhatTheyChargeNow(t *testing.T) {
	before := parsed(t, "version set 1.9 a\nprovider p\tP\nsame\tin=1 out=2\ngone\tin=1 out=1\nup\tin=1 out=3\nfree\tin=1 out=1\n"+
		"jump\tin=1 out=1\ndated\tin=1 out=1; 2026-06-01 in=2 out=2; @batch in=1 out=1\n")
	after := parsed(t, "version set 1.10 b\nprovider p\tP\nsame\tin=1 out=2\nup\tin=2 out=3\nfree\tin=0 out=1\n"+
		"jump\tin=1 out=3.1\ndated\tin=1 out=1; 2026-06-01 in=2 out=2; @batch in=1 out=0.9\nnew\tin=10001 out=1\n")
	got := prices.Compare(before, after, time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC))
	want := []prices.Change{
		{Model: "p/dated@batch", Before: "in=1 out=1", After: "in=1 out=0.9"},
		{Model: "p/free", Before: "in=1 out=1", After: "in=0 out=1", Doubt: "fell to zero"},
		{Model: "p/gone", Before: "in=1 out=1"},
		{Model: "p/jump", Before: "in=1 out=1", After: "in=1 out=3.1", Doubt: "moved more than 3 ×"},
		{Model: "p/new", After: "in=10001 out=1", Doubt: "above $0.01 a token"},
		{Model: "p/up", Before: "in=1 out=3", After: "in=2 out=3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestOlderComparesReleasesOfOneDataSet(t *testing.T) {
	of := func(version string) *prices.Catalogue {
		return parsed(t, "version "+version+"\nprovider p\tP\nm\tin=1 out=1\n")
	}
	for _, c := range []struct {
		mine, other string
		want        bool
	}{
		{"set 1.9 x", "set 1.10 y", true}, {"set 1.10 x", "set 1.9 y", false}, {"set 1.9 x", "set 1.9 y", false},
		{"set 1.9", "set 1.9.1", true}, {"ours 1", "set 2 y", false}, {"ours", "ours 2", false},
	} {
		if got := of(c.mine).Older(of(c.other)); got != c.want {
			t.Errorf("%q is older than %q: %v", c.mine, c.other, got)
		}
	}
}

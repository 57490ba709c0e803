package storage

import (
	"fmt"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/plans"
)

func TestTheLatestAddressesOfAnAccountAreRemembered(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.accountOf(w.workspace(plans.Basic))
	signIn := func() *NewSession { return &NewSession{ID: auth.NewSessionID(), Expires: w.Now().Add(time.Hour)} }
	knows := func(address string) bool {
		known, err := w.HasSignedInFrom(t.Context(), a.ID, address)
		w.must(err)
		return known
	}
	w.must(w.SignedIn(t.Context(), a, "198.51.100.1/32", nil)) // a failure proves nothing
	if knows("198.51.100.1/32") {
		t.Error("it knows an address of which it has seen a failure only")
	}
	for i := range addressesRemembered + 5 {
		w.Advance(time.Second)
		w.must(w.SignedIn(t.Context(), a, fmt.Sprintf("203.0.113.%d/32", i), signIn()))
	}
	if n := w.number(`SELECT count(*) FROM sign_in_addresses`); n != addressesRemembered {
		t.Errorf("it remembers %d addresses, want %d", n, addressesRemembered)
	}
	for i, want := range map[int]bool{0: false, 4: false, 5: true, addressesRemembered + 4: true} {
		if got := knows(fmt.Sprintf("203.0.113.%d/32", i)); got != want {
			t.Errorf("it knows address %d: %v, want %v", i, got, want)
		}
	}
	w.Advance(addressMemory + time.Second)
	if knows("203.0.113.50/32") {
		t.Error("it knows an address of more than half a year ago")
	}
	w.must(w.SignedIn(t.Context(), a, "203.0.113.50/32", signIn()))
	if n := w.number(`SELECT count(*) FROM sign_in_addresses`); n != 1 {
		t.Errorf("%d addresses are kept, want the one of today", n)
	}
}

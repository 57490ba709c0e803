package suite

import (
	"os"
	"testing"
)

// Clients of different languages keep their reports in one directory, and none
// loses those of another.
func TestClientsShareADirectory(t *testing.T) {
	s := newServer(t, os.Getenv("PIKARC_BINARY"))
	p := newProxy(t, "http://"+s.addr)
	all := make(map[string]*driver)
	for name, command := range drivers(t) {
		all[name] = startDriver(t, command)
	}
	for keeps, keeper := range all {
		for delivers, other := range all {
			t.Run(keeps+" keeps, "+delivers+" delivers", func(t *testing.T) {
				s.t = t
				in := input{
					BaseURL: p.URL, APIKey: s.key, JournalDir: t.TempDir(), User: keeps + "-" + delivers,
					Calls: []string{"model"}, Timeout: 10,
				}
				p.set([]*fault{{Kind: "503", Method: "PATCH"}})
				if got := keeper.drive(t, in); got.Journal != 1 || got.Error != "" {
					t.Fatalf("it reports %+v", got)
				}
				p.set(nil)
				other.drive(t, in) // its run delivers what it finds
				in.Calls = nil
				if got := keeper.drive(t, in); got.Journal != 0 {
					t.Errorf("%d reports wait", got.Journal)
				}
				want := books{[]string{"COMPLETED", "COMPLETED"}, []string{"COMPLETED", "COMPLETED"}, 1200}
				if got := s.books(in.User); got.String() != want.String() {
					t.Errorf("the server knows %s, want %s", got, want)
				}
			})
		}
	}
}

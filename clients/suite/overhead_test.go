package suite

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"
)

var (
	calls = flag.Int("calls", 20, "that TestWhatAGuardedCallCosts times of each client")
	most  = flag.Duration("most", time.Minute, "that a guarded call may take beyond its two requests, at the median")
)

// A guarded call is two requests and a little more: how much, by each client's
// own way to make requests, in turns so that both have the same machine.
func TestWhatAGuardedCallCosts(t *testing.T) {
	s := newServer(t, os.Getenv("PIKARC_BINARY"))
	gocalls := filepath.Join(t.TempDir(), "gocalls")
	s.run(".", "go", "build", "-o", gocalls, "./overhead/gocalls")
	python := func(kind string) []string {
		path := "PYTHONPATH=" + os.Getenv("PYTHONPATH")
		return []string{"env", path, drivers(t)["python-sync"][0], "overhead/python_calls.py", kind}
	}
	for name, command := range map[string][]string{
		"Python, async": python("async"),
		"Python, sync":  python("sync"),
		"TypeScript":    {"node", "overhead/typescript_calls.mjs"},
		"Go":            {gocalls},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			out := s.run(".", command[0], append(command[1:], strconv.Itoa(*calls))...)
			var got struct {
				Beside        string
				Bare, Guarded []float64
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if len(got.Bare) != *calls || len(got.Guarded) != *calls {
				t.Fatalf("%d and %d calls", len(got.Bare), len(got.Guarded))
			}
			bare, guarded := at(got.Bare, 0.5), at(got.Guarded, 0.5)
			t.Logf("%s: p50 %v, p99 %v; guarded p50 %v, p99 %v: %v more at p50",
				got.Beside, bare, at(got.Bare, 0.99), guarded, at(got.Guarded, 0.99), guarded-bare)
			if guarded-bare > *most {
				t.Errorf("a guarded call takes %v beyond its requests, %v at most", guarded-bare, *most)
			}
		})
	}
}

// at is a quantile of times in seconds.
func at(seconds []float64, quantile float64) time.Duration {
	slices.Sort(seconds)
	s := seconds[min(len(seconds)-1, int(quantile*float64(len(seconds))))]
	return time.Duration(s * float64(time.Second)).Round(time.Microsecond)
}

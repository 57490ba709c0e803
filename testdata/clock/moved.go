package cli

import (
	"os"
	"strings"
	"time"
)

// now takes the place of cli/clock.go in the binary that the fault tests build: the
// machine's clock, moved by what the file says at the moment.
func now() time.Time {
	text, err := os.ReadFile(os.Getenv("MOVED_CLOCK"))
	if err != nil {
		panic(err)
	}
	d, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		panic(err)
	}
	return time.Now().Add(d)
}

package cli

import "time"

// now is the clock that every package is given. The fault tests build the binary
// with another file in place of this one (faults_clock_test.go).
func now() time.Time { return time.Now() }

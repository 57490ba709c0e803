package cli

import "time"

// now is the clock that every package is given. The fault tests build the binary with
// faults_clock_test.go in place of this file.
func now() time.Time { return time.Now() }

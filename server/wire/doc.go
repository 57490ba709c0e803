// Package wire is the JSON that answers and events share: how ids, times and limits are written, a
// decision, a run, a step, and sums of usage.
//
// What agents get all the time is appended by hand, without reflection.
//
//   - append.go: answers, decisions and steps, by hand
//   - run.go and totals.go: runs and sums
//   - values.go: times, texts and limits that may be null
//   - lines.go: a payload in one line, for outlines
package wire

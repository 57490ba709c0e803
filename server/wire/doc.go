// Package wire is the JSON that answers and events share: how ids, times and
// limits are written, a decision, a run, a step, and sums of usage.
package wire

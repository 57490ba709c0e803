// Package policies holds what a workspace sets up for itself beside the rules of package guard:
// which steps and runs a policy is about, what its expression says of one, what its limit counts
// and in which windows. It is pure: it reads no clock, no database and no network, and the same
// facts give the same answer.
//
// It alone knows CEL, the language of a policy's `when`. A policy is parsed (Parse), compiled with
// the others of its workspace (Compile), matched against a call (Set.Matching), and its condition
// evaluated (Rule.Holds). What follows from that is decided in package guard.
//
//   - policy.go: Policy, its effects, measures and windows
//   - parse.go, fields.go and payload.go: a policy from JSON, with all problems at once
//   - invalid.go: those problems
//   - write.go: a policy as JSON
//   - set.go: the compiled policies of a workspace
//   - index.go: which of them match a call
//   - facts.go and tags.go: what is known of a call, and tags from metadata
//   - expression.go, check.go and cost.go: compiling a condition, what we refuse beyond CEL's own
//     checks, and what it may cost
//   - money.go: amounts of money as a type of CEL
//   - pieces.go: time cut by the clocks of a zone, for charts
//   - windows.go: the buckets of a limit's window
//   - repeats.go: counting how often an action was repeated
//   - backtest.go and result.go: what policies would have said of the past
//   - ready.go: policies to begin with
package policies

// Package policies holds what a workspace sets up for itself beside the rules
// of package guard: which steps and runs a policy is about, what its expression
// says of one, what its limit counts and in which windows. It is pure: it reads
// no clock, no database and no network, and the same facts give the same answer.
//
// It alone knows CEL, the language of a policy's `when`.
package policies

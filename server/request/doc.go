// Package request reads and checks what callers send: bodies, queries and paths.
//
// What is wrong with a request is collected as problems, so that one 422 answer names all of them;
// an input that a problem repeats never holds a secret. A report of an agent is read leniently:
// what cannot be kept is repaired, and named.
//
// A reader, such as Object.String, returns the zero value after a problem, so a handler reads all
// fields first and asks Err once.
//
//   - body.go: reading a body within its limits
//   - jsontext.go, jsontoken.go and jsondeep.go: a JSON scanner that copies nothing; its fast path
//     is for shallow values
//   - integer.go: integers exactly as they were written
//   - object.go and fields.go: the members of a body, read strictly
//   - report.go: those of a report, read leniently
//   - compact.go: payloads as they are stored
//   - query.go: query parameters and parts of the path
//   - problems.go: the problems of a 422
//   - redact.go: what is masked where an answer repeats an input
package request

// Package request reads and checks what callers send: bodies, queries and paths.
//
// What is wrong with a request is collected as problems, so that one 422 answer
// names all of them; an input that a problem repeats never holds a secret. A
// report of an agent is read generously: what cannot be kept is repaired, and
// named.
package request

// Package limit keeps what callers may use within bounds: requests a second,
// attempts to prove a password, and open connections.
package limit

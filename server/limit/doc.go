// Package limit keeps what callers may use within bounds: requests a second, attempts to prove a
// password, and open connections. It remembers a bounded number of callers, so that nobody can fill
// its memory by calling from many addresses.
//
//   - rate.go: requests a second, for each address or key
//   - login.go: attempts to prove a password
//   - connections.go and connection.go: open connections, and which one makes room for another
//   - names.go: counting the headers of a connection without parsing it
//   - network.go: which addresses are one caller
package limit

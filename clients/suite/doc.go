// Package suite runs one set of behaviours against every client: the cases are
// data (cases.json), each client has a driver that carries a case out, and a
// proxy between client and server injects faults. The server is the real one.
package suite

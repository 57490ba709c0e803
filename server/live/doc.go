// Package live publishes what was committed to open event streams. The store's writer hands changes
// to the hub, which merges them by workspace into feeds, and gives the same encoded events to every
// stream of a workspace.
//
// The writer never waits for a reader. A stream that is too slow is ended, and its client connects
// again and reads the current state: events only say what has changed, so missing some loses
// nothing.
//
//   - hub.go: one goroutine that collects changes, encodes events and dispatches them
//   - feed.go: what has changed in one workspace since the last events
//   - stream.go: one client's stream
package live

// Package live publishes what was committed to open event streams. The store's writer
// hands changes to the hub, which merges them by workspace into feeds, and gives
// the same encoded events to every stream of a workspace.
package live

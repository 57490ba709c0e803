//go:build !linux

package storage

// networkFileSystem is known on Linux only.
func networkFileSystem(string) string { return "" }

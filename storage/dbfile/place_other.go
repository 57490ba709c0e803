//go:build !linux

package dbfile

// networkFileSystem is known on Linux only.
func networkFileSystem(string) string { return "" }

// freeBytes is known on Linux only.
func freeBytes(string) (n int64, known bool) { return 0, false }

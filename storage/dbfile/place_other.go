//go:build !linux

package dbfile

// networkFileSystem is known on Linux only.
func networkFileSystem(string) string { return "" }

// Disk is known on Linux only.
func Disk(string) (free, size int64, known bool) { return 0, 0, false }

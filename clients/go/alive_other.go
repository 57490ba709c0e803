//go:build !unix

package pikarc

import "os"

// isAlive reports whether a process of this machine runs.
func isAlive(pid int) bool {
	_, err := os.FindProcess(pid)
	return err == nil
}

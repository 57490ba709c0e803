//go:build unix

package pikarc

import "syscall"

// isAlive reports whether a process of this machine runs.
func isAlive(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || err == syscall.EPERM
}

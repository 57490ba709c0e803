//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package pikarc

import (
	"errors"
	"os"
	"syscall"
)

// lock locks a file until it is closed, or the process ends, and reports whether
// nobody else has. On a file system without locks nobody has.
func lock(f *os.File) bool {
	err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	return !errors.Is(err, syscall.EWOULDBLOCK)
}

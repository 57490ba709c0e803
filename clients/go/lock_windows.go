package pikarc

import (
	"errors"
	"os"
	"syscall"
	"unsafe"
)

// lock locks a file until it is closed, or the process ends, and reports whether
// nobody else has: a byte far beyond its end, since what is locked cannot be read.
func lock(f *os.File) bool {
	const (
		failImmediately, exclusive = 1, 2
		violation                  = syscall.Errno(33) // ERROR_LOCK_VIOLATION
	)
	at := syscall.Overlapped{OffsetHigh: 1 << 16}
	lockFileEx := syscall.NewLazyDLL("kernel32.dll").NewProc("LockFileEx")
	ok, _, err := lockFileEx.Call(f.Fd(), failImmediately|exclusive, 0, 1, 0, uintptr(unsafe.Pointer(&at)))
	return ok != 0 || !errors.Is(err, violation)
}

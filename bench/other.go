//go:build !linux

// Command bench needs Linux: it reads /proc and uses epoll.
package main

import (
	"fmt"
	"os"
)

// main explains why there is nothing to run.
func main() {
	fmt.Fprintln(os.Stderr, "the bench runs on Linux only: it reads /proc and uses epoll")
	os.Exit(1)
}

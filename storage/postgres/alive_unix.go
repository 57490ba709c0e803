//go:build unix

package postgres

import (
	"bytes"
	"crypto/tls"
	"errors"
	"net"
	"syscall"
)

// hungUp reports whether the server has ended a connection on which nothing is
// under way. It looks at what has come in, and waits for nothing.
func hungUp(conn net.Conn) (gone bool) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	s, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	// Control and not Read: pgx may have a reader of its own waiting on the
	// connection since a write was slow, and would keep Read out for ever.
	err = raw.Control(func(fd uintptr) {
		var came [512]byte
		n, _, err := syscall.Recvfrom(int(fd), came[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR):
		case err != nil || n == 0:
			gone = true
		default: // an error that nobody has caused ends the connection, and so does a notice of the server's end
			gone = came[0] == 'E' || bytes.Contains(came[:n], []byte("\x00C57P0"))
		}
	})
	return gone || err != nil
}

package postgres

import (
	"context"
	"errors"
	"net"
	"runtime"
	"testing"
	"time"
)

// connected is a connection over the loopback, and its other end.
func connected(t *testing.T) (here, there net.Conn) {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if here, err = (&net.Dialer{}).DialContext(t.Context(), "tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if there, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _, _ = here.Close(), there.Close(), ln.Close() })
	return here, there
}

// pgx leaves a reader waiting on a connection after a slow write. The look at the
// connection must not wait for it.
func TestTheLookAtAConnectionWaitsForNoReader(t *testing.T) {
	here, _ := connected(t)
	reads := make(chan struct{})
	go func() {
		close(reads)
		_, _ = here.Read(make([]byte, 1)) // ends with the connection
	}()
	<-reads
	looked := make(chan bool)
	go func() {
		gone := false
		for range 1000 { // the reader waits by one of them
			gone = gone || hungUp(here)
			runtime.Gosched()
		}
		looked <- gone
	}()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	select {
	case gone := <-looked:
		if gone {
			t.Error("the connection is there, and said to be gone")
		}
	case <-ctx.Done():
		t.Fatal("the look waits for the reader")
	}
}

func TestAConnectionThatTheServerHasEndedIsGone(t *testing.T) {
	for name, end := range map[string]func(net.Conn) error{
		"closed":         net.Conn.Close,
		"told the cause": func(c net.Conn) error { _, err := c.Write([]byte("E\x00\x00\x00\x04")); return err },
		"told of a crash": func(c net.Conn) error {
			_, err := c.Write([]byte("N\x00\x00\x00\x1aSWARNING\x00VWARNING\x00C57P02\x00\x00"))
			return errors.Join(err, c.Close())
		},
	} {
		here, there := connected(t)
		if hungUp(here) {
			t.Errorf("%s: gone before", name)
		}
		if err := end(there); err != nil {
			t.Fatal(err)
		}
		gone := false
		for began := time.Now(); !gone && time.Since(began) < time.Minute; runtime.Gosched() {
			gone = hungUp(here)
		}
		if !gone {
			t.Errorf("%s: it is said to be there", name)
		}
	}
}

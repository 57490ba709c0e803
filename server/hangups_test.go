package server_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/pikarc/server/plans"
)

// Who asks and hangs up, over and over and without any credential, stops nobody.
func TestHangUpsByTheTenThousandStopNobody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	run := w.start(a, "someone")
	addr := strings.TrimPrefix(w.url, "http://")
	hangUp := func(credential, path string, i int) error {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		if i%2 == 0 { // a reset, which the server hears of at once
			err = conn.(*net.TCPConn).SetLinger(0)
		}
		if err == nil {
			_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, credential)
		}
		if closeErr := conn.Close(); err == nil {
			err = closeErr
		}
		return err
	}
	stranger := "lg_00000000_" + strings.Repeat("0", 64)
	const callers, calls = 8, 2_500
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			credential, path := stranger, "/v1/runs/"
			if caller%2 == 1 {
				credential, path = a.key, "/v1/runs/"+run
			}
			for i := range calls {
				if err := hangUp(credential, path, i); err != nil {
					t.Errorf("call %d: %v", i, err)
					return
				}
			}
		})
	}
	group.Wait()
	for range 100 {
		w.call("GET", "/v1/runs/"+run, stranger, nil).want(http.StatusUnauthorized)
		w.call("GET", "/v1/runs/"+run, a.key, nil).want(http.StatusOK)
	}
	w.call("GET", "/health/ready", "", nil).want(http.StatusOK)
}

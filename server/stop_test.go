package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What each of these clients does keeps a plain http.Server from stopping.
func TestAStopWaitsForNobodyWhoSendsOrReadsNothing(t *testing.T) {
	t.Parallel()
	const (
		post  = " HTTP/1.1\r\nHost: pikarc\r\nContent-Length: 100\r\n"
		get   = " HTTP/1.1\r\nHost: pikarc\r\n"
		known = "Authorization: Bearer KEY\r\n"
	)
	soon, grace := [2]time.Duration{0, time.Second}, [2]time.Duration{2 * time.Second, 2*time.Second + time.Millisecond}
	for name, c := range map[string]struct {
		says  string
		reads bool
		stops [2]time.Duration
	}{
		"silent":                          {"", true, soon},
		"half a header":                   {"GET /health HTTP/1.1\r\nHost", true, soon},
		"half a body":                     {"POST /v1/auth/login" + post + "\r\n{", true, soon},
		"half a body, key missing":        {"POST /v1/runs" + post + "\r\n{", true, soon},
		"half a body, key unknown":        {"POST /v1/runs" + post + "Authorization: Bearer lg_x\r\n\r\n{", true, soon},
		"half a body for no such page":    {"POST /nowhere" + post + "\r\n{", true, soon},
		"no reader":                       {"GET /openapi.json" + get + "\r\n", false, soon},
		"no reader who is known":          {"GET /v1/workspace" + get + known + "\r\n", false, soon},
		"no reader of events":             {"GET /v1/events" + get + known + "\r\n", false, soon},
		"half a body of somebody known":   {"POST /v1/runs" + post + known + "\r\n{", true, grace},
		"an answered one that is idle":    {"GET /health" + get + "\r\n", true, soon},
		"a reader of events who is known": {"GET /v1/events" + get + known + "\r\n", true, soon},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, network *pipes, other patient) {
				network.stops = c.stops
				conn := network.dial()
				t.Cleanup(func() { conn.Close() })
				if c.reads {
					go func() { _, _ = io.Copy(io.Discard, conn) }()
				}
				if _, err := io.WriteString(conn, strings.ReplaceAll(c.says, "KEY", other.key)); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
			})
		})
	}
}

func TestAStopLetsAKnownCallerFinish(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, network *pipes, other patient) {
		network.stops = [2]time.Duration{time.Second, 2 * time.Second}
		conn := network.dial()
		body := `{"user_id":"someone"}`
		fmt.Fprintf(conn, "POST /v1/runs HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", other.key, len(body))
		synctest.Wait()
		answered := make(chan struct{})
		t.Cleanup(func() { <-answered })
		go func() {
			defer close(answered)
			defer conn.Close()
			time.Sleep(time.Second) // after the stop has begun
			if _, err := io.WriteString(conn, body); err != nil {
				t.Error(err)
			}
			if status, err := firstLine(conn); err != nil || !strings.Contains(status, " 201 ") {
				t.Errorf("answered %q, %v", status, err)
			}
		}()
	})
}

func firstLine(conn net.Conn) (string, error) { return bufio.NewReader(conn).ReadString('\n') }

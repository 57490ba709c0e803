package server_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialStream opens a stream on a connection of its own, and reads its hello.
func dialStream(t *testing.T, network *pipes, credential string) (net.Conn, *bufio.Reader) {
	t.Helper()
	conn := network.dial()
	if _, err := fmt.Fprintf(conn, "GET /v1/events HTTP/1.1\r\nHost: pikarc\r\nAuthorization: Bearer %s\r\n\r\n", credential); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("the stream answered %v, %v", answer, err)
	}
	body := bufio.NewReader(answer.Body)
	if e, _, err := readEvent(body); err != nil || e.name != "hello" {
		t.Fatalf("the stream began with %v, %v", e, err)
	}
	return conn, body
}

func TestAStreamOutlivesTheTimeoutsOfRequests(t *testing.T) {
	inBubble(t, func(t *testing.T, network *pipes, other patient) {
		conn, body := dialStream(t, network, other.key)
		defer conn.Close()
		began := time.Now()
		for comments := 1; comments <= 20; comments++ {
			line, err := body.ReadString('\n')
			if err != nil || line != ":\n" {
				t.Fatalf("after %v came %q, %v", time.Since(began), line, err)
			}
			if waited := time.Since(began); waited != time.Duration(comments)*15*time.Second {
				t.Errorf("comment %d came after %v", comments, waited)
			}
			if _, err := body.Discard(1); err != nil {
				t.Fatal(err)
			}
		}
		asked, told := time.Now(), make(chan string)
		go func() {
			e, _, err := readEvent(body)
			told <- fmt.Sprintf("%s, error %v, after %v", e.name, err, time.Since(asked))
		}()
		other.start(t)
		if got := <-told; got != "run.started, error <nil>, after 0s" {
			t.Errorf("the start was told as %s", got)
		}
	})
}

func TestAStreamEndsWhenItsTokenExpires(t *testing.T) {
	inBubble(t, func(t *testing.T, network *pipes, other patient) {
		conn, body := dialStream(t, network, other.token)
		defer conn.Close()
		began := time.Now()
		if _, err := io.Copy(io.Discard, body); err != nil {
			t.Errorf("the stream broke off: %v", err)
		}
		if lived := time.Since(began); lived < time.Minute-time.Second || lived > time.Minute+15*time.Second {
			t.Errorf("the stream of a token of a minute lived %v", lived)
		}
	})
}

func TestASlowReaderOfAStreamIsCutOffAndKeepsNobodyWaiting(t *testing.T) {
	for name, pause := range map[string]time.Duration{
		"few events":  time.Second, // its first frame is not taken for ten seconds
		"many events": 100 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, network *pipes, other patient) {
				slow, rest := dialStream(t, network, other.key)
				defer slow.Close()
				quick, events := dialStream(t, network, other.key)
				defer quick.Close()
				seen := make(chan int)
				go func() {
					n := 0
					for {
						e, _, err := readEvent(events)
						if err != nil {
							seen <- n
							return
						}
						if strings.HasPrefix(e.name, "run.") {
							n++
						}
					}
				}()
				const starts = 40
				for range starts {
					other.start(t)
					time.Sleep(pause)
				}
				time.Sleep(time.Second)
				if _, err := io.Copy(io.Discard, rest); err == nil {
					t.Error("the slow reader's stream was not broken off")
				}
				_ = quick.Close()
				if n := <-seen; n != starts {
					t.Errorf("beside the slow reader, another was told of %d starts of %d", n, starts)
				}
			})
		})
	}
}

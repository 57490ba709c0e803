//go:build linux

package load

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// script repeats a GET, and fails when told to.
type script struct{ fails error }

func (s script) Next(buf []byte) ([]byte, int) {
	return append(buf, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"...), 3
}

func (s script) Answer(status int, body []byte) error {
	if status != http.StatusOK || len(body) != bodySize {
		return errors.New("another answer")
	}
	return s.fails
}

const bodySize = 30_000 // more than a connection's first buffer

// serve counts the requests it answers.
func serve(t *testing.T) (addr string, asked *atomic.Int64) {
	asked = &atomic.Int64{}
	body := []byte(strings.Repeat("x", bodySize))
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.Header().Set("Content-Length", "30000")
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), asked
}

func TestEveryRequestIsWaitedForAndCounted(t *testing.T) {
	addr, asked := serve(t)
	r, err := Run(t.Context(), Options{
		Addr: addr, Scripts: []Script{script{}, script{}, script{}}, Warm: 20 * time.Millisecond, For: 60 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	if r.Answers[3] != asked.Load() || r.Answers[3] == 0 {
		t.Errorf("%d answers of %d requests", r.Answers[3], asked.Load())
	}
	if n := r.Measured[3].Count(); n == 0 || n >= r.Answers[3] {
		t.Errorf("%d of %d answers are measured: those of the warming up must not be", n, r.Answers[3])
	}
	if r.Elapsed > 60*time.Millisecond || r.Elapsed == 0 {
		t.Errorf("measured for %v", r.Elapsed)
	}
}

func TestALoadEndsAtItsCountOrStop(t *testing.T) {
	addr, _ := serve(t)
	two := []Script{script{}, script{}}
	r, err := Run(t.Context(), Options{Addr: addr, Scripts: two, For: time.Minute, Count: 10})
	if err != nil || r.Answers[3] < 10 || r.Answers[3] > 11 {
		t.Errorf("%d answers, %v", r.Answers[3], err)
	}
	if _, err := Run(t.Context(), Options{Addr: addr, Scripts: two, For: time.Minute, Stop: func() bool { return true }}); err != nil {
		t.Error(err)
	}
}

func TestAWrongAnswerEndsTheLoadWithItsError(t *testing.T) {
	addr, _ := serve(t)
	wrong := errors.New("wrong")
	if _, err := Run(t.Context(), Options{Addr: addr, Scripts: []Script{script{wrong}}, For: time.Minute}); !errors.Is(err, wrong) {
		t.Errorf("%v", err)
	}
}

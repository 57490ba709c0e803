package agent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/pikarc/server/bench/load"
)

const (
	run  = "01936f2e-8a3b-7c4d-9e5f-000000000001"
	step = "01936f2e-8a3b-7c4d-9e5f-000000000002"
)

// play answers the next requests of a script and returns them in short.
func play(t *testing.T, s load.Script, n int) (asked []string) {
	t.Helper()
	for range n {
		request, kind := s.Next(nil)
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
		if err != nil {
			t.Fatalf("%v\n%s", err, request)
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || int64(len(body)) != r.ContentLength || len(body) > 0 && !json.Valid(body) {
			t.Errorf("%v: the body is not JSON of %d bytes: %s", err, r.ContentLength, body)
		}
		if r.Host != "localhost:1" || r.Header.Get("Authorization") != "Bearer key" || !bytes.HasSuffix(request, body) {
			t.Errorf("%s", request)
		}
		asked = append(asked, r.Method+" "+r.URL.String())
		status, id := http.StatusOK, ""
		switch kind {
		case Start:
			status, id = http.StatusCreated, run
		case Step:
			status, id = http.StatusCreated, step
		}
		answer := fmt.Sprintf(`{"id":"%s","decision":{"outcome":"ALLOW"}}`, id)
		if err := s.Answer(status, []byte(answer)); err != nil {
			t.Fatal(err)
		}
	}
	return asked
}

func TestALifeIsAStartFourPatchedStepsAndAnEnd(t *testing.T) {
	s := Life(Server{"localhost:1", "key"}, func() string { return "ann" })
	one := []string{"POST /v1/runs/"}
	for range 4 {
		one = append(one, "POST /v1/runs/"+run+"/steps", "PATCH /v1/runs/"+run+"/steps/"+step)
	}
	one = append(one, "POST /v1/runs/"+run+"/end")
	if got := play(t, s, 20); !slices.Equal(got, append(one, one...)) {
		t.Errorf("%q", got)
	}
}

func TestStepsArePatchedWhenAsked(t *testing.T) {
	ask, patch := "POST /v1/runs/"+run+"/steps", "PATCH /v1/runs/"+run+"/steps/"+step
	if got := play(t, Steps(Server{"localhost:1", "key"}, run, false), 2); !slices.Equal(got, []string{ask, ask}) {
		t.Errorf("%q", got)
	}
	if got := play(t, Steps(Server{"localhost:1", "key"}, run, true), 4); !slices.Equal(got, []string{ask, patch, ask, patch}) {
		t.Errorf("patched: %q", got)
	}
}

func TestACycleTakesPathsInTurn(t *testing.T) {
	if got := play(t, Cycle(Server{"localhost:1", "key"}, []string{"/a", "/b"}, List), 3); !slices.Equal(got, []string{"GET /a", "GET /b", "GET /a"}) {
		t.Errorf("%q", got)
	}
}

func TestADenialEndsTheLoad(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
	}{
		{http.StatusCreated, `{"id":"` + step + `","decision":{"outcome":"DENY"}}`},
		{http.StatusServiceUnavailable, `{"detail":"busy"}`},
		{http.StatusCreated, `{"decision":{"outcome":"ALLOW"}}`},
	} {
		s := Steps(Server{"localhost:1", "key"}, run, false)
		s.Next(nil)
		if s.Answer(c.status, []byte(c.body)) == nil {
			t.Errorf("%d %s is taken for an allowed step", c.status, c.body)
		}
	}
}

func TestInsistRepeatsWhatWasRefused(t *testing.T) {
	var refused int64
	s := Insist(Steps(Server{"localhost:1", "key"}, run, false), &refused)
	first, kind := s.Next(nil)
	for _, status := range []int{http.StatusServiceUnavailable, http.StatusServiceUnavailable} {
		if err := s.Answer(status, []byte(`{}`)); err != nil {
			t.Fatal(err)
		}
		again, sameKind := s.Next(nil)
		if !bytes.Equal(again, first) || sameKind != kind || kind != Step {
			t.Errorf("%s\nand then\n%s", first, again)
		}
	}
	if err := s.Answer(http.StatusCreated, fmt.Appendf(nil, `{"id":"%s","decision":{"outcome":"ALLOW"}}`, step)); err != nil {
		t.Error(err)
	}
	if next, _ := s.Next(nil); bytes.Equal(next, first) || refused != 2 {
		t.Errorf("%d refusals, then %s", refused, next)
	}
	if s.Answer(http.StatusInternalServerError, nil) == nil {
		t.Error("an error passes")
	}
}

func TestArriveEndsRunsThatAreNotKept(t *testing.T) {
	n := 0
	s := Arrive(Server{"localhost:1", "key"}, func() string { n++; return fmt.Sprint(n) }, func(id string) bool { return id == run && n == 2 })
	got := play(t, s, 5)
	want := []string{"POST /v1/runs/", "POST /v1/runs/" + run + "/end", "POST /v1/runs/", "POST /v1/runs/", "POST /v1/runs/" + run + "/end"}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWanderAsksForAStepOfThePickedRun(t *testing.T) {
	other, n := "01936f2e-8a3b-7c4d-9e5f-000000000003", 0
	s := Wander(Server{"localhost:1", "key"}, []string{run, other}, func(of int) int { n++; return n % of })
	want := []string{"POST /v1/runs/" + other + "/steps", "POST /v1/runs/" + run + "/steps"}
	if got := play(t, s, 2); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

package e2e_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// inbox notes what a receiver of webhooks was sent, by message id.
type inbox struct {
	sync.Mutex
	bodies map[string]string
	mixed  []string // ids that came with two bodies
}

func (in *inbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server was killed while it sent
	}
	in.Lock()
	defer in.Unlock()
	id := r.Header.Get("Webhook-Id")
	if was, again := in.bodies[id]; again && was != string(body) {
		in.mixed = append(in.mixed, id)
	}
	in.bodies[id] = string(body)
}

// Whatever is committed is told, however often the server is killed, and nothing else is.
func TestNoNotificationIsLostOrMadeUpByKills(t *testing.T) {
	const rounds, writers = 8, 4
	in := &inbox{bodies: map[string]string{}}
	receiver := httptest.NewServer(in)
	defer receiver.Close()
	dir, random := t.TempDir(), seededRandom(t)
	createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir, "--webhook-private", "--public-url", "https://agents.example.com")
	token := p.signIn(t, "ann@example.com")
	var made struct{ ID string }
	p.call(t, "POST", "/v1/endpoints", token, map[string]any{"kind": "webhook", "url": receiver.URL, "events": []string{"key.regenerated"}}).
		want(t, http.StatusCreated).into(t, &made)
	var acknowledged atomic.Int64
	for range rounds {
		url, killed := p.url, make(chan struct{})
		var group sync.WaitGroup
		for range writers {
			group.Go(func() {
				client := &http.Client{}
				defer client.CloseIdleConnections()
				for {
					select {
					case <-killed:
						return
					default:
					}
					a, err := send(t.Context(), client, "POST", url+"/v1/api-keys/regenerate", token, nil)
					if err == nil && a.status == http.StatusOK {
						acknowledged.Add(1)
					}
				}
			})
		}
		p.killSoon(random, 400*time.Millisecond)
		close(killed)
		group.Wait()
		p = serve(t, dir, "--webhook-private", "--public-url", "https://agents.example.com")
	}
	told := func() map[string]string {
		all := map[string]string{}
		for cursor := ""; ; {
			var page struct {
				Items []struct{ ID, Status string }
				Next  *string `json:"next_cursor"`
			}
			p.call(t, "GET", "/v1/endpoints/"+made.ID+"/deliveries?limit=200"+cursor, token, nil).want(t, http.StatusOK).into(t, &page)
			for _, d := range page.Items {
				all[d.ID] = d.Status
			}
			if page.Next == nil {
				return all
			}
			cursor = "&cursor=" + *page.Next
		}
	}
	p.await(t, "every notification to be delivered", func() bool {
		for _, status := range told() {
			if status != "delivered" {
				return false
			}
		}
		return true
	})
	committed := told()
	in.Lock()
	defer in.Unlock()
	if n := acknowledged.Load(); int64(len(committed)) < n || n == 0 {
		t.Errorf("%d events were committed for %d answers", len(committed), n)
	}
	for id := range committed {
		if !json.Valid([]byte(in.bodies[id])) {
			t.Errorf("%s was committed and never told", id)
		}
	}
	for id := range in.bodies {
		if committed[id] == "" {
			t.Errorf("%s was told and never committed", id)
		}
	}
	if len(in.mixed) > 0 {
		t.Errorf("told in two ways: %v", in.mixed)
	}
	t.Logf("%d events, %d answers", len(committed), acknowledged.Load())
	p.stop(t)
}

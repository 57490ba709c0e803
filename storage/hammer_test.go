package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// hammer does random work on a few workspaces from many goroutines at once,
// and notes what it was answered, so that the ledger can be held against that.
type hammer struct {
	*world
	tenants []*tenant
	plans   []plans.ID
	tick    time.Duration // a call moves the clock by up to this much, sometimes back

	runs, steps sync.Map // id -> whether it was allowed, by the answer
	ends        sync.Map // run -> the RunEnd first answered
	bodies      sync.Map // idempotency key in its scope -> the body first answered
}

// tenant is a workspace with what is known of it by now.
type tenant struct {
	ws   WorkspaceKey
	key  atomic.Int64 // with which runs are started
	mu   sync.Mutex
	runs []uuid.UUID
	open [][2]uuid.UUID // run and step of each allowed step
}

// actor is one of the goroutines: its choices are those of its seed.
type actor struct {
	*hammer
	*rand.Rand
	at *tenant
}

const hammerWorkers = 64

// newHammer makes workspaces of the given plans, with prices, in a world of its own.
func newHammer(t *testing.T, tick time.Duration, all ...plans.ID) *hammer {
	t.Helper()
	catalogue, err := prices.ParseCatalogue(published)
	if err != nil {
		t.Fatal(err)
	}
	h := &hammer{world: newWorld(t, func(o *Options) { o.Catalogue = catalogue }), plans: all, tick: tick}
	for range 4 {
		ws := h.unlimitedWorkspace()
		h.price(ws, "model 0", 2_500_000, 10_000_001)
		h.priceAll(ws, "model 1", classed)
		h.priceAll(ws, toolPrefix+"search", "in=0 out=0 call=0.005")
		_, err := h.SetPrice(context.Background(), ws, ModelPrice{Model: "model 3", SameAs: "model 0", Active: true})
		h.must(err)
		made := &tenant{ws: ws}
		made.key.Store(int64(h.caller(ws).Key))
		h.tenants = append(h.tenants, made)
	}
	return h
}

// run lets every worker take so many turns. HAMMER_SEED repeats the choices of
// an earlier run, though not how the workers meet.
func (h *hammer) run(turns int) {
	h.t.Helper()
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("HAMMER_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		h.must(err)
	}
	h.t.Logf("HAMMER_SEED=%d", seed) // shown when the test fails
	together(hammerWorkers, func(i int) {
		a := &actor{hammer: h, Rand: rand.New(rand.NewPCG(seed, uint64(i)))}
		for turn := 0; turn < turns && !h.t.Failed(); turn++ {
			a.turn()
			if i == 0 && turn%(turns/3+1) == turns/3 {
				h.mustBalanceUnderLoad()
			}
			if i == 1 && turn%3 == 0 {
				h.mustRememberTheTruth()
			}
		}
	})
}

func (a *actor) chance(percent int) bool { return a.IntN(100) < percent }

func (a *actor) turn() {
	a.at = a.tenants[a.IntN(len(a.tenants))]
	a.Advance(time.Duration(a.Int64N(int64(a.tick))) - a.tick/8)
	switch n := a.IntN(100); {
	case n < 16:
		a.start()
	case n < 46:
		a.step()
	case n < 74:
		a.report()
	case n < 78:
		a.end()
	case n < 82:
		a.heartbeat()
	case n < 90:
		a.configure()
	case n < 92:
		a.upkeep()
	case n < 94:
		a.trespass()
	default:
		a.read()
	}
}

// want takes an error for a failure, unless it is one of those that may be.
func (a *actor) want(err error, allowed ...error) bool {
	for _, e := range allowed {
		if errors.Is(err, e) {
			return false
		}
	}
	if err != nil {
		a.t.Errorf("%v", err)
	}
	return err == nil
}

// recent picks one of a list, mostly of its end, so that workers meet.
func recent[T any](a *actor, list *[]T) (one T, ok bool) {
	a.at.mu.Lock()
	defer a.at.mu.Unlock()
	if n := len(*list); n > 0 {
		if a.chance(80) {
			return (*list)[n-1-a.IntN(min(n, 12))], true
		}
		return (*list)[a.IntN(n)], true
	}
	return one, false
}

// model is one with an entry of the workspace, or of the catalogue, or of neither.
func (a *actor) model() string {
	all := []string{"model 0", "model 1", "model 2", "model 3", "plain", "tiered", "hourly", "search", "nowhere"}
	return all[a.IntN(len(all))]
}

func (a *actor) user() string { return fmt.Sprintf("user/%d ü%%", a.IntN(12)) }

// context is one that sometimes ends while the call may have begun: an error
// must then mean that nothing was done.
func (a *actor) context() context.Context {
	if !a.chance(4) {
		return context.Background()
	}
	ctx, cancel := context.WithCancel(context.Background())
	go cancel()
	return ctx
}

// idempotency sometimes gives a key, now and then with another body.
func (a *actor) idempotency(scope any) (in Idempotency, name string) {
	if !a.chance(20) {
		return in, ""
	}
	body := "body"
	if a.chance(5) {
		body = "another"
	}
	key := fmt.Sprint("key ", a.IntN(15))
	return once(key, body), fmt.Sprint(a.at.ws, scope, key)
}

// note holds an answer against the first one under its key, and remembers it
// when it is new.
func (a *actor) note(known *sync.Map, name string, ans Answer) (isNew bool) {
	body := string(ans.Replay)
	if body == "" {
		body = string(once("", "").Encode(ans))
	}
	if name != "" {
		if first, _ := a.bodies.LoadOrStore(name, body); first != body {
			a.t.Errorf("%s answered %q, and %q before", name, body, first)
		}
	}
	if ans.Replay != nil {
		return false
	}
	if _, twice := known.LoadOrStore(ans.ID, ans.Decision.Allowed()); twice {
		a.t.Errorf("%s was answered twice", ans.ID)
	}
	return true
}

// Within a day, so that no plan's retention deletes what is to be recomputed,
// but over the end of a year.
func TestBooksBalanceAfterAndUnderTheHammer(t *testing.T) {
	t.Parallel()
	h := newHammer(t, 18*time.Second, plans.Basic, plans.Pro, plans.Pro, plans.Scale, plans.Scale, plans.Enterprise, plans.Enterprise)
	h.Set(date(2026, 12, 31).Add(15 * time.Hour))
	h.run(100)
	h.mustHoldWhatItSaid()
	h.mustVerify()
	h.mustReadTheLedger(0, -1, 6, 7, 29, 30)
	h.mustHaveMet()
}

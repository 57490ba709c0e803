package storage

import (
	"context"
	"database/sql"
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

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
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
	h := &hammer{world: newWorld(t), plans: all, tick: tick}
	for range 4 {
		ws := h.roomy()
		h.price(ws, "model 0", 2_500_000, 10_000_001)
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

func (h *hammer) mustBalanceUnderLoad() {
	found, err := verified(h.path)
	if err != nil || len(found) > 0 {
		h.t.Errorf("books under load: %v, %v", found, err)
	}
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

func (a *actor) start() {
	in := NewRun{UserID: a.user()}
	if a.chance(30) {
		in.Metadata = []byte(`{"team":"ops"}`)
	}
	var name string
	in.Idempotency, name = a.idempotency("start")
	caller := Caller{Workspace: a.at.ws}
	if a.chance(80) {
		caller.Key = KeyID(a.at.key.Load())
	}
	ans, err := a.StartRun(a.context(), caller, in, guard.Decide)
	if a.want(err, context.Canceled, ErrKeyReused, ErrKeyRevoked, ErrKeyExpired) && a.note(&a.runs, name, ans) && (ans.Decision.Allowed() || a.chance(5)) {
		a.at.mu.Lock()
		a.at.runs = append(a.at.runs, ans.ID)
		a.at.mu.Unlock()
	}
}

func (a *actor) step() {
	run, ok := recent(a, &a.at.runs)
	if !ok {
		return
	}
	in := NewStep{Type: StepType(1 + a.IntN(6)), Sequence: 1 + a.Int64N(5)}
	if a.chance(70) {
		in.Model = new(fmt.Sprint("model ", a.IntN(4)))
	}
	if a.chance(20) {
		in.ToolName = new("search")
	}
	if a.chance(30) {
		in.InputData = []byte(`{"q":"?"}`)
	}
	var name string
	in.Idempotency, name = a.idempotency(run)
	_, ended := a.ends.Load(run)
	ans, err := a.CreateStep(a.context(), Caller{Workspace: a.at.ws}, run, in, guard.Decide)
	if err == nil && ended && ans.Replay == nil && ans.Decision.Reason != guard.RunAlreadyEnded {
		a.t.Errorf("a step of an ended run: %+v", ans)
	}
	if a.want(err, context.Canceled, ErrKeyReused) && a.note(&a.steps, name, ans) && (ans.Decision.Allowed() || a.chance(5)) {
		a.at.mu.Lock()
		a.at.open = append(a.at.open, [2]uuid.UUID{run, ans.ID})
		a.at.mu.Unlock()
	}
}

// report sends anything from nothing to a whole report, for a step that may be
// open, reported, abandoned or blocked, once or twice.
func (a *actor) report() {
	step, ok := recent(a, &a.at.open)
	if !ok {
		return
	}
	var in StepUpdate
	if a.chance(70) {
		in.Status = StepCompleted + StepStatus(a.IntN(2))
	}
	most := []int64{1, 2_000, 100_000}[a.IntN(3)]
	if a.chance(1) {
		most = plans.MaxTokens
	}
	if a.chance(70) {
		in.PromptTokens = new(a.Int64N(most))
	}
	if a.chance(60) {
		in.CompletionTokens = new(a.Int64N(most))
	}
	if a.chance(30) {
		in.DurationMillis, in.Error = new(a.Int64N(5_000)), new("it broke")
	}
	if a.chance(30) {
		in.OutputData = []byte(`["!"]`)
	}
	if a.chance(20) {
		in.Model = new(fmt.Sprintf("model %d", a.IntN(4)))
	}
	for range 1 + a.IntN(2) {
		s, err := a.UpdateStep(a.context(), Caller{Workspace: a.at.ws}, step[0], step[1], in)
		if !a.want(err, context.Canceled, ErrStepBlocked) {
			return
		}
		if s.Capped {
			continue // checked by the books
		}
		cost := plans.Money(-1)
		if s.InputPrice != nil && s.OutputPrice != nil {
			cost, err = plans.Cost(s.PromptTokens, s.CompletionTokens, *s.InputPrice, *s.OutputPrice)
			a.want(err)
		}
		if in.PromptTokens != nil && s.PromptTokens != *in.PromptTokens ||
			in.CompletionTokens != nil && s.CompletionTokens != *in.CompletionTokens ||
			in.Status != 0 && s.Status != in.Status || (s.Cost == nil) != (cost < 0) || s.Cost != nil && *s.Cost != cost {
			a.t.Errorf("reported %+v, answered %+v", in, s)
		}
	}
}

// end holds what every end of a run is answered against the first: only the
// server's own word, IDLE_TIMEOUT, is ever replaced, and that no client hears.
func (a *actor) end() {
	run, ok := recent(a, &a.at.runs)
	if !ok {
		return
	}
	status := RunStatus(2 + a.IntN(3))
	by := EndedByClient + EndedBy(a.IntN(2))
	end, err := a.EndRun(a.context(), Caller{Workspace: a.at.ws}, run, status, by)
	var ended *EndedError
	if errors.As(err, &ended) {
		if ended.Status == status || ended.Status == RunRunning {
			a.t.Errorf("end as %s: %v", status, err)
		}
		return
	}
	if !a.want(err, context.Canceled) {
		return
	}
	if first, _ := a.ends.LoadOrStore(run, end); first != end {
		a.t.Errorf("ended as %+v, and as %+v before", end, first)
	}
}

func (a *actor) heartbeat() {
	if run, ok := recent(a, &a.at.runs); ok {
		ans, err := a.Heartbeat(a.context(), Caller{Workspace: a.at.ws}, run, guard.Decide)
		if a.want(err, context.Canceled) && (ans.Decision.Reason == guard.RunAlreadyEnded) != (ans.Status != "RUNNING") {
			a.t.Errorf("heartbeat %+v", ans)
		}
	}
}

func (a *actor) configure() {
	ctx, ws := context.Background(), a.at.ws
	var err error
	switch a.IntN(10) {
	case 0:
		_, err = a.SetKillSwitch(ctx, ws, a.chance(20))
	case 1:
		_, err = a.BlockUser(ctx, ws, a.user(), new("no"))
	case 2, 3:
		_, err = a.UnblockUser(ctx, ws, a.user())
	case 4:
		_, err = a.SetPrice(ctx, ws, ModelPrice{
			Model: fmt.Sprint("model ", a.IntN(3)), Input: plans.Price(a.Int64N(20_000_000)),
			Output: plans.Price(a.Int64N(20_000_000)), Active: a.chance(80),
		})
	case 5:
		var plan plans.Plan
		plan, err = plans.ByID(a.plans[a.IntN(len(a.plans))])
		if a.want(err) {
			_, err = a.SetPlan(ctx, ws, plan)
		}
	case 6:
		var key APIKey
		if key, err = a.RotateKey(ctx, ws, Rotation{Label: "again", Overlap: time.Duration(a.IntN(2)) * time.Minute}); err == nil {
			var c Credential
			c, err = a.KeyCredential(ctx, key.Prefix)
			if err == nil && c.Workspace != ws {
				a.t.Errorf("the key of %d is that of %d", ws, c.Workspace)
			}
			a.at.key.Store(int64(c.Key))
		}
	default:
		_, err = a.UpdateWorkspace(ctx, ws, a.limits())
	}
	var missing *plans.FeatureError
	if !errors.As(err, &missing) {
		a.want(err, ErrNotFound) // a user not seen yet
	}
}

// limits are new ones, of which each is sometimes none.
func (a *actor) limits() (c WorkspaceChange) {
	budget := func() *plans.Budget {
		return &plans.Budget{Limit: plans.Money(a.Int64N(int64(20 * plans.USD))), Set: a.chance(40)}
	}
	c.RunIdleTimeout = new(time.Duration(10+a.IntN(110)) * time.Minute)
	if a.chance(60) {
		c.DailyBudget = budget()
	}
	if a.chance(40) {
		c.UserDailyBudget = budget()
	}
	if a.chance(40) {
		c.MaxConcurrentRuns = new(1 + a.Int64N(100))
	}
	return c
}

func (a *actor) upkeep() {
	_, err := a.EndIdleRuns(context.Background())
	a.want(err)
	_, err = a.Expire(context.Background())
	a.want(err)
}

// trespass tries the runs and steps of one tenant with the key of another.
func (a *actor) trespass() {
	run, ok := recent(a, &a.at.runs)
	step, okStep := recent(a, &a.at.open)
	if !ok || !okStep {
		return
	}
	ctx, stranger := context.Background(), a.tenants[a.IntN(len(a.tenants))].ws
	if stranger == a.at.ws {
		return
	}
	_, stepErr := a.CreateStep(ctx, Caller{Workspace: stranger}, run, NewStep{Type: 1, Sequence: 1}, guard.Decide)
	_, reportErr := a.UpdateStep(ctx, Caller{Workspace: stranger}, step[0], step[1], StepUpdate{Status: StepFailed})
	_, endErr := a.EndRun(ctx, Caller{Workspace: stranger}, run, RunFailed, EndedByDashboard)
	_, readErr := a.Run(ctx, stranger, run, "")
	for _, err := range []error{stepErr, reportErr, endErr, readErr} {
		if !errors.Is(err, ErrNotFound) {
			a.t.Errorf("a stranger got %v", err)
		}
	}
}

// read wants each answer to agree with itself, whatever happens meanwhile.
func (a *actor) read() {
	ctx, ws := context.Background(), a.at.ws
	switch a.IntN(4) {
	case 0:
		f := RunFilter{Limit: 1 + a.Int64N(20), Status: RunStatus(a.IntN(5))}
		runs, _, err := a.Runs(ctx, ws, f)
		a.want(err)
		for i, r := range runs {
			if (r.Status == RunRunning) != r.EndedAt.IsZero() || f.Status != 0 && r.Status != f.Status ||
				i > 0 && string(r.ID[:]) >= string(runs[i-1].ID[:]) {
				a.t.Errorf("runs of %+v: %+v", f, r)
			}
		}
	case 1:
		if run, ok := recent(a, &a.at.runs); ok {
			d, err := a.Run(ctx, ws, run, "")
			if a.want(err) && d.fault() != "" {
				a.t.Errorf("run %s: %+v", d.fault(), d)
			}
		}
	case 2:
		users, _, err := a.Users(ctx, ws, UserFilter{Limit: 20})
		a.want(err)
		for _, u := range users {
			if u.Today.Spend > u.Last30Days.Spend || min(int64(u.Today.Spend), u.RunCount) < 0 {
				a.t.Errorf("user %+v", u)
			}
		}
	default:
		u, err := a.Usage(ctx, ws)
		a.want(err)
		var byUser, byModel plans.Money
		var runs int64
		for _, r := range u.ByUser {
			byUser, runs = byUser+r.Spend, runs+r.Runs
		}
		for _, m := range u.ByModel {
			byModel += m.Spend
		}
		if byUser != u.Last30Days.Spend || byModel != byUser || runs != u.Last30Days.Runs ||
			u.Today.Spend > u.Last7Days.Spend || u.Last7Days.Spend > byUser {
			a.t.Errorf("usage %+v", u)
		}
	}
}

// mustHoldWhatItSaid compares the ledger's rows with the answers: each of them
// is there, as answered, and none that nobody was told of.
func (h *hammer) mustHoldWhatItSaid() {
	h.t.Helper()
	for _, c := range []struct {
		known *sync.Map
		query string
	}{
		{&h.runs, `SELECT uuid, NOT (status = 4 AND ended_by IS NULL) FROM runs`},
		{&h.steps, `SELECT uuid, status <> 4 FROM steps`},
	} {
		said := map[uuid.UUID]bool{}
		for id, allowed := range c.known.Range {
			said[id.(uuid.UUID)] = allowed.(bool)
		}
		rows, err := h.conn().QueryContext(context.Background(), c.query)
		h.must(err)
		for rows.Next() {
			var id uuid.UUID
			var allowed bool
			h.must(rows.Scan(&id, &allowed))
			if was, ok := said[id]; !ok || was != allowed {
				h.t.Errorf("%s is allowed: %t; answered: %t, allowed: %t", id, allowed, ok, was)
			}
			delete(said, id)
		}
		h.must(errors.Join(rows.Err(), rows.Close()))
		if len(said) > 0 {
			h.t.Errorf("%d answers are not in the ledger: %v", len(said), said)
		}
	}
	rows, err := h.conn().QueryContext(context.Background(), `SELECT uuid, status, ended_at, coalesce(ended_by, 0) FROM runs`)
	h.must(err)
	for rows.Next() {
		var end RunEnd
		var at sql.NullInt64
		var by EndedBy
		h.must(rows.Scan(&end.ID, &end.Status, &at, &by))
		end.EndedAt = timeOf(at)
		said, ok := h.ends.Load(end.ID)
		if ok && said != end || !ok && (by == EndedByClient || by == EndedByDashboard) {
			h.t.Errorf("run %s has ended as %+v, answered: %+v", end.ID, end, said)
		}
	}
	h.must(errors.Join(rows.Err(), rows.Close()))
}

// mustHaveMet wants each kind of thing to have happened, so that the hammer
// cannot go blind. No seed comes near these bounds.
func (h *hammer) mustHaveMet() {
	h.t.Helper()
	for what, c := range map[string]struct {
		least int64
		query string
	}{
		"allowed runs":     {50, `SELECT sum(run_count) FROM users`},
		"denied runs":      {20, `SELECT count(*) FROM denials WHERE step_uuid = x''`},
		"denied steps":     {50, `SELECT count(*) FROM denials WHERE step_uuid <> x''`},
		"kinds of denial":  {5, `SELECT count(DISTINCT reason) FROM denials`},
		"idle runs":        {5, `SELECT count(*) FROM runs WHERE ended_by = 3`},
		"abandoned steps":  {5, `SELECT count(*) FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.status = 1 AND r.status <> 1`},
		"priced steps":     {20, `SELECT count(*) FROM steps WHERE cost_nanos > 0`},
		"unpriced steps":   {20, `SELECT count(*) FROM steps WHERE booked_day IS NOT NULL AND cost_nanos IS NULL`},
		"late reports":     {5, `SELECT count(*) FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.completed_at > r.ended_at`},
		"days":             {8, `SELECT count(*) FROM workspace_days`},
		"idempotency keys": {20, `SELECT count(*) FROM idempotency_keys`},
	} {
		if n := h.number(c.query); n < c.least {
			h.t.Errorf("%s: %d, want %d at least", what, n, c.least)
		}
	}
}

// Within a day, so that no plan's retention deletes what is to be recomputed,
// but over the end of a year.
func TestBooksBalanceAfterAndUnderTheHammer(t *testing.T) {
	t.Parallel()
	h := newHammer(t, 18*time.Second, plans.Basic, plans.Pro, plans.Pro, plans.Scale, plans.Scale, plans.Enterprise, plans.Enterprise)
	h.Set(date(2026, 12, 31).Add(15 * time.Hour))
	h.run(100)
	h.mustHoldWhatItSaid()
	h.mustBalance()
	h.mustReadTheLedger(0, -1, 6, 7, 29, 30)
	h.mustHaveMet()
}

package server_test

import (
	"fmt"
	"net/http"
	"testing"

	"pgregory.net/rapid"

	"github.com/pikarc/server/plans"
)

// allowance is what the contract gives a plan, written out once more: the
// tests must not learn it from the code under test.
type allowance struct{ userBudget, concurrency, killSwitch bool }

func allowances() map[plans.ID]allowance {
	return map[plans.ID]allowance{
		plans.Basic: {}, plans.Pro: {userBudget: true, concurrency: true},
		plans.Scale: {true, true, true}, plans.Enterprise: {true, true, true},
	}
}

// model is a workspace as it should be.
type model struct {
	plan        plans.ID
	killSwitch  bool
	userBudget  string // as the API writes it
	concurrency int
	running     []string
}

// moveTo changes the plan and drops what it lacks.
func (m *model) moveTo(plan plans.ID) {
	m.plan = plan
	may := allowances()[plan]
	m.killSwitch = m.killSwitch && may.killSwitch
	if !may.userBudget {
		m.userBudget = "null"
	}
	if !may.concurrency {
		m.concurrency = 3
	}
}

// gated says what a call that needs a feature answers.
func (p *subscriber) gated(r *response, has bool, feature, plansThatHave string) bool {
	if has {
		if r.status != http.StatusOK {
			p.rt.Fatalf("on the %s plan, %s answered %d %s", p.plan, r.what, r.status, r.body)
		}
		return true
	}
	want := fmt.Sprintf(`{"detail":"%s is not available on the %s plan. Upgrade to %s."}`, feature, p.plan, plansThatHave)
	if r.status != http.StatusForbidden || string(r.body) != want {
		p.rt.Fatalf("%s answered %d %s, want 403 %s", r.what, r.status, r.body, want)
	}
	return false
}

// subscriber is a workspace with a subscription, and what it should be.
type subscriber struct {
	shop
	account
	model
	rt           *rapid.T
	subscription string
	paid         plans.ID // what the subscription pays for
}

func (p *subscriber) setPlanByCommand(plan plans.ID) {
	p.shop.setPlan(p.account, plan)
	p.moveTo(plan)
}

// switchInPortal changes what is paid for, which moves a plan that Stripe may move.
func (p *subscriber) switchInPortal(plan plans.ID) {
	p.send(p.stripe.SwitchPrice(p.subscription, map[plans.ID]string{plans.Pro: pricePro, plans.Scale: priceScale}[plan])...)
	if plan != p.paid && p.plan != plans.Enterprise {
		p.moveTo(plan)
	}
	p.paid = plan
}

func (p *subscriber) setUserBudget(dollars int) {
	r := p.shop.call("PATCH", "/v1/workspace/", p.token, map[string]any{"user_daily_budget_usd": dollars})
	if p.gated(r, allowances()[p.plan].userBudget, "User daily budget", "Pro, Scale or Enterprise") {
		p.userBudget = fmt.Sprint(dollars)
	}
}

func (p *subscriber) setConcurrency(n int) {
	r := p.shop.call("PATCH", "/v1/workspace/", p.token, map[string]any{"max_concurrent_runs": n})
	if p.gated(r, allowances()[p.plan].concurrency, "Configurable concurrency", "Pro, Scale or Enterprise") {
		p.concurrency = n
	}
}

func (p *subscriber) switchKill(on bool) {
	r := p.shop.call("POST", "/v1/workspace/kill-switch", p.token, map[string]any{"active": on})
	if p.gated(r, allowances()[p.plan].killSwitch || !on, "Kill switch", "Scale or Enterprise") {
		p.killSwitch = on
	}
}

// startRun is decided by the limits of this moment.
func (p *subscriber) startRun() {
	r := p.shop.call("POST", "/v1/runs/", p.key, `{"user_id":"ada"}`).want(http.StatusCreated)
	want := "null"
	switch {
	case p.killSwitch:
		want = "KILL_SWITCH_ACTIVE"
	case len(p.running) >= p.concurrency:
		want = "MAX_CONCURRENT_RUNS_EXCEEDED"
	default:
		p.running = append(p.running, r.text("id"))
	}
	if got := r.text("decision.reason"); got != want {
		p.rt.Fatalf("%d run, of %d, kill switch %v: a start is denied for %s, want %s", len(p.running), p.concurrency, p.killSwitch, got, want)
	}
}

// stepOrEnd goes on with a run that was allowed, over the new limit or not.
func (p *subscriber) stepOrEnd(end bool) {
	if len(p.running) == 0 {
		return
	}
	run := p.running[0]
	if end {
		p.shop.call("POST", "/v1/runs/"+run+"/end", p.key, `{"status":"COMPLETED"}`).want(http.StatusOK)
		p.running = p.running[1:]
		return
	}
	want := map[bool]string{true: "KILL_SWITCH_ACTIVE", false: "null"}[p.killSwitch]
	r := p.shop.call("POST", "/v1/runs/"+run+"/steps", p.key, `{"type":"SYSTEM","sequence":1}`).want(http.StatusCreated)
	if got := r.text("decision.reason"); got != want {
		p.rt.Fatalf("a step of a run that was allowed is denied for %s, want %s", got, want)
	}
}

func (p *subscriber) check() {
	r := p.shop.call("GET", "/v1/workspace/", p.token, nil).want(http.StatusOK)
	got := [4]string{r.text("plan"), r.text("kill_switch"), r.text("user_daily_budget_usd"), r.text("max_concurrent_runs")}
	if want := [4]string{string(p.plan), fmt.Sprint(p.killSwitch), p.userBudget, fmt.Sprint(p.concurrency)}; got != want {
		p.rt.Fatalf("plan, kill switch, user budget and concurrency are %v, want %v", got, want)
	}
}

// Whatever moves the plan, whatever limits were set and whatever runs: nobody
// holds what the plan forbids, the very next decision knows it, and whoever
// asks for it is told which plans have it.
func TestNobodyHoldsWhatThePlanForbids(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	rapid.Check(t, func(rt *rapid.T) {
		p := &subscriber{shop: s, rt: rt, account: s.account(plans.Basic), paid: plans.Pro}
		p.model = model{plan: plans.Pro, userBudget: "null", concurrency: 3}
		p.subscription = s.buy(p.account, plans.Pro)
		p.check()
		for range rapid.IntRange(4, 12).Draw(rt, "length") {
			switch rapid.IntRange(0, 7).Draw(rt, "what") {
			case 0:
				p.setPlanByCommand(rapid.SampledFrom([]plans.ID{plans.Basic, plans.Pro, plans.Scale, plans.Enterprise}).Draw(rt, "plan"))
			case 1:
				p.switchInPortal(rapid.SampledFrom([]plans.ID{plans.Pro, plans.Scale}).Draw(rt, "paid"))
			case 2:
				p.setUserBudget(rapid.IntRange(1, 9).Draw(rt, "budget"))
			case 3:
				p.setConcurrency(rapid.IntRange(1, 6).Draw(rt, "concurrency"))
			case 4:
				p.switchKill(rapid.Bool().Draw(rt, "on"))
			case 5, 6:
				p.startRun()
			case 7:
				p.stepOrEnd(rapid.Bool().Draw(rt, "end"))
			}
			p.check()
		}
	})
}

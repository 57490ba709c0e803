package storage

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

func (a *actor) configure() {
	ctx, ws := context.Background(), a.at.ws
	var err error
	switch a.IntN(10) {
	case 0:
		_, err = a.SetKillSwitch(ctx, ws, a.chance(20), "")
	case 1:
		_, err = a.BlockUser(ctx, ws, a.user(), new("no"))
	case 2, 3:
		_, err = a.UnblockUser(ctx, ws, a.user())
	case 4:
		_, err = a.SetPrice(ctx, ws, a.price())
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

// price is an entry of any kind: two prices, those of all kinds of tokens, another
// model's name, which may lead in a ring, or the price of a tool's calls.
func (a *actor) price() ModelPrice {
	p := ModelPrice{Model: fmt.Sprint("model ", a.IntN(3)), Active: a.chance(80)}
	all := twoPrices(plans.Price(a.Int64N(20_000_000)), plans.Price(a.Int64N(20_000_000)))
	switch a.IntN(4) {
	case 0:
		p.SameAs = []string{"model 0", "model 2", "plain"}[a.IntN(3)]
		return p
	case 1:
		p.Model, all.PerCall = toolPrefix+"search", plans.Money(1+a.Int64N(1_000_000))
		p.Rates = &all
	case 2:
		all.Set(prices.Cached, plans.Price(a.Int64N(2_000_000)))
		all.Set(prices.CacheWrite1h, plans.Price(a.Int64N(40_000_000)))
		tier := prices.Tier{AbovePrompt: a.Int64N(2000)}
		tier.Set(prices.Output, plans.Price(a.Int64N(40_000_000)))
		all.Tiers = []prices.Tier{tier}
		p.Rates = &all
	}
	p.Input, p.Output = all.Price(prices.Input), all.Price(prices.Output)
	return p
}

// limits are new ones, of which each is sometimes none.
func (a *actor) limits() (c WorkspaceChange) {
	budget := func() *plans.Budget {
		return &plans.Budget{Limit: plans.Money(a.Int64N(int64(20 * plans.USD))), Set: a.chance(40)}
	}
	c.RunIdleTimeout = new(time.Duration(10+a.IntN(110)) * time.Minute)
	c.TrustReportedCost, c.RefuseUnpriced, c.PriceCatalogue = new(a.chance(60)), new(a.chance(50)), new(a.chance(80))
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

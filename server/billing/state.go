package billing

import (
	"slices"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// state is what a customer's subscriptions amount to at a moment: a pure
// function of what Stripe says, and of what we knew before of the same
// subscription. Whatever event made us look, the answer is the same.
type state struct {
	storage.SubscriptionState
	grants bool // now
	newest time.Time
}

// stateOf finds the best of a customer's subscriptions: one that gives a
// plan now before one that does not, then the larger plan, then the newest.
// unknown says that one is live whose price no plan has.
func (cfg *Config) stateOf(
	all []subscription, before storage.SubscriptionState, now time.Time,
) (best state, unknown bool) {
	best.Status = storage.NoSubscription
	for _, sub := range all {
		plan := cfg.planOfSubscription(sub)
		if plan == "" {
			unknown = unknown || isLive(sub)
			continue
		}
		next := cfg.judge(sub, plan, before)
		next.grants = next.Plan != "" && (next.PlanEndsAt.IsZero() || now.Before(next.PlanEndsAt))
		next.newest = sub.created
		if best.ID == "" || next.betterThan(best) {
			best = next
		}
	}
	return best, unknown
}

// betterThan reports whether a customer with both subscriptions should get s: one that grants a
// plan, then the higher plan, then the one that does not end, then the newer one.
func (s state) betterThan(other state) bool {
	switch {
	case s.grants != other.grants:
		return s.grants
	case s.grants && s.Plan != other.Plan:
		return rank(s.Plan) > rank(other.Plan)
	case s.grants && s.PlanEndsAt.IsZero() != other.PlanEndsAt.IsZero():
		return s.PlanEndsAt.IsZero()
	default:
		return s.newest.After(other.newest)
	}
}

// rank orders plans from the smallest to the largest; -1 for an unknown one.
func rank(id plans.ID) int {
	return slices.IndexFunc(plans.All(), func(p plans.Plan) bool { return p.ID == id })
}

// planOfSubscription is the largest plan among its prices; empty when none is ours.
func (cfg *Config) planOfSubscription(sub subscription) (plan plans.ID) {
	for _, price := range sub.prices {
		if p := cfg.planOfPrice(price); rank(p) > rank(plan) {
			plan = p
		}
	}
	return plan
}

// isLive tells a subscription that may still take money from one that is over.
func isLive(sub subscription) bool {
	return sub.status != stripe.SubscriptionStatusCanceled &&
		sub.status != stripe.SubscriptionStatusIncompleteExpired
}

// judge says what one subscription gives, and until when.
func (cfg *Config) judge(sub subscription, plan plans.ID, before storage.SubscriptionState) state {
	st := storage.SubscriptionState{ID: sub.id, Plan: plan, PeriodEnd: sub.end}
	switch sub.status {
	case stripe.SubscriptionStatusActive, stripe.SubscriptionStatusTrialing:
		st.Status, st.PlanEndsAt = storage.SubscriptionActive, sub.cancelAt
	case stripe.SubscriptionStatusPastDue, stripe.SubscriptionStatusUnpaid:
		st.Status, st.PastDueSince = storage.SubscriptionPastDue, unpaidSince(sub, before)
		st.PlanEndsAt = earlier(st.PastDueSince.Add(cfg.Grace), sub.cancelAt)
	case stripe.SubscriptionStatusCanceled:
		st.Status, st.PlanEndsAt = storage.SubscriptionCanceled, sub.end
		// What was paid is kept to its end. A period that was never paid is not.
		if sub.unpaid || before.ID == sub.id && !before.PastDueSince.IsZero() {
			st.PastDueSince = unpaidSince(sub, before)
			st.PlanEndsAt = earlier(st.PastDueSince.Add(cfg.Grace), sub.end)
		}
		if st.PlanEndsAt.IsZero() {
			st.PlanEndsAt = sub.ended
		}
	case stripe.SubscriptionStatusIncomplete:
		st.Status, st.Plan = storage.SubscriptionIncomplete, ""
	case stripe.SubscriptionStatusPaused:
		st.Status, st.Plan = storage.SubscriptionPaused, ""
	default: // incomplete_expired, and what Stripe may yet invent: nothing is paid
		st.Status, st.Plan = storage.NoSubscription, ""
	}
	// A later end is a schedule that this period does not show yet. What is set
	// in Stripe for the period's end may be some seconds off it.
	const slack = time.Minute
	st.CancelAtPeriodEnd = !sub.cancelAt.IsZero() && !sub.cancelAt.After(sub.end.Add(slack)) &&
		isLive(sub)
	return state{SubscriptionState: st}
}

// unpaidSince is when the first payment failed that is still missing. A
// second invoice that fails too does not begin the grace anew.
func unpaidSince(sub subscription, before storage.SubscriptionState) time.Time {
	since := sub.start
	if sub.unpaid && !sub.unpaidDue.IsZero() {
		since = sub.unpaidDue
	}
	if before.ID == sub.id {
		since = earlier(since, before.PastDueSince)
	}
	return since
}

// earlier is the first of two times; a zero one does not count.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

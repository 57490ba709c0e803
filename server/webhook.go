package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"

	"github.com/stripe/stripe-go/v85"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/storage"
)

// StripeEvents are the types of events that matter here; any other is taken and forgotten.
func StripeEvents() []string {
	return []string{
		"checkout.session.completed",
		"customer.subscription.created", "customer.subscription.updated", "customer.subscription.deleted",
		"customer.subscription.paused", "customer.subscription.resumed",
		"invoice.paid", "invoice.payment_failed",
	}
}

// stripeEvent is what we read of an event: whose it is. The rest is asked of
// Stripe, so it does not matter in which version of its API the event is written.
type stripeEvent struct {
	id, kind, customer string
}

// takeStripeEvent answers 200 for all that need not come again, and an error of
// our own or of Stripe's as a 5xx, upon which Stripe sends the event again.
func (s *Server) takeStripeEvent(c *call) error {
	body, err := request.ReadBody(c.w, c.r, s.configLimit(c))
	if err != nil {
		return err
	}
	if s.stripe == nil {
		return errNoBilling()
	}
	event, err := s.readStripeEvent(body, c.r.Header.Get("Stripe-Signature"))
	if err != nil {
		return err
	}
	if slices.Contains(StripeEvents(), event.kind) {
		ctx, cancel := s.askStripe(c.ctx())
		defer cancel()
		if err := s.handleStripeEvent(ctx, event); err != nil {
			return stripeAway(err)
		}
	}
	c.json(http.StatusOK, map[string]bool{"received": true})
	return nil
}

// readStripeEvent checks the signature, and that it was made in the last 5
// minutes by the machine's clock, before it looks at anything else.
func (s *Server) readStripeEvent(body []byte, signature string) (stripeEvent, error) {
	err := s.Stripe.validate(body, signature)
	if err != nil {
		s.Log.Warn("an event without a valid signature of Stripe's was refused", "error", err.Error())
	}
	switch {
	case errors.Is(err, stripe.ErrWebhookNotSigned):
		return stripeEvent{}, badRequest("The Stripe-Signature header is missing")
	case errors.Is(err, stripe.ErrWebhookTooOld):
		return stripeEvent{}, badRequest("The signature is too old")
	case err != nil:
		return stripeEvent{}, badRequest("The signature is not that of this server's webhook secret")
	}
	var event struct {
		ID, Type string
		Data     struct {
			Object struct {
				Customer json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(body, &event); err != nil || event.ID == "" || event.Type == "" {
		return stripeEvent{}, badRequest("The body is not an event of Stripe's")
	}
	return stripeEvent{id: event.ID, kind: event.Type, customer: idOf(event.Data.Object.Customer)}, nil
}

// validate takes an event that any of the secrets has signed: there are two
// while one is rolled. A signature that is right and too old is called so.
func (cfg *StripeConfig) validate(body []byte, signature string) (err error) {
	for _, secret := range cfg.WebhookSecrets {
		tried := stripe.ValidatePayload(body, signature, string(secret))
		if tried == nil {
			return nil
		}
		if err == nil || errors.Is(tried, stripe.ErrWebhookTooOld) {
			err = tried
		}
	}
	return err
}

// idOf reads a reference of Stripe's: an id, or the whole object.
func idOf(reference json.RawMessage) string {
	if id := ""; json.Unmarshal(reference, &id) == nil {
		return id
	}
	var object struct{ ID string }
	_ = json.Unmarshal(reference, &object) // neither is no reference
	return object.ID
}

func (s *Server) handleStripeEvent(ctx context.Context, e stripeEvent) error {
	log := s.Log.With("event", e.id, "type", e.kind, "customer", e.customer)
	handled, err := s.store.StripeEventHandled(ctx, e.id)
	if err != nil {
		return err
	}
	if handled {
		log.Debug("an event of Stripe's came again")
		return nil
	}
	_, err = s.settle(ctx, e.customer, e.id)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		log.Warn("an event of Stripe's is about a customer that is no workspace's; nothing was done")
	case errors.Is(err, errCustomerUnknown):
		log.Error("an event of Stripe's is about a customer that it then denied; nothing was done", "error", err.Error())
	default:
		return err
	}
	return nil
}

// settle asks Stripe about a customer and records the answer. The event is
// empty when none made us ask. ErrNotFound: the customer is no workspace's.
func (s *Server) settle(ctx context.Context, customer, event string) (storage.Settled, error) {
	const attempts = 10 // how often others may get ahead of us
	for range attempts {
		read, err := s.store.CustomerSubscription(ctx, customer)
		if err != nil {
			return storage.Settled{}, err
		}
		now, err := s.ask(ctx, read)
		if err != nil {
			return storage.Settled{}, err
		}
		out, err := s.store.Settle(ctx, storage.Settlement{Read: read, Now: now, Event: event, Unpaid: s.DefaultPlan})
		if errors.Is(err, storage.ErrOutdated) {
			continue
		}
		if err == nil && out.From != out.To {
			s.logPlanChange(read, now, event, out.From, out.To)
		}
		return out, err
	}
	return storage.Settled{}, retryLater(http.StatusServiceUnavailable, "Too many events of this customer at once. Try again shortly.", "5")
}

// ask works out how a customer stands with Stripe. Subscriptions to prices
// that no plan has leave things as they are: the operator may have forgotten
// to name a price that customers still pay.
func (s *Server) ask(ctx context.Context, read storage.Subscription) (storage.SubscriptionState, error) {
	all, err := s.stripe.Subscriptions(ctx, read.Customer)
	if err != nil && !errors.Is(err, errCustomerDeleted) {
		return storage.SubscriptionState{}, err
	}
	best, unknown := s.Stripe.standingOf(all, read.SubscriptionState, s.Now())
	if unknown && !best.grants {
		s.Log.Error("a subscription has a price that no plan has; its workspace's plan is left as it is. Name the price in the settings.",
			"customer", read.Customer, "prices", livePrices(all))
		return read.SubscriptionState, nil
	}
	return best.SubscriptionState, nil
}

func livePrices(all []stripeSubscription) (prices []string) {
	for _, sub := range all {
		if isLive(sub) {
			prices = append(prices, sub.prices...)
		}
	}
	return prices
}

func (s *Server) logPlanChange(sub storage.Subscription, now storage.SubscriptionState, event string, from, to plans.ID) {
	s.Log.Info("a workspace's plan has changed", "from", from, "to", to, "subscription", now.ID, "status", now.Status,
		"customer", sub.Customer, "event", event)
}

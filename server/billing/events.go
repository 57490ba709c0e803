package billing

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Events are the types of events that matter here; any other is taken and forgotten.
func Events() []string {
	return []string{
		"checkout.session.completed",
		"customer.subscription.created", "customer.subscription.updated",
		"customer.subscription.deleted",
		"customer.subscription.paused", "customer.subscription.resumed",
		"invoice.paid", "invoice.payment_failed",
	}
}

// event is what we read of an event: whose it is. The rest is asked of
// Stripe, so it does not matter in which version of its API the event is written.
type event struct {
	id, kind, customer string
}

// TakeEvent checks and handles an event that Stripe has sent. An error that is no
// RefusedError means that it must come again.
func (s *Service) TakeEvent(ctx context.Context, body []byte, signature string) error {
	e, err := s.readEvent(body, signature)
	if err != nil {
		return err
	}
	if !slices.Contains(Events(), e.kind) {
		return nil
	}
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	return unavailable(s.handle(ctx, e))
}

// readEvent checks the signature, and that it was made in the last 5
// minutes by the machine's clock, before it looks at anything else.
func (s *Service) readEvent(body []byte, signature string) (event, error) {
	// Anybody can post to this address: nothing of the body is read before its signature is right.
	err := s.config.validate(body, signature)
	if err != nil {
		s.log.Warn("an event without a valid signature of Stripe's was refused", "error",
			err.Error())
	}
	switch {
	case errors.Is(err, stripe.ErrWebhookNotSigned):
		return event{}, refused("The Stripe-Signature header is missing")
	case errors.Is(err, stripe.ErrWebhookTooOld):
		return event{}, refused("The signature is too old")
	case err != nil:
		return event{}, refused("The signature is not that of this server's webhook secret")
	}
	var sent struct {
		ID, Type string
		Data     struct {
			Object struct {
				Customer json.RawMessage
			}
		}
	}
	if err := json.Unmarshal(body, &sent); err != nil || sent.ID == "" || sent.Type == "" {
		return event{}, refused("The body is not an event of Stripe's")
	}
	return event{id: sent.ID, kind: sent.Type, customer: idOf(sent.Data.Object.Customer)}, nil
}

// validate takes an event that any of the secrets has signed: there are two
// while one is rolled. A signature that is right and too old is called so.
func (cfg *Config) validate(body []byte, signature string) (err error) {
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

// handle applies one event. The event only says that something about a customer has changed: what,
// is read from Stripe (docs/adr/0015). Events come again and out of order, and either changes
// nothing.
func (s *Service) handle(ctx context.Context, e event) error {
	log := s.log.With("event", e.id, "type", e.kind, "customer", e.customer)
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
		log.Error("an event of Stripe's is about a customer that it then denied; nothing was done",
			"error", err.Error())
	default:
		return err
	}
	return nil
}

// settle asks Stripe about a customer and records the answer. The event is
// empty when none made us ask. ErrNotFound: the customer is no workspace's.
func (s *Service) settle(ctx context.Context, customer, event string) (storage.Settled, error) {
	const attempts = 10 // how often others may get ahead of us
	for range attempts {
		read, err := s.store.CustomerSubscription(ctx, customer)
		if err != nil {
			return storage.Settled{}, err
		}
		// Between the two reads of our state and Stripe's another event may be applied; Settle
		// notices by the version.
		now, err := s.ask(ctx, read)
		if err != nil {
			return storage.Settled{}, err
		}
		out, err := s.store.Settle(ctx, storage.Settlement{Read: read, Now: now, Event: event,
			Unpaid: s.unpaid})
		if errors.Is(err, storage.ErrOutdated) {
			continue
		}
		if err == nil && out.From != out.To {
			s.logPlanChange(read, now, event, out.From, out.To)
		}
		return out, err
	}
	return storage.Settled{}, &RetryError{"Too many events of this customer at once. Try again " +
		"shortly.", 5 * time.Second}
}

// ask works out how a customer stands with Stripe. Subscriptions to prices
// that no plan has leave things as they are: the operator may have forgotten
// to name a price that customers still pay.
func (s *Service) ask(
	ctx context.Context, read storage.Subscription,
) (storage.SubscriptionState, error) {
	all, err := s.stripe.Subscriptions(ctx, read.Customer)
	if err != nil && !errors.Is(err, errCustomerDeleted) {
		return storage.SubscriptionState{}, err
	}
	best, unknown := s.config.stateOf(all, read.SubscriptionState, s.now())
	if unknown && !best.grants {
		s.log.Error("a subscription has a price that no plan has; its workspace's plan is left "+
			"as it is. Name the price in the settings.",
			"customer", read.Customer, "prices", livePrices(all))
		return read.SubscriptionState, nil
	}
	return best.SubscriptionState, nil
}

// livePrices lists what the live subscriptions are for, also prices that this server does not know.
func livePrices(all []subscription) (prices []string) {
	for _, sub := range all {
		if isLive(sub) {
			prices = append(prices, sub.prices...)
		}
	}
	return prices
}

// logPlanChange logs what a customer may ask about later.
func (s *Service) logPlanChange(
	sub storage.Subscription, now storage.SubscriptionState, event string, from, to plans.ID,
) {
	s.log.Info("a workspace's plan has changed", "from", from, "to", to, "subscription", now.ID,
		"status", now.Status,
		"customer", sub.Customer, "event", event)
}

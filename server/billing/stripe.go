package billing

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/stripe/stripe-go/v85"

	"github.com/pikarc/server/plans"
)

// This file is the client of Stripe. doc.go says how its calls make up the life
// of a subscription.

// payments is what billing asks of Stripe.
type payments interface {
	// NewCustomer makes a customer. The same key makes it once.
	NewCustomer(ctx context.Context, in newCustomer) (id string, err error)
	// Subscriptions lists all that a customer ever had. errCustomerDeleted and
	// errCustomerUnknown when Stripe has no such customer (any more).
	Subscriptions(ctx context.Context, customer string) ([]subscription, error)
	// NewestCheckout is the customer's last checkout; its zero value when there was none.
	NewestCheckout(ctx context.Context, customer string) (checkout, error)
	// NewCheckout opens a page where a plan is bought. errKeyConflict when the
	// key was used for another plan, or is in use just now.
	NewCheckout(ctx context.Context, in newCheckout) (checkout, error)
	// CloseCheckout makes a page unusable. errCheckoutClosed when it was, or is paid.
	CloseCheckout(ctx context.Context, id string) error
	// OpenPortal opens a page where a customer manages the subscription.
	OpenPortal(ctx context.Context, customer, returnURL string) (url string, err error)
}

var (
	// errCustomerDeleted: a new customer is made in its place.
	errCustomerDeleted = errors.New("the customer was deleted in Stripe")
	// errCustomerUnknown most likely means that the keys were changed; nothing is changed then.
	errCustomerUnknown = errors.New("the customer is unknown to Stripe: is the secret key that " +
		"of another account or mode?")
	// errCheckoutClosed: it was paid or has expired meanwhile.
	errCheckoutClosed = errors.New("the checkout is no longer open")
	// errKeyConflict: another request with this key is under way.
	errKeyConflict = errors.New("the idempotency key is taken")
	// errStripeAway is worth another attempt: the event is answered with an error, and Stripe sends
	// it again.
	errStripeAway = errors.New("asking Stripe failed")
	// errStripeRefused is not worth another attempt.
	errStripeRefused = errors.New("refused by Stripe")
)

// newCustomer describes a customer to make. key is the idempotency key, as in newCheckout.
type newCustomer struct{ email, name, workspace, key string }

// newCheckout describes a checkout of a plan at a price.
type newCheckout struct {
	customer, workspace, price, key string
	plan                            plans.ID
	successURL, cancelURL           string
}

// checkout is a page where a plan is bought.
type checkout struct {
	id, url string
	plan    plans.ID
	open    bool
}

// subscription is what Stripe says of a subscription.
type subscription struct {
	id        string
	status    stripe.SubscriptionStatus
	prices    []string
	created   time.Time
	cancelAt  time.Time // when it is to end; zero when it goes on
	start     time.Time // of the current period
	end       time.Time // of the current period
	ended     time.Time
	unpaid    bool      // the last invoice was not paid
	unpaidDue time.Time // when that invoice was made
}

// client calls Stripe, or a stand-in for it.
type client struct{ api *stripe.Client }

// newClient returns a client that tries twice and logs nothing.
func newClient(cfg *Config) *client {
	backend := &stripe.BackendConfig{
		EnableTelemetry: stripe.Bool(false),
		HTTPClient:      &http.Client{Timeout: cfg.Timeout},
		// We log once, at our edge
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull},
		MaxNetworkRetries: stripe.Int64(1),
	}
	if cfg.APIURL != "" {
		backend.URL = stripe.String(cfg.APIURL)
	}
	return &client{stripe.NewClient(string(cfg.SecretKey),
		stripe.WithBackends(stripe.NewBackendsWithConfig(backend)))}
}

// NewCustomer makes a customer and returns its id. The workspace is in the customer's metadata, so
// that people find it in Stripe's dashboard.
func (c *client) NewCustomer(ctx context.Context, in newCustomer) (string, error) {
	params := &stripe.CustomerCreateParams{
		Email: stripe.String(in.email), Name: stripe.String(in.name),
		Metadata: map[string]string{"pikarc_workspace": in.workspace},
	}
	params.SetIdempotencyKey(in.key)
	made, err := c.api.V1Customers.Create(ctx, params)
	if err != nil {
		return "", stripeError("make a customer", err)
	}
	return made.ID, nil
}

// Subscriptions lists all subscriptions of a customer, ended ones too.
func (c *client) Subscriptions(
	ctx context.Context, customer string,
) (all []subscription, err error) {
	params := &stripe.SubscriptionListParams{Customer: stripe.String(customer),
		Status: stripe.String("all")}
	params.Limit = stripe.Int64(100)
	params.AddExpand("data.latest_invoice")
	for sub, err := range c.api.V1Subscriptions.List(ctx, params).All(ctx) {
		if isStripeCode(err, stripe.ErrorCodeResourceMissing) {
			return nil, c.missing(ctx, customer)
		}
		if err != nil {
			return nil, stripeError("list subscriptions", err)
		}
		all = append(all, subscriptionOf(sub))
	}
	return all, nil
}

// missing distinguishes a deleted customer from one that never existed.
func (c *client) missing(ctx context.Context, customer string) error {
	found, err := c.api.V1Customers.Retrieve(ctx, customer, nil)
	switch {
	case isStripeCode(err, stripe.ErrorCodeResourceMissing):
		return errCustomerUnknown
	case err != nil:
		return stripeError("read a customer", err)
	case found.Deleted:
		return errCustomerDeleted
	default:
		return errCustomerUnknown
	}
}

// subscriptionOf keeps what a state is computed from. A subscription has a period for each item;
// ours have one item.
func subscriptionOf(sub *stripe.Subscription) subscription {
	out := subscription{
		id: sub.ID, status: sub.Status, created: unixTime(sub.Created),
		cancelAt: unixTime(sub.CancelAt), ended: unixTime(sub.EndedAt),
	}
	if sub.Items != nil {
		for _, item := range sub.Items.Data {
			out.start, out.end = unixTime(item.CurrentPeriodStart), unixTime(item.CurrentPeriodEnd)
			if item.Price != nil {
				out.prices = append(out.prices, item.Price.ID)
			}
		}
	}
	// Stripe says the same in two ways.
	if sub.CancelAtPeriodEnd {
		out.cancelAt = out.end
	}
	if last := sub.LatestInvoice; last != nil {
		out.unpaid = last.Status == stripe.InvoiceStatusOpen ||
			last.Status == stripe.InvoiceStatusUncollectible
		out.unpaidDue = unixTime(last.Created)
	}
	return out
}

// NewestCheckout returns the customer's latest checkout, zero if there is none.
func (c *client) NewestCheckout(ctx context.Context, customer string) (checkout, error) {
	params := &stripe.CheckoutSessionListParams{Customer: stripe.String(customer)}
	params.Limit = stripe.Int64(1)
	for session, err := range c.api.V1CheckoutSessions.List(ctx, params).All(ctx) {
		if isStripeCode(err, stripe.ErrorCodeResourceMissing) {
			return checkout{}, c.missing(ctx, customer)
		}
		if err != nil {
			return checkout{}, stripeError("list checkouts", err)
		}
		return checkoutOf(session), nil
	}
	return checkout{}, nil
}

// NewCheckout opens a checkout page for a subscription.
func (c *client) NewCheckout(ctx context.Context, in newCheckout) (checkout, error) {
	// On the subscription too, so that its page in Stripe's dashboard says whose it is.
	ours := map[string]string{"pikarc_workspace": in.workspace, "pikarc_plan": string(in.plan)}
	params := &stripe.CheckoutSessionCreateParams{
		Mode: stripe.String("subscription"), Customer: stripe.String(in.customer),
		ClientReferenceID: stripe.String(in.workspace),
		LineItems: []*stripe.CheckoutSessionCreateLineItemParams{{Price: stripe.String(in.price),
			Quantity: stripe.Int64(1)}},
		SuccessURL: stripe.String(in.successURL), CancelURL: stripe.String(in.cancelURL),
		Metadata:         ours,
		SubscriptionData: &stripe.CheckoutSessionCreateSubscriptionDataParams{Metadata: ours},
	}
	params.SetIdempotencyKey(in.key)
	session, err := c.api.V1CheckoutSessions.Create(ctx, params)
	var refusal *stripe.Error
	if errors.As(err, &refusal) && (refusal.Type == stripe.ErrorTypeIdempotency ||
		refusal.Code == stripe.ErrorCodeIdempotencyKeyInUse) {
		return checkout{}, errKeyConflict
	}
	if err != nil {
		return checkout{}, stripeError("open a checkout", err)
	}
	return checkoutOf(session), nil
}

// checkoutOf keeps what we read of a checkout.
func checkoutOf(session *stripe.CheckoutSession) checkout {
	return checkout{
		id: session.ID, url: session.URL, plan: plans.ID(session.Metadata["pikarc_plan"]),
		open: session.Status == stripe.CheckoutSessionStatusOpen,
	}
}

// CloseCheckout expires a checkout, so that nobody pays for two: errCheckoutClosed if it is not
// open.
func (c *client) CloseCheckout(ctx context.Context, id string) error {
	_, err := c.api.V1CheckoutSessions.Expire(ctx, id, nil)
	var refusal *stripe.Error
	if errors.As(err, &refusal) && refusal.HTTPStatusCode == http.StatusBadRequest {
		return errCheckoutClosed
	}
	return stripeError("close a checkout", err)
}

// OpenPortal returns the address of Stripe's page where customers change and cancel subscriptions.
func (c *client) OpenPortal(ctx context.Context, customer, returnURL string) (string, error) {
	params := &stripe.BillingPortalSessionCreateParams{Customer: stripe.String(customer),
		ReturnURL: stripe.String(returnURL)}
	session, err := c.api.V1BillingPortalSessions.Create(ctx, params)
	if err != nil {
		return "", stripeError("open the customer portal", err)
	}
	return session.URL, nil
}

// stripeError names the call. It is errStripeAway if a retry may help: no answer,
// a rate limit, an internal error, or a key that is not accepted. A request that
// Stripe refuses is errStripeRefused. Neither text holds the key.
func stripeError(asked string, err error) error {
	var refusal *stripe.Error
	if err == nil {
		return nil
	}
	if !errors.As(err, &refusal) {
		return fmt.Errorf("%s: %w: %w", asked, errStripeAway, err)
	}
	kind := errStripeRefused
	switch status := refusal.HTTPStatusCode; {
	case status >= 500, status == http.StatusTooManyRequests, status == http.StatusUnauthorized,
		status == http.StatusForbidden:
		kind = errStripeAway
	}
	return fmt.Errorf("%s: %w (%d %s, request %q): %s", asked, kind, refusal.HTTPStatusCode,
		refusal.Code, refusal.RequestID, refusal.Msg)
}

// isStripeCode reports whether Stripe refused with this code.
func isStripeCode(err error, code stripe.ErrorCode) bool {
	var refusal *stripe.Error
	return errors.As(err, &refusal) && refusal.Code == code
}

// unixTime converts Stripe's seconds; 0 is no time.
func unixTime(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

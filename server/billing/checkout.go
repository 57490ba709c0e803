package billing

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Where the dashboard's page of plans is, below the public URL.
const (
	// planPage is where the dashboard shows plans; Stripe sends the browser back there.
	planPage         = "/plan"
	planPageBought   = planPage + "?checkout=done"
	planPageCanceled = planPage + "?checkout=canceled"
)

// Checkout returns the page where a workspace buys a plan, or, where it has a
// subscription, the portal where that is changed.
func (s *Service) Checkout(
	ctx context.Context, ws storage.WorkspaceKey, plan plans.ID,
) (url string, err error) {
	if !s.Sells(plan) {
		return "", refused(fmt.Sprintf("The %s plan is not sold on this server", plan))
	}
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	b, err := s.store.Billing(ctx, ws)
	if err != nil {
		return "", err
	}
	if b.Workspace.Plan.Custom {
		return "", refused(fmt.Sprintf(
			"The %s plan is arranged with the operator of this server. Ask there to change it.",
			b.Workspace.Plan.ID))
	}
	url, err = s.checkoutURL(ctx, b, plan)
	return url, unavailable(err)
}

// Portal returns Stripe's page where a workspace changes or cancels its
// subscription, and finds invoices.
func (s *Service) Portal(ctx context.Context, ws storage.WorkspaceKey) (url string, err error) {
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	b, err := s.store.Billing(ctx, ws)
	if err != nil {
		return "", err
	}
	if b.Subscription.Customer == "" {
		return "", refused("This workspace has never had a subscription, so there is none to manage")
	}
	url, err = s.stripe.OpenPortal(ctx, b.Subscription.Customer, s.config.PublicURL+planPage)
	return url, unavailable(err)
}

// checkoutURL keeps a plan from being bought twice, however many clicks race:
//
//   - At most one page of a customer's is open. A new one is made only after the
//     last one was closed, and its idempotency key is made from the last one's
//     id, so that racing requests make the same page, or one of them fails and
//     looks again.
//   - No page is made while a subscription lives. The last page is looked at
//     before the subscriptions: had it been paid before that look, they would show it;
//     if it is paid after, closing it fails and we look again.
func (s *Service) checkoutURL(
	ctx context.Context, b storage.Billing, plan plans.ID,
) (string, error) {
	const attempts = 5
	customer := b.Subscription.Customer
	for range attempts {
		if customer == "" {
			var err error
			if customer, err = s.makeCustomer(ctx, b); err != nil {
				return "", err
			}
		}
		url, err := s.tryCheckout(ctx, b, customer, plan)
		switch {
		// Somebody has deleted the customer in Stripe's dashboard: a new one takes its place, once.
		case errors.Is(err, errCustomerDeleted), errors.Is(err, errCustomerUnknown):
			if customer != b.Subscription.Customer {
				return "", err // one that was just made
			}
			customer = ""
		case errors.Is(err, errKeyConflict), errors.Is(err, errCheckoutClosed),
			errors.Is(err, storage.ErrOutdated):
		default:
			return url, err
		}
	}
	return "", &RetryError{"Another checkout of this workspace is under way. Try again in a moment.", 2 * time.Second}
}

// tryCheckout returns the address of a checkout page. It reads Stripe first: a customer with a live
// subscription must not buy a second one, and an open checkout of the same plan is used again.
func (s *Service) tryCheckout(
	ctx context.Context, b storage.Billing, customer string, plan plans.ID,
) (string, error) {
	last, err := s.stripe.NewestCheckout(ctx, customer)
	if err != nil {
		return "", err
	}
	subscriptions, err := s.stripe.Subscriptions(ctx, customer)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(subscriptions, isLive) {
		return s.stripe.OpenPortal(ctx, customer, s.config.PublicURL+planPage)
	}
	if last.open && last.plan == plan {
		return last.url, nil
	}
	if last.open {
		if err := s.stripe.CloseCheckout(ctx, last.id); err != nil {
			return "", err
		}
	}
	// Not the plan: clicks on two plans that race are to meet in one key. The settings: with
	// others than before a restart the same key would be a conflict for a day.
	settings := fingerprint(s.config.PublicURL, fmt.Sprint(s.config.Prices))
	page, err := s.stripe.NewCheckout(ctx, newCheckout{
		customer: customer, workspace: b.Workspace.ID.String(), plan: plan,
		price:      s.config.Prices[plan][0],
		key:        "checkout/" + customer + "/after/" + last.id + "/" + settings,
		successURL: s.config.PublicURL + planPageBought, cancelURL: s.config.PublicURL +
			planPageCanceled,
	})
	return page.url, err
}

// makeCustomer makes the workspace a customer of Stripe. The key makes racing
// requests, and one repeated after a crash, make the same one. It covers what is
// sent: after a change of name Stripe would refuse the old key for a day, and after
// a refusal of the old email it would repeat that.
func (s *Service) makeCustomer(ctx context.Context, b storage.Billing) (string, error) {
	before := b.Subscription.Customer
	id := b.Workspace.ID.String()
	customer, err := s.stripe.NewCustomer(ctx, newCustomer{
		email: b.Email, name: b.Workspace.Name, workspace: id,
		key: "customer/" + id + "/after/" + before + "/" + fingerprint(b.Email, b.Workspace.Name),
	})
	if err != nil {
		return "", err
	}
	return customer, s.store.SetCustomer(ctx, b.Subscription.Workspace, before, customer)
}

// fingerprint tells texts apart in a key of bounded length.
func fingerprint(texts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(texts, "\x00")))
	return hex.EncodeToString(sum[:8])
}

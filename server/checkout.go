package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Where the dashboard's page of plans is, below the public URL.
const (
	planPage         = "/plan"
	planPageBought   = planPage + "?checkout=done"
	planPageCanceled = planPage + "?checkout=canceled"
)

// startCheckout answers with the page where a plan is bought, or, for a
// workspace that has a subscription, with the portal where it is changed.
func (s *Server) startCheckout(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	plan := plans.ID(o.Literal("plan", string(plans.Pro), string(plans.Scale)))
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	if s.stripe == nil {
		return errNoBilling()
	}
	if len(s.Stripe.Prices[plan]) == 0 {
		return badRequest(fmt.Sprintf("The %s plan is not sold on this server", plan))
	}
	ctx, cancel := s.askStripe(c.ctx())
	defer cancel()
	b, err := s.store.Billing(ctx, c.who.workspace)
	if err != nil {
		return err
	}
	if b.Workspace.Plan.Custom {
		return badRequest(fmt.Sprintf("The %s plan is arranged with the operator of this server. Ask there to change it.", b.Workspace.Plan.ID))
	}
	url, err := s.checkoutURL(ctx, b, plan)
	if err != nil {
		return stripeAway(err)
	}
	return c.ok(pageJSON{url}, nil)
}

type pageJSON struct {
	URL string `json:"url"`
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
func (s *Server) checkoutURL(ctx context.Context, b storage.Billing, plan plans.ID) (string, error) {
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
		case errors.Is(err, errCustomerDeleted), errors.Is(err, errCustomerUnknown):
			if customer != b.Subscription.Customer {
				return "", err // one that was just made
			}
			customer = ""
		case errors.Is(err, errKeyConflict), errors.Is(err, errCheckoutClosed), errors.Is(err, storage.ErrOutdated):
		default:
			return url, err
		}
	}
	return "", retryLater(http.StatusServiceUnavailable, "Another checkout of this workspace is under way. Try again in a moment.", "2")
}

func (s *Server) tryCheckout(ctx context.Context, b storage.Billing, customer string, plan plans.ID) (string, error) {
	last, err := s.stripe.NewestCheckout(ctx, customer)
	if err != nil {
		return "", err
	}
	subscriptions, err := s.stripe.Subscriptions(ctx, customer)
	if err != nil {
		return "", err
	}
	if slices.ContainsFunc(subscriptions, isLive) {
		return s.stripe.OpenPortal(ctx, customer, s.Stripe.PublicURL+planPage)
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
	settings := fingerprint(s.Stripe.PublicURL, fmt.Sprint(s.Stripe.Prices))
	page, err := s.stripe.NewCheckout(ctx, newCheckout{
		customer: customer, workspace: b.Workspace.ID.String(), plan: plan, price: s.Stripe.Prices[plan][0],
		key:        "checkout/" + customer + "/after/" + last.id + "/" + settings,
		successURL: s.Stripe.PublicURL + planPageBought, cancelURL: s.Stripe.PublicURL + planPageCanceled,
	})
	return page.url, err
}

// makeCustomer makes the workspace a customer of Stripe. The key makes racing
// requests, and one repeated after a crash, make the same one. It covers what is
// sent: after a change of name Stripe would refuse the old key for a day, and after
// a refusal of the old email it would repeat that.
func (s *Server) makeCustomer(ctx context.Context, b storage.Billing) (string, error) {
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

// openPortal answers with Stripe's page where a customer changes or cancels
// the subscription, and finds invoices.
func (s *Server) openPortal(c *call) error {
	if s.stripe == nil {
		return errNoBilling()
	}
	ctx, cancel := s.askStripe(c.ctx())
	defer cancel()
	b, err := s.store.Billing(ctx, c.who.workspace)
	if err != nil {
		return err
	}
	if b.Subscription.Customer == "" {
		return badRequest("This workspace has never had a subscription, so there is none to manage")
	}
	url, err := s.stripe.OpenPortal(ctx, b.Subscription.Customer, s.Stripe.PublicURL+planPage)
	if err != nil {
		return stripeAway(err)
	}
	return c.ok(pageJSON{url}, nil)
}

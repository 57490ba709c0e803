package billing

import (
	"context"
	"errors"
	"fmt"

	"github.com/pikarc/server/storage"
)

// EndPlans settles the customers whose plan has come to its end: a grace
// period, or a paid one. Stripe has the last word, so while it is away the
// plans stay, and the next sweep tries again.
func (s *Service) EndPlans(ctx context.Context) (ended int, err error) {
	customers, err := s.store.EndedPlans(ctx)
	if err != nil {
		return 0, err
	}
	var r round
	err = r.each(ctx, customers, func(sub storage.Subscription) error {
		out, err := s.check(ctx, sub.Customer)
		if err == nil && out.Changed {
			ended++
		}
		return err
	})
	return ended, errors.Join(err, r.err())
}

// Reconcile compares every customer with Stripe and repairs what webhooks have missed.
func (s *Service) Reconcile(ctx context.Context) (repaired int, err error) {
	const page = 100
	var r round
	repair := func(sub storage.Subscription) error {
		out, err := s.check(ctx, sub.Customer)
		if err == nil && out.Changed {
			repaired++
			s.log.Warn("what Stripe says of a customer was news, which no event had brought: "+
				"repaired",
				"customer", sub.Customer, "from", out.From, "to", out.To)
		}
		return err
	}
	// Page by page, so that the transaction that reads customers does not wait for Stripe.
	customers, last := make([]storage.Subscription, page), storage.WorkspaceKey(0)
	for len(customers) == page {
		if customers, err = s.store.Customers(ctx, last, page); err != nil {
			return repaired, err
		}
		if err := r.each(ctx, customers, repair); err != nil {
			return repaired, err
		}
		if len(customers) > 0 {
			last = customers[len(customers)-1].Workspace
		}
	}
	if err := r.err(); err != nil {
		return repaired, err
	}
	s.log.Info("compared all customers with Stripe", "customers", r.checked, "repaired", repaired)
	_, err = s.store.DeleteOldStripeEvents(ctx)
	return repaired, err
}

// round goes through customers. One that fails holds up none of the others.
type round struct {
	checked, failed int
	first           error // of those that failed
}

// each calls check for every customer. It ends early only with the context.
func (r *round) each(
	ctx context.Context, customers []storage.Subscription, check func(storage.Subscription) error,
) error {
	for _, sub := range customers {
		err := check(sub)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.checked++
		if err == nil {
			continue
		}
		if r.failed++; r.first == nil {
			r.first = fmt.Errorf("customer %s: %w", sub.Customer, err)
		}
	}
	return nil
}

// err says that some failed, and how the first did; they are tried again with the next round.
func (r *round) err() error {
	if r.failed == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d customers could not be compared with Stripe and are tried again: %w", r.failed, r.checked, r.first)
}

// check settles one customer without an event. One that Stripe does not know,
// or does not want to tell about, is logged and passed over: under the key of
// another account or mode all are unknown, and nobody shall lose a plan by that.
func (s *Service) check(ctx context.Context, customer string) (storage.Settled, error) {
	ctx, cancel := s.withTimeout(ctx)
	defer cancel()
	out, err := s.settle(ctx, customer, "")
	switch {
	case errors.Is(err, errCustomerUnknown), errors.Is(err, errStripeRefused):
		s.log.Error("a customer cannot be compared with Stripe; its workspace's plan is left as "+
			"it is",
			"customer", customer, "error", err.Error())
	case errors.Is(err, storage.ErrNotFound): // the workspace has become another customer meanwhile
	default:
		return out, err
	}
	return storage.Settled{}, nil
}

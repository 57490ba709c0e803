package server

import (
	"context"
	"errors"

	"github.com/pikarc/server/storage"
)

// endPlans settles the customers whose plan has come to its end: a grace
// period, or a paid one. Stripe has the last word, so while it is away the
// plans stay, and the next sweep tries again.
func (s *Server) endPlans(ctx context.Context) (ended int, err error) {
	const sweep = 100
	customers, err := s.store.EndedPlans(ctx, sweep)
	if err != nil {
		return 0, err
	}
	for _, customer := range customers {
		out, err := s.check(ctx, customer)
		if err != nil {
			return ended, err
		}
		if out.Changed {
			ended++
		}
	}
	return ended, nil
}

// reconcile compares every customer with Stripe and repairs what webhooks have missed.
func (s *Server) reconcile(ctx context.Context) (repaired int, err error) {
	const page = 100
	checked, last := 0, storage.WorkspaceKey(0)
	for {
		customers, err := s.store.Customers(ctx, last, page)
		if err != nil {
			return repaired, err
		}
		for _, sub := range customers {
			last = sub.Workspace
			out, err := s.check(ctx, sub.Customer)
			if err != nil {
				return repaired, err
			}
			checked++
			if out.Changed {
				repaired++
				s.Log.Warn("what Stripe says of a customer was news, which no event had brought: repaired",
					"customer", sub.Customer, "from", out.From, "to", out.To)
			}
		}
		if len(customers) < page {
			s.Log.Info("compared all customers with Stripe", "customers", checked, "repaired", repaired)
			_, err := s.store.ForgetStripeEvents(ctx)
			return repaired, err
		}
	}
}

// check settles one customer without an event. One that Stripe does not know,
// or does not want to tell about, is logged and passed over: under the key of
// another account or mode all are unknown, and nobody shall lose a plan by that.
func (s *Server) check(ctx context.Context, customer string) (storage.Settled, error) {
	ctx, cancel := s.askStripe(ctx)
	defer cancel()
	out, err := s.settle(ctx, customer, "")
	switch {
	case errors.Is(err, errCustomerUnknown), errors.Is(err, errStripeRefused):
		s.Log.Error("a customer cannot be compared with Stripe; its workspace's plan is left as it is",
			"customer", customer, "error", err.Error())
	case errors.Is(err, storage.ErrNotFound): // the workspace has become another customer meanwhile
	default:
		return out, err
	}
	return storage.Settled{}, nil
}

package billing

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// Service sells plans.
type Service struct {
	config *Config
	store  *storage.Store
	unpaid plans.Plan // of a workspace that no longer pays
	log    *slog.Logger
	now    func() time.Time
	stripe payments
}

// New sells plans of a store's workspaces; one that no longer pays has the unpaid
// plan.
func New(
	store *storage.Store, cfg *Config, unpaid plans.Plan, log *slog.Logger, now func() time.Time,
) *Service {
	cfg = cfg.withDefaults()
	return &Service{config: cfg, store: store, unpaid: unpaid, log: log, now: now,
		stripe: newClient(cfg)}
}

// Sells reports whether a plan can be bought.
func (s *Service) Sells(plan plans.ID) bool { return len(s.config.Prices[plan]) > 0 }

// withTimeout bounds everything that one request or check asks of Stripe.
func (s *Service) withTimeout(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.config.Timeout)
}

// RefusedError says what is wrong with what was asked, in a sentence for who asked.
type RefusedError string

// Error is the sentence.
func (e RefusedError) Error() string { return string(e) }

// refused returns an error whose text is for the customer.
func refused(detail string) error { return RefusedError(detail) }

// RetryError says what stands in the way for now.
type RetryError struct {
	Detail string        // a sentence for who asked
	After  time.Duration // when to try again
}

// Error is the sentence.
func (e *RetryError) Error() string { return e.Detail }

// unavailable words trouble of Stripe's for the person who waits. A refusal by
// Stripe is a mistake of this server or in its settings, and stays an error.
func unavailable(err error) error {
	if !errors.Is(err, errStripeAway) && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	const detail = "Stripe does not answer now. Nothing was changed; try again in a minute."
	return errors.Join(&RetryError{detail, time.Minute}, err)
}

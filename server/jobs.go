package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pikarc/server/storage"
)

const (
	idleSweepEvery = time.Minute
	expireEvery    = 6 * time.Hour
	endPlansEvery  = time.Minute
	reconcileEvery = 24 * time.Hour
	reconcileTry   = 10 * time.Minute // after it failed
)

// startJobs runs the upkeep until the context ends; the channel closes when
// all of it has stopped. Each job also runs at the start, so that a server
// restarted often is still kept tidy.
func (s *Server) startJobs(ctx context.Context) <-chan struct{} {
	var group sync.WaitGroup
	group.Go(func() { s.every(ctx, idleSweepEvery, "end idle runs", "runs", s.store.EndIdleRuns) })
	group.Go(func() { s.every(ctx, expireEvery, "delete expired runs", "runs", s.store.Expire) })
	if s.stripe != nil {
		group.Go(func() { s.every(ctx, endPlansEvery, "end plans that are no longer paid", "customers", s.endPlans) })
		reconcile := s.until(reconcileEvery, s.reconcile)
		group.Go(func() { s.every(ctx, reconcileTry, "repair customers", "customers", reconcile) })
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	return done
}

// every runs a job now and then again and again. It logs how much a job did, counted in things.
func (s *Server) every(ctx context.Context, interval time.Duration, name, things string, job func(context.Context) (int, error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		n, err := job(ctx)
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, storage.ErrClosed):
			return
		case err != nil:
			s.Log.Error(name, "error", err.Error(), things, n)
		case n > 0:
			s.Log.Info(name, things, n)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// until turns a job that is due after an interval into one that can be called
// more often: it is tried at each call until it succeeds, and then rests.
func (s *Server) until(interval time.Duration, job func(context.Context) (int, error)) func(context.Context) (int, error) {
	var due time.Time
	return func(ctx context.Context) (int, error) {
		if s.Now().Before(due) {
			return 0, nil
		}
		n, err := job(ctx)
		if err == nil {
			due = s.Now().Add(interval)
		}
		return n, err
	}
}

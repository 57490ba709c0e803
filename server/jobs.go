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
)

// startJobs runs the upkeep until the context ends; the channel closes when
// all of it has stopped. Each job also runs at the start, so that a server
// restarted often is still kept tidy.
func (s *Server) startJobs(ctx context.Context) <-chan struct{} {
	var group sync.WaitGroup
	group.Go(func() { s.every(ctx, idleSweepEvery, "end idle runs", s.store.EndIdleRuns) })
	group.Go(func() { s.every(ctx, expireEvery, "delete expired runs", s.store.Expire) })
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	return done
}

func (s *Server) every(ctx context.Context, interval time.Duration, name string, job func(context.Context) (int, error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		n, err := job(ctx)
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, storage.ErrClosed):
			return
		case err != nil:
			s.Log.Error(name, "error", err.Error(), "runs", n)
		case n > 0:
			s.Log.Info(name, "runs", n)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

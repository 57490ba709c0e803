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
	lookEvery      = time.Minute // whether a backup or a verification is due
)

// The jobs, as metrics name them.
const (
	jobIdle   = "end_idle_runs"
	jobExpire = "delete_expired_runs"
	jobVerify = "verify"
	jobBackup = "backup"
)

// startJobs runs the upkeep until the context ends; the channel closes when
// all of it has stopped. Each job also runs at the start, so that a server
// restarted often is still kept tidy; backups and verifications only when due.
func (s *Server) startJobs(ctx context.Context) <-chan struct{} {
	var group sync.WaitGroup
	group.Go(func() { s.every(ctx, idleSweepEvery, jobIdle, "end idle runs", s.store.EndIdleRuns) })
	group.Go(func() { s.every(ctx, expireEvery, jobExpire, "delete expired runs", s.store.Expire) })
	if s.VerifyEvery > 0 {
		due := s.verifyDue()
		group.Go(func() { s.every(ctx, lookEvery, "", "", s.whenDue(due, s.verify)) })
	}
	if s.Backups.Dir != "" {
		group.Go(func() { s.every(ctx, lookEvery, "", "", s.whenDue(s.backupDue, s.backup)) })
	}
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	return done
}

// every repeats a job. One without a label is a look at the clock, which
// counts what it starts itself.
func (s *Server) every(ctx context.Context, interval time.Duration, label, name string, job func(context.Context) (int, error)) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		began := time.Now()
		n, err := job(ctx)
		if stopped(err) {
			return
		}
		if label != "" {
			s.metrics.jobs.done(label, began, n, err)
		}
		switch {
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

// stopped tells the errors that only say that the server ends.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrClosed)
}

// whenDue makes a job of one that is to run at certain times. Such a job logs
// its own failures.
func (s *Server) whenDue(due func(time.Time) bool, job func(context.Context) error) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !due(s.Now()) {
			return 0, ctx.Err()
		}
		if err := job(ctx); stopped(err) {
			return 0, err
		}
		return 0, nil
	}
}

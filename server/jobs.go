package server

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pikarc/server/server/billing"
	"github.com/pikarc/server/server/telemetry"
	"github.com/pikarc/server/storage"
)

// How often each job runs. What a person waits for runs every second; what only tidies up runs
// rarely.
const (
	idleSweepEvery = time.Minute
	expireEvery    = 6 * time.Hour
	eraseEvery     = time.Minute
	// An agent waits for its review to expire.
	reviewsEvery   = time.Second
	shrinkEvery    = 10 * time.Minute
	endPlansEvery  = time.Minute
	reconcileEvery = 24 * time.Hour
	reconcileTry   = 10 * time.Minute // after it failed
	// last_used_at is exact to a minute.
	keyUseEvery = time.Minute
	// Run search finds what was indexed.
	indexEvery  = time.Second
	foldEvery   = 10 * time.Minute
	alertsEvery = time.Minute
	lookEvery   = time.Minute // whether a backup or a verification is due
)

// job is a round of upkeep that metrics count.
type job uint8

// The jobs. Each has its series from the start, whether or not this server runs it.
const (
	jobIdle job = iota
	jobExpire
	jobErase
	jobReviews
	jobShrink
	jobEndPlans
	jobReconcile
	jobVerify
	jobBackup
	jobKeyUse
	jobIndex
	jobFold
	jobAlerts
	jobCount
	jobNone = jobCount // a look at the clock, which counts what it starts itself
)

// String is the metrics' label.
func (j job) String() string {
	return [jobCount]string{
		"end_idle_runs", "delete_expired_runs", "erase_users", "expire_reviews", "shrink_file",
		"end_unpaid_plans", "repair_customers", "verify", "backup", "record_key_use",
		"index_runs", "fold_minutes", "check_alerts",
	}[j]
}

// upkeep is what a server does beside answering.
type upkeep struct {
	Config
	store   *storage.Store
	metrics *telemetry.Metrics
	billing *billing.Service      // nil when this server sells nothing
	send    func(context.Context) // sends notifications until the context ends
}

// jobLabels are those of all jobs.
func jobLabels() (labels []string) {
	for j := range jobCount {
		labels = append(labels, j.String())
	}
	return labels
}

// start runs the upkeep until the context ends; the channel closes when
// all of it has stopped. Of several nodes on one database each records its own
// use of keys, and one does all the rest.
func (u *upkeep) start(ctx context.Context) <-chan struct{} {
	var group sync.WaitGroup
	u.metrics.Jobs.Enable(jobKeyUse.String(), true)
	group.Go(func() {
		u.every(ctx, keyUseEvery, jobKeyUse, "record when API keys were used", "", u.recordKeyUse)
	})
	group.Go(func() {
		u.store.OnDuty(ctx, u.duty, func(err error) {
			u.Log.Warn("the database does not answer the session that does the upkeep, or waits for it",
				"error", err.Error())
		})
	})
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	return done
}

// duty does what one node does for all, until the context ends. Each job also
// runs at the start, so that a server restarted often is still kept tidy;
// backups and verifications only when due.
func (u *upkeep) duty(ctx context.Context) {
	var enabled []job
	if u.store.Shared() {
		u.Log.Info("this node does the upkeep now")
		defer func() { // another one may
			u.metrics.Jobs.SetOnDuty(false)
			u.metrics.Outbox.Waiting(time.Time{})
			for _, j := range enabled {
				u.metrics.Jobs.Enable(j.String(), false)
			}
		}()
	}
	u.metrics.Jobs.SetOnDuty(true)
	var group sync.WaitGroup
	defer group.Wait()
	enable := func(j job) {
		enabled = append(enabled, j)
		u.metrics.Jobs.Enable(j.String(), true)
	}
	// Each job runs in a goroutine of its own, so that a slow one delays no other.
	does := func(interval time.Duration, j job, name, things string,
		round func(context.Context) (int, error)) {
		enable(j)
		group.Go(func() { u.every(ctx, interval, j, name, things, round) })
	}
	looks := func(round func(context.Context) (int, error)) {
		group.Go(func() { u.every(ctx, lookEvery, jobNone, "", "", round) })
	}
	group.Go(func() { u.send(ctx) })
	does(idleSweepEvery, jobIdle, "end idle runs", "runs", u.store.EndIdleRuns)
	does(expireEvery, jobExpire, "delete expired runs", "runs", u.store.Expire)
	does(eraseEvery, jobErase, "erase users", "users", u.store.EraseUsers)
	does(reviewsEvery, jobReviews, "expire reviews", "reviews", u.store.ExpireReviews)
	does(shrinkEvery, jobShrink, "shrink the file", "pages", u.shrink)
	does(indexEvery, jobIndex, "index runs for searches", "", u.indexRuns)
	does(foldEvery, jobFold, "add up minutes into hours", "", u.foldMinutes)
	does(alertsEvery, jobAlerts, "check what to tell of", "", u.checkAlerts)
	if u.billing != nil {
		does(endPlansEvery, jobEndPlans, "end plans that are no longer paid", "customers",
			u.billing.EndPlans)
		does(reconcileTry, jobReconcile, "repair customers", "customers",
			u.until(reconcileEvery, u.billing.Reconcile))
	}
	if u.VerifyEvery > 0 {
		enable(jobVerify)
		looks(u.whenDue(u.verifyDue(), u.verify))
	}
	looks(u.lookAtWAL)
	if u.Backups.Dir != "" {
		enable(jobBackup)
		looks(u.backingOff(u.backupDue, u.backup))
	}
}

// every runs a job now and then again and again, and logs how much it did,
// counted in things.
func (u *upkeep) every(
	ctx context.Context, interval time.Duration, label job, name, things string,
	round func(context.Context) (int, error),
) {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		began := time.Now()
		n, err := round(ctx)
		if stopped(err) {
			return
		}
		if label != jobNone {
			u.metrics.Jobs.Finished(label.String(), began, n, err)
		}
		switch {
		case err != nil:
			u.Log.Error(name, "error", err.Error(), things, n)
		case n > 0:
			u.Log.Info(name, things, n)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// indexRuns says that it did nothing, so that it is not logged every second.
func (u *upkeep) indexRuns(ctx context.Context) (int, error) {
	_, err := u.store.IndexRuns(ctx)
	return 0, err
}

// recordKeyUse says that it did nothing, so that it is not logged every minute.
func (u *upkeep) recordKeyUse(ctx context.Context) (int, error) {
	_, err := u.store.RecordKeyUse(ctx)
	return 0, err
}

// foldMinutes says that it did nothing, so that it is not logged every hour.
func (u *upkeep) foldMinutes(ctx context.Context) (int, error) {
	_, err := u.store.FoldMinutes(ctx)
	return 0, err
}

// checkAlerts tells of what a minute has brought, and of the disk.
func (u *upkeep) checkAlerts(ctx context.Context) (int, error) {
	if err := u.store.CheckAlerts(ctx); err != nil {
		return 0, err
	}
	if u.Disk == nil {
		return 0, nil
	}
	free, size, known := u.Disk()
	if !known || size == 0 {
		return 0, nil
	}
	return 0, u.alert(ctx, storage.DiskLow, diskLow(free, size), map[string]any{
		"free_bytes": free, "size_bytes": size, "free_percent": free * 100 / size,
	})
}

// diskLow reports whether so little is free that somebody should see to it: a
// twentieth of a small disk, or a quarter of a gibibyte of any. Of a large disk
// 10 GiB are enough.
func diskLow(free, size int64) bool {
	const least, enough, part = 256 << 20, 10 << 30, 20
	return free < least || free < size/part && free < enough
}

// alert tells the operator, as long as something lasts.
func (u *upkeep) alert(ctx context.Context, kind storage.EventKind, firing bool, data map[string]any) error {
	return u.store.Alert(ctx, storage.ServerAlert{Kind: kind, Firing: firing, Data: data})
}

// until turns a job that is due after an interval into one that can be called
// more often: it is tried at each call until it succeeds, and then rests.
func (u *upkeep) until(
	interval time.Duration, round func(context.Context) (int, error),
) func(context.Context) (int, error) {
	var due time.Time
	return func(ctx context.Context) (int, error) {
		if u.Now().Before(due) {
			return 0, nil
		}
		n, err := round(ctx)
		if err == nil {
			due = u.Now().Add(interval)
		}
		return n, err
	}
}

// lookAtWAL says in the log, as long as it lasts, that a read keeps the
// write-ahead log from shrinking: one of another process, as a rule.
func (u *upkeep) lookAtWAL(ctx context.Context) (int, error) {
	const tolerated = time.Minute
	if st := u.store.Stats(); st.WALBlocked >= tolerated {
		u.Log.WarnContext(ctx,
			"a long read keeps the write-ahead log from shrinking: see docs/ops/metrics.md",
			"seconds", int64(st.WALBlocked.Seconds()), "wal_bytes", st.WALBytes)
	}
	return 0, ctx.Err()
}

// stopped tells the errors that only say that the server ends.
func stopped(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrClosed)
}

// backingOff is whenDue for a job that should not be tried again at once: each
// failure in a row doubles the time until the next attempt, up to an hour.
func (u *upkeep) backingOff(
	due func(time.Time) bool, job func(context.Context) error,
) func(context.Context) (int, error) {
	const longest = time.Hour
	var wait time.Duration
	var failed time.Time
	waits := func(now time.Time) bool { // a clock that was set back waits for nothing
		return !now.Before(failed) && now.Sub(failed) < wait
	}
	return u.whenDue(func(now time.Time) bool { return !waits(now) && due(now) },
		func(ctx context.Context) error {
			err := job(ctx)
			switch {
			case err == nil:
				wait = 0
			case !stopped(err):
				wait, failed = min(max(2*wait, lookEvery), longest), u.Now()
			}
			return err
		})
}

// whenDue makes a job of one that is to run at certain times. Such a job logs
// its own failures.
func (u *upkeep) whenDue(
	due func(time.Time) bool, round func(context.Context) error,
) func(context.Context) (int, error) {
	return func(ctx context.Context) (int, error) {
		if !due(u.Now()) {
			return 0, ctx.Err()
		}
		if err := round(ctx); stopped(err) {
			return 0, err
		}
		return 0, nil
	}
}

// shrink gives free space back to the disk, and measures what will be free next.
func (u *upkeep) shrink(ctx context.Context) (pages int, err error) {
	pages, err = u.store.Shrink(ctx)
	if err != nil {
		return pages, err
	}
	e, err := u.store.TotalExpiring(ctx, expiringWithin)
	if err == nil {
		u.metrics.Jobs.SetExpiringBytes(e.Bytes)
	}
	return pages, err
}

// quietHour is when a daily verification begins, UTC.
const quietHour = 3 * time.Hour

// logged is how many differences are written to the log.
const logged = 20

// verifyDue is true once in each interval, at the quiet hour when that is a
// day. The interval in which the server starts is not over, so a start waits
// for the next: a verification reads everything, and a restart should be quick.
func (u *upkeep) verifyDue() func(time.Time) bool {
	interval := func(now time.Time) int64 {
		return now.Add(-quietHour).UnixMilli() / max(1, u.VerifyEvery.Milliseconds())
	}
	current := interval(u.Now())
	return func(now time.Time) bool {
		before := current
		current = interval(now)
		return current != before
	}
}

// verify compares the books with the ledger, and says in the log and in the
// metrics what it has found. It repairs nothing: a difference is a bug or a
// failing disk, and somebody should look before it is gone.
func (u *upkeep) verify(ctx context.Context) error {
	began := time.Now()
	report, err := u.store.Verify(ctx)
	if stopped(err) {
		return err
	}
	u.metrics.Jobs.Finished(jobVerify.String(), began, 0, err)
	if err != nil {
		u.Log.Error("verify", "error", err.Error())
		return err
	}
	u.metrics.Jobs.SetDifferences(report.Found)
	err = u.alert(ctx, storage.VerifyFailed, !report.Clean(), map[string]any{"differences": report.Found})
	if err != nil {
		u.Log.Error("tell what a verification found", "error", err.Error())
	}
	if report.Clean() {
		u.Log.Info("verified", "checks", report.Checks, "runs", report.Runs, "seconds",
			time.Since(began).Seconds())
		return nil
	}
	u.Log.Error("the books are wrong: run pikarc verify, and see docs/ops/verify.md", "differences",
		report.Found)
	for _, d := range report.Differences[:min(logged, len(report.Differences))] {
		u.Log.Error("difference", "check", d.Check, "row", d.Row, "stored", d.Stored, "should_be",
			d.ShouldBe)
	}
	return nil
}

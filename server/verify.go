package server

import (
	"context"
	"time"
)

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

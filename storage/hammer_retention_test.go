package storage

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
)

// Deleting the past changes no figure, while the figures are read and late
// reports come in for what is being deleted.
func TestFiguresSurviveRetentionUnderLoad(t *testing.T) {
	t.Parallel()
	h := newHammer(t, 90*time.Second, plans.Pro, plans.Scale)
	h.run(12)
	h.leaveOpen(h.tenants[1].ws, 20)
	h.mustVerify()
	for i, plan := range plans.All() { // of which the first two keep less than 20 days
		_, err := h.SetPlan(t.Context(), h.tenants[i].ws, plan)
		h.must(err)
	}
	h.Set(h.Now().AddDate(0, 0, 20))
	quiet, late := h.tenants[0].ws, h.tenants[1].ws
	figures, sums := h.figures(quiet), h.sums()
	tokens := h.number(`SELECT sum(prompt_tokens) FROM workspace_days`)
	expired := h.number(`SELECT count(*) FROM runs WHERE status <> 1 AND workspace_id <= $1`, late)
	kept := h.number(`SELECT count(*) FROM runs`) - expired
	open := h.openSteps(late)

	var deleted, reported atomic.Int64
	together(20+len(open), func(i int) {
		switch {
		case i < 4:
			n, err := h.Expire(context.Background())
			if err != nil {
				t.Error(err)
			}
			deleted.Add(int64(n))
		case i < 20:
			if now := h.figures(quiet); now != figures {
				t.Errorf("figures while runs are deleted: %s\nbefore: %s", now, figures)
			}
		default:
			s := open[i-20]
			_, err := h.UpdateStep(context.Background(), Caller{Workspace: late}, s[0], s[1], StepUpdate{PromptTokens: new(int64(1))})
			switch {
			case err == nil:
				reported.Add(1)
			case !errors.Is(err, ErrNotFound):
				t.Error(err)
			}
		}
	})

	if now := h.figures(quiet); now != figures {
		t.Errorf("figures after: %s\nbefore: %s", now, figures)
	}
	if now := h.sums(); now != sums {
		t.Errorf("sums of the past days before: %s, after: %s", sums, now)
	}
	if n := h.number(`SELECT sum(prompt_tokens) FROM workspace_days`); n != tokens+reported.Load() {
		t.Errorf("%d tokens are booked, want %d and %d late ones", n, tokens, reported.Load())
	}
	left := h.number(`SELECT count(*) FROM runs`)
	if expired < 20 || deleted.Load() != expired || left != kept || h.number(`SELECT count(*) FROM idempotency_keys`) != 0 {
		t.Errorf("%d runs are deleted and %d left, want %d and %d", deleted.Load(), left, expired, kept)
	}
	h.mustVerify() // also what retention has left
}

// figures is all that a workspace reads of its past.
func (h *hammer) figures(ws WorkspaceKey) string {
	ctx := context.Background()
	u, usageErr := h.Usage(ctx, ws)
	days, daysErr := h.DailyUsage(ctx, ws, 45, true)
	users, _, usersErr := h.Users(ctx, ws, UserFilter{Limit: 100})
	if err := errors.Join(usageErr, daysErr, usersErr); err != nil {
		h.t.Error(err)
	}
	text := fmt.Sprint(u, days)
	for _, user := range users {
		if user.RunCount == 0 && !user.Blocked {
			continue // who has no figure, and goes with their denied runs
		}
		text += fmt.Sprint(" ", user.UserID, user.RunCount, user.Today, user.Last30Days, user.LastSeenAt)
	}
	return text
}

// sums are those of every column of the days before today, and of the users' counter.
func (h *hammer) sums() (text string) {
	h.t.Helper()
	for _, from := range []string{
		"spend_nanos) FROM workspace_days", "prompt_tokens) FROM workspace_days", "completion_tokens) FROM workspace_days",
		"run_count) FROM workspace_days", "blocked_run_count) FROM workspace_days",
		"spend_nanos) FROM user_days", "run_count) FROM user_days",
		"spend_nanos) FROM model_days", "prompt_tokens) FROM model_days", "completion_tokens) FROM model_days", "unpriced_tokens) FROM model_days",
		"denial_count) FROM denial_days",
	} {
		n := h.number(`SELECT sum(`+from+` WHERE day < $1`, dayOf(h.Now()))
		text += fmt.Sprintf("%s %d, ", from, n)
	}
	return text + fmt.Sprint("users.run_count ", h.number(`SELECT sum(run_count) FROM users`))
}

// leaveOpen makes ended runs with a step each that has reported nothing, whatever
// the hammer has left blocked or spent.
func (h *hammer) leaveOpen(ws WorkspaceKey, n int) {
	h.t.Helper()
	ctx := context.Background()
	for range n {
		run, err := h.StartRun(ctx, Caller{Workspace: ws}, NewRun{UserID: "late"}, allow)
		h.must(err)
		_, err = h.CreateStep(ctx, Caller{Workspace: ws}, run.ID, NewStep{Type: 1, Sequence: 1}, allow)
		h.must(err)
		h.end(ws, run.ID, RunCompleted)
	}
}

// openSteps are the allowed steps of a workspace that have reported nothing.
func (h *hammer) openSteps(ws WorkspaceKey) (all [][2]uuid.UUID) {
	h.t.Helper()
	rows, err := h.conn().QueryContext(context.Background(), `SELECT r.uuid, s.uuid FROM runs r JOIN steps s ON s.run_id = r.id
		WHERE r.workspace_id = $1 AND s.status <> 4 AND s.booked_day IS NULL`, ws)
	h.must(err)
	for rows.Next() {
		var s [2]uuid.UUID
		h.must(rows.Scan(&s[0], &s[1]))
		all = append(all, s)
	}
	h.must(errors.Join(rows.Err(), rows.Close()))
	return all
}

package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	gocmp "github.com/google/go-cmp/cmp"
)

// check holds a server to the book: to all that was touched since the latest check, or to everything.
func (a *agent) check(ctx context.Context, everything bool) error {
	if err := a.checkLists(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	if err := a.settleLost(ctx); err != nil {
		return fmt.Errorf("%s: %w", a.name, err)
	}
	for _, r := range a.book {
		if !everything && !a.touched[r] {
			continue
		}
		seen, err := a.look(ctx, r.ID)
		if err != nil {
			return fmt.Errorf("%s: %w", a.name, err)
		}
		if diff := gocmp.Diff(r, seen); diff != "" {
			return fmt.Errorf("%s: run %s is not as answered (- answered, + shown):\n%s", a.name, r.ID, diff)
		}
	}
	clear(a.touched)
	return a.checkReplays(ctx)
}

func (a *agent) look(ctx context.Context, id string) (*shownRun, error) {
	got, err := a.send(ctx, pending{method: "GET", path: "/v1/runs/" + id})
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("run %s was answered, and now is %d %s", id, got.status, got.body)
	}
	seen := &shownRun{}
	if err := json.Unmarshal(got.body, seen); err != nil {
		return nil, err
	}
	slices.SortFunc(seen.Steps, func(x, y shownStep) int { return cmp.Compare(x.ID, y.ID) })
	if seen.Decision.Outcome == "DENY" {
		seen.EndedAt = "" // a denied start does not answer it
	}
	return seen, nil
}

// checkLists compares the runs of the agent's users with the book, and enters
// the one whose start was not answered, if it was recorded.
func (a *agent) checkLists(ctx context.Context) error {
	for _, user := range []string{a.user, a.banned()} {
		listed, err := a.list(ctx, "user_id="+user)
		if err != nil {
			return err
		}
		known := map[string]bool{}
		for _, r := range a.book {
			if r.UserID == user {
				known[r.ID] = true
			}
		}
		for _, id := range listed {
			if known[id] {
				delete(known, id)
				continue
			}
			if a.lost == nil || a.lost.run != nil || a.lost.body["user_id"] != user {
				return fmt.Errorf("%s has a run %s that nobody has asked for", user, id)
			}
			seen, err := a.look(ctx, id)
			if err != nil {
				return err
			}
			a.lost.run = seen
			a.enter(seen)
		}
		if len(known) > 0 {
			return fmt.Errorf("%s had runs that the list lacks: %v", user, known)
		}
	}
	return nil
}

// list returns the ids of all runs that fit a query.
func (a *agent) list(ctx context.Context, query string) (ids []string, err error) {
	for cursor := ""; ; {
		path := "/v1/runs/?limit=200&" + query
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		got, err := a.send(ctx, pending{method: "GET", path: path})
		if err != nil {
			return nil, err
		}
		var page struct {
			Items []shownRun
			Next  string `json:"next_cursor"`
		}
		if err := json.Unmarshal(got.body, &page); err != nil || got.status != http.StatusOK {
			return nil, fmt.Errorf("%s answered %d %s (%w)", path, got.status, got.body, err)
		}
		for _, r := range page.Items {
			ids = append(ids, r.ID)
		}
		if cursor = page.Next; cursor == "" {
			return ids, nil
		}
	}
}

// settleLost finds out whether the unanswered call was recorded, all of it or
// nothing, and repeats it where that is safe.
func (a *agent) settleLost(ctx context.Context) error {
	lost := a.lost
	if lost == nil {
		return nil
	}
	a.lost = nil
	recorded := false
	if lost.path == "/v1/runs/" {
		recorded = lost.run != nil
	} else {
		seen, err := a.look(ctx, lost.run.ID)
		if err != nil {
			return err
		}
		book := lost.run.clone()
		if recorded = gocmp.Diff(book, seen) != "" && lost.recorded != nil; recorded {
			if err := lost.recorded(book, seen); err != nil {
				return fmt.Errorf("half of %s %s %v: %w", lost.method, lost.path, lost.body, err)
			}
		}
		if diff := gocmp.Diff(book, seen); diff != "" {
			return fmt.Errorf("after the unanswered %s %s %v (- expected, + shown):\n%s", lost.method, lost.path, lost.body, diff)
		}
		*lost.run = *book
	}
	a.tally[map[bool]string{true: "unanswered but recorded", false: "unanswered and not recorded"}[recorded]]++
	if lost.creates && lost.key == "" {
		return nil
	}
	return a.repeat(ctx, *lost, recorded)
}

// repeat repeats an unanswered call, as a client would: it takes effect exactly once.
func (a *agent) repeat(ctx context.Context, lost pending, recorded bool) error {
	got, err := a.send(ctx, lost)
	if err != nil {
		return err
	}
	replayed := got.header.Get("Idempotent-Replay") == "true"
	if got.status/100 != 2 || replayed != (recorded && lost.creates) {
		return fmt.Errorf("repeating %s %s under the key %q answered %d %s (replayed: %v, recorded before: %v)",
			lost.method, lost.path, lost.key, got.status, got.body, replayed, recorded)
	}
	switch {
	case recorded || lost.recorded == nil && !lost.creates:
		return nil // that nothing was made twice, the comparison with the book will tell
	case lost.run == nil:
		return a.enterStart(got.body, lost.body["user_id"].(string))
	}
	seen, err := a.look(ctx, lost.run.ID)
	if err != nil {
		return err
	}
	return lost.recorded(lost.run, seen)
}

// checkReplays repeats some answered calls under their keys: the same bytes, and nothing new.
func (a *agent) checkReplays(ctx context.Context) error {
	for range min(2, len(a.replays)) {
		r := a.replays[a.random.IntN(len(a.replays))]
		got, err := a.send(ctx, r.call)
		if err != nil {
			return err
		}
		if !bytes.Equal(got.body, r.answer) || got.header.Get("Idempotent-Replay") != "true" {
			return fmt.Errorf("%s: repeating %s under its key answered %s, first %s", a.name, r.call.path, got.body, r.answer)
		}
		if r.call.run != nil {
			a.touched[r.call.run] = true // for the next check
		}
	}
	return nil
}

package pikarc

import (
	"context"
	"errors"
	"log/slog"
)

// deliver delivers kept reports, and returns how many. One that fails stays for the
// next time. look is whether to look at the disk, whatever may be known.
func (c *Client) deliver(ctx context.Context, look bool) (count int) {
	if !look && !c.journal.maybePending() {
		return 0
	}
	c.journal.drain(func(entries []entry) []entry {
		for i, e := range entries {
			err := c.deliverOne(ctx, e)
			switch {
			case err == nil:
				count++
			case waits(err):
				return entries[i:]
			default:
				slog.Error("pikarc: the server does not take a kept report, which is dropped", "err", err)
			}
		}
		return nil
	})
	return count
}

// deliverOne delivers one report. Requests are repeated with their first keys: what has reached the
// server is no double.
func (c *Client) deliverOne(ctx context.Context, e entry) error {
	if e.Kind == "request" {
		return c.do(ctx, call{method: e.Method, path: e.Path, body: e.Body}, nil)
	}
	// The run was started while the server was away. The key makes a repeated delivery find the
	// same run.
	if e.RunID == "" {
		var answer startedRun
		if err := c.do(ctx, call{method: "POST", path: "/v1/runs/", body: e.Start, key: e.Key}, &answer); err != nil {
			return err
		}
		e.RunID = answer.ID
	}
	if e.Kind == "end" {
		return c.do(ctx, call{method: "POST", path: "/v1/runs/" + e.RunID + "/end", body: endRunRequest{Status: e.Status}}, nil)
	}
	var answer createdStep
	err := c.do(ctx, call{method: "POST", path: "/v1/runs/" + e.RunID + "/steps", body: e.Step, key: e.StepKey}, &answer)
	if err != nil {
		return err
	}
	report := updateStepRequest{}
	if e.Report != nil {
		report = *e.Report
	}
	// The step is asked for although it has happened: the answer changes nothing any more, and the
	// record is complete.
	report.OutputData = map[string]any{"unguarded": true} // where the run's page shows it
	err = c.do(ctx, call{method: "PATCH", path: "/v1/runs/" + e.RunID + "/steps/" + answer.ID, body: report}, nil)
	if errors.Is(err, ErrBadRequest) { // denied afterwards: the server books nothing on what it denied
		slog.Error("pikarc: a call was made while the server could not be asked, and would have been denied", "err", err)
		return nil
	}
	return err
}

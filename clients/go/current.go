package pikarc

import (
	"context"
	"errors"
)

// ErrNoRun says that a guarded call was made outside of a run. It was not made.
var ErrNoRun = errors.New("pikarc: a guarded call belongs to a run: make it with the context that Client.Run passes")

// runKey is the key of a context's run.
type runKey struct{}

// Current returns the run around the code that has a context, of this server and
// key. The error is [ErrNoRun] outside of one.
func (c *Client) Current(ctx context.Context) (*Run, error) {
	if run := c.enclosing(ctx); run != nil {
		return run, nil
	}
	return nil, ErrNoRun
}

// enclosing returns the innermost run of this server and key that has not ended, or nil.
func (c *Client) enclosing(ctx context.Context) *Run {
	run, _ := ctx.Value(runKey{}).(*Run)
	for run != nil && (run.ended.Load() || run.client.journal.owner != c.journal.owner) {
		run = run.parent
	}
	return run
}

// withParent adds the id of the run around to a run's metadata, which may name another itself.
func withParent(metadata map[string]any, id string) map[string]any {
	all := map[string]any{"parent_run_id": id}
	for name, value := range metadata {
		all[name] = value
	}
	return all
}

// Tool returns a function that asks, within the run around its context, before each
// call of fn. What it is called with is recorded.
func Tool[A, R any](c *Client, tool string, fn func(context.Context, A) (R, error)) func(context.Context, A) (R, error) {
	return wrap(c, fn, toolCall(tool))
}

// Model is as [Tool], for a function that calls a model.
func Model[A, R any](c *Client, model string, fn func(context.Context, A) (R, error)) func(context.Context, A) (R, error) {
	return wrap(c, fn, modelCall(model))
}

// wrap returns fn as a guarded function: with each call a step of the context's run is asked for
// first, and reported afterwards.
func wrap[A, R any](
	c *Client, fn func(context.Context, A) (R, error), what createStepRequest,
) func(context.Context, A) (R, error) {
	return func(ctx context.Context, argument A) (result R, err error) {
		run, err := c.Current(ctx)
		if err != nil {
			return result, err
		}
		return guard(ctx, run, what, argument, func(ctx context.Context) (R, error) { return fn(ctx, argument) })
	}
}

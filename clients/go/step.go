package pikarc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrNotReported is what a step has failed with whose end nobody has told.
var ErrNotReported = errors.New("what came of the call was not told")

// errPanic is what is reported of a function that panicked; the panic goes on.
var errPanic = errors.New("panic")

// OpenStep is a step whose call another makes, as a framework between its hooks. It
// is settled once, by whatever comes first, and with its run at the latest. It is
// safe for concurrent use.
type OpenStep struct {
	run      *Run
	ctx      context.Context // of the call
	step     step
	started  time.Time
	isStream bool
	// A step is reported once, whoever is first: its function, its stream or the run's end.
	settled sync.Once

	mu    sync.Mutex
	meter meter
}

// BeginModelCall asks whether a model may be called, where the call itself is
// another's to make. What it comes to must be told by the step's methods.
func (r *Run) BeginModelCall(ctx context.Context, model string, input any) (*OpenStep, error) {
	return r.begin(ctx, modelCall(model), input, false)
}

// BeginToolCall is as BeginModelCall, for a tool.
func (r *Run) BeginToolCall(ctx context.Context, tool string, input any) (*OpenStep, error) {
	return r.begin(ctx, toolCall(tool), input, false)
}

// modelCall is a step that calls a model.
func modelCall(model string) createStepRequest {
	return createStepRequest{Type: "MODEL_CALL", Model: model}
}

// toolCall is a step that calls a tool.
func toolCall(tool string) createStepRequest {
	return createStepRequest{Type: "TOOL_CALL", ToolName: tool}
}

// begin asks for a step and keeps it as open, so that the run's end finds it.
func (r *Run) begin(ctx context.Context, what createStepRequest, input any, isStream bool) (*OpenStep, error) {
	isModel := what.Type == "MODEL_CALL"
	s, err := r.ask(ctx, what, input)
	if err != nil {
		return nil, err
	}
	o := &OpenStep{run: r, ctx: ctx, step: s, started: time.Now(), isStream: isStream, meter: meter{off: !isModel}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[o] = struct{}{}
	return o, nil
}

// underWay lists the open steps.
func (r *Run) underWay() (steps []*OpenStep) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for step := range r.open {
		steps = append(steps, step)
	}
	return steps
}

// See looks for usage in an answer of a model, or in a chunk of one.
func (o *OpenStep) See(part any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.meter.see(part)
}

// Complete settles the step as COMPLETED, with the usage that is found in what the
// call returned, nil for nothing.
func (o *OpenStep) Complete(result any) {
	if result != nil {
		o.See(result)
	}
	o.end(nil, true)
}

// Fail settles the step as FAILED; as cancelled where its context is.
func (o *OpenStep) Fail(err error) { o.end(err, false) }

// Leave settles a stream that is left early, with what came.
func (o *OpenStep) Leave() { o.end(nil, false) }

// leftOpen settles what its run ends without.
func (o *OpenStep) leftOpen(ctx context.Context) {
	switch {
	case ctx.Err() != nil:
		o.Fail(context.Cause(ctx))
	case o.isStream:
		o.Leave()
	default:
		o.Fail(ErrNotReported)
	}
}

// end reports how the call ended; whole is whether all came that was to come.
func (o *OpenStep) end(err error, whole bool) {
	o.settled.Do(func() {
		report := updateStepRequest{Status: "COMPLETED", DurationMs: time.Since(o.started).Milliseconds()}
		if err != nil {
			report.Status, report.Error = "FAILED", describe(err)
			if o.ctx.Err() != nil {
				report.Error = "cancelled"
			}
		}
		o.mu.Lock()
		o.meter.report(&report, whole)
		o.mu.Unlock()
		o.run.settle(o.ctx, o.step, report)
		o.run.mu.Lock()
		delete(o.run.open, o)
		o.run.mu.Unlock()
	})
}

// describe is what is reported of an error. Its own method may panic, as that of a nil pointer.
func describe(err error) (text string) {
	defer func() {
		if recover() != nil {
			text = fmt.Sprintf("(%T)", err)
		}
	}()
	return fmt.Sprintf("%.10000s", err.Error())
}

// ModelCall asks whether a model may be called, calls fn, and reports what it
// used: by the shape of what fn returned, where that is a provider's answer, or by
// the methods of [Usage]. input is what is recorded as its input, or nil.
func ModelCall[T any](ctx context.Context, run *Run, model string, input any, fn func(context.Context) (T, error)) (T, error) {
	return guard(ctx, run, modelCall(model), input, fn)
}

// ToolCall asks whether a tool may be called, calls fn, and reports that it was.
func ToolCall[T any](ctx context.Context, run *Run, tool string, input any, fn func(context.Context) (T, error)) (T, error) {
	return guard(ctx, run, toolCall(tool), input, fn)
}

// guard asks for a step, calls fn and reports the step, also when fn fails or panics.
func guard[T any](
	ctx context.Context, run *Run, what createStepRequest, input any, fn func(context.Context) (T, error),
) (result T, err error) {
	o, err := run.begin(ctx, what, input, false)
	if err != nil {
		return result, err
	}
	defer o.Fail(errPanic) // unless it has been settled
	result, err = fn(ctx)
	if err != nil {
		o.Fail(err)
		return result, err
	}
	o.Complete(result)
	return result, nil
}

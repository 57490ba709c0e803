package pikarc

import (
	"context"
	"iter"
)

// Chunks is a stream of a model's answer, as the libraries of OpenAI and Anthropic
// return them; [ChunksOf] makes one of an iterator.
type Chunks[T any] interface {
	Next() bool // false at the end, and after an error
	Current() T
	Err() error
	Close() error
}

// ModelStream is as [ModelCall], where fn returns a stream. Its chunks are passed on
// untouched. Usage is what the stream says; of one that is broken off or left, what
// came is counted. The step is settled once: at the stream's end, when it breaks, by
// Close, or with its run.
func ModelStream[T any](
	ctx context.Context, run *Run, model string, input any, fn func(context.Context) (Chunks[T], error),
) (*Stream[T], error) {
	o, err := run.begin(ctx, modelCall(model), input, true)
	if err != nil {
		return nil, err
	}
	begun := false
	defer func() {
		if !begun {
			o.Fail(errPanic)
		}
	}()
	chunks, err := fn(ctx)
	if err != nil {
		o.Fail(err)
		return nil, err
	}
	begun = true
	return &Stream[T]{chunks: chunks, step: o}, nil
}

// Stream is a guarded stream. It is itself one of [Chunks].
type Stream[T any] struct {
	chunks Chunks[T]
	step   *OpenStep
}

// Next goes on to the next chunk, and is false at the end and after an error.
func (s *Stream[T]) Next() bool {
	finished := false
	defer func() {
		if !finished {
			s.step.Fail(errPanic)
		}
	}()
	more := s.chunks.Next()
	finished = true
	switch err := s.chunks.Err(); {
	case more:
		s.step.See(s.chunks.Current())
	case err != nil:
		s.step.Fail(err)
	default:
		s.step.Complete(nil)
	}
	return more
}

// Current is the chunk that Next has gone on to.
func (s *Stream[T]) Current() T { return s.chunks.Current() }

// Err is what the stream broke with, or nil.
func (s *Stream[T]) Err() error { return s.chunks.Err() }

// Close ends the stream, whole or not.
func (s *Stream[T]) Close() error {
	defer s.step.leftOpen(s.step.ctx) // unless it has been settled
	return s.chunks.Close()
}

// All are the chunks, and the error that the stream broke with. It closes the stream.
func (s *Stream[T]) All() iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		defer s.Close()
		for s.Next() {
			if !yield(s.Current(), nil) {
				return
			}
		}
		if err := s.Err(); err != nil {
			var none T
			yield(none, err)
		}
	}
}

// ChunksOf makes a stream of an iterator, which an error ends.
func ChunksOf[T any](chunks iter.Seq2[T, error]) Chunks[T] {
	next, stop := iter.Pull2(chunks)
	return &pulled[T]{next: next, stop: stop}
}

// pulled reads a sequence value by value, as the SDKs' streams are read.
type pulled[T any] struct {
	next    func() (T, error, bool)
	stop    func()
	current T
	err     error
}

// Next reads the next value, and reports whether there is one.
func (p *pulled[T]) Next() bool {
	if p.err != nil {
		return false
	}
	var more bool
	p.current, p.err, more = p.next()
	return more && p.err == nil
}

// Current returns the value that Next has read.
func (p *pulled[T]) Current() T { return p.current }

// Err returns the error that ended the stream.
func (p *pulled[T]) Err() error { return p.err }

// Close ends the sequence.
func (p *pulled[T]) Close() error {
	p.stop()
	return nil
}

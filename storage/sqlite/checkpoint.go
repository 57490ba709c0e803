package sqlite

import (
	"errors"
	"sync/atomic"
	"time"
)

// A WAL is folded into the file (a checkpoint, as SQLite calls it) beside the
// writer. By itself SQLite would do it inside a COMMIT, for which everybody
// would wait: while old pages are deleted, most of a checkpoint is random
// writes. A checkpoint beside the writer never ends under load, though: the
// writer has added frames meanwhile, and SQLite begins the WAL anew only when
// all of them are folded. So the writer folds the last few itself.
const (
	// foldAt is how many frames make a checkpoint worth its syncs: 8 MiB.
	foldAt = 2000
	// foldRest is how few frames the writer folds itself, in a millisecond or so.
	foldRest = 200
	// foldPasses bounds how often the rest is folded once more to make it small.
	foldPasses = 4
	// foldNow is when the writer waits for the disk, because the WAL outgrows it.
	foldNow = 16 * foldAt
)

// Checkpointer folds the WAL of one writer.
type Checkpointer struct {
	writer *Conn
	beside *Conn // of its own goroutine
	wake   chan struct{}
	done   chan struct{}

	folding chan struct{} // holds one while somebody folds
	small   atomic.Bool   // the passes have left but little
	due     int32         // the writer's: frames at which to fold next

	frames atomic.Int32 // of the WAL after the latest commit
	// held is how many frames there were when a reader last kept them from being
	// folded, and heldSince when that began, in Unix nanoseconds; 0 for not.
	held      atomic.Int32
	heldSince atomic.Int64
}

// NewCheckpointer begins to fold the WAL that a connection writes.
func NewCheckpointer(path string, writer *Conn) (*Checkpointer, error) {
	beside, err := OpenConn(path)
	if err != nil {
		return nil, err
	}
	if err := writer.countFrames(); err != nil {
		return nil, errors.Join(err, beside.Close())
	}
	c := &Checkpointer{
		writer: writer, beside: beside, due: foldAt,
		wake: make(chan struct{}, 1), done: make(chan struct{}), folding: make(chan struct{}, 1),
	}
	go c.run()
	return c, nil
}

// Close ends the goroutine. The connection that closes last, the writer's, folds what is left.
func (c *Checkpointer) Close() error {
	close(c.wake)
	<-c.done
	return c.beside.Close()
}

// Committed is called by the writer after each transaction.
func (c *Checkpointer) Committed() {
	frames := c.writer.frames()
	c.frames.Store(frames)
	if frames < c.due-foldAt/2 { // fewer than when it was last set: the WAL has begun anew
		c.due = foldAt
		c.held.Store(0)
	}
	// While a reader keeps the WAL from beginning anew, every transaction finds
	// it too large: that is no reason to sync after each of them.
	due := frames >= c.due
	if due {
		c.due = frames + foldAt/2
	}
	switch {
	case due && frames >= c.held.Load()+foldNow: // what a reader has kept is folded beside the writer
		c.folding <- struct{}{}
		c.finish()
	case c.small.Load():
		select {
		case c.folding <- struct{}{}:
			c.finish()
		default: // one more round of passes, and small again after it
		}
	case due:
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
}

// finish folds what the passes have left, and lets others fold. The next
// transaction then begins the WAL anew, unless a reader still needs it. An
// error refuses nothing: every commit is safe in the WAL, and there is a next time.
func (c *Checkpointer) finish() {
	defer func() { <-c.folding }()
	c.small.Store(false)
	_, _, _ = c.writer.checkpoint()
}

func (c *Checkpointer) run() {
	defer close(c.done)
	for range c.wake {
		c.folding <- struct{}{}
		c.small.Store(c.passes())
		<-c.folding
	}
}

// Fold folds what can be without waiting for anybody, and waits for it.
func (c *Checkpointer) Fold() {
	c.folding <- struct{}{}
	defer func() { <-c.folding }()
	c.passes()
}

// Empty folds all of the WAL and cuts it to nothing, unless a reader needs it.
// The caller keeps the writer from writing meanwhile.
func (c *Checkpointer) Empty() (done bool, err error) {
	c.folding <- struct{}{}
	defer func() { <-c.folding }()
	return c.beside.emptyWAL()
}

// passes folds until the rest is small, or says that it is not: because a
// reader still needs many of the frames, or the disk fails. The writer itself
// may need the last ones just then.
func (c *Checkpointer) passes() bool {
	var before int32
	for range foldPasses {
		committed := c.frames.Load()
		frames, folded, err := c.beside.checkpoint()
		c.noteHeld(err == nil && folded < committed, committed)
		if err != nil || frames-folded > foldRest {
			return false
		}
		if folded-before <= foldRest {
			break
		}
		before = folded
	}
	return true
}

// noteHeld remembers that a reader keeps frames from being folded, or that none does.
func (c *Checkpointer) noteHeld(held bool, frames int32) {
	switch {
	case !held:
		c.heldSince.Store(0)
	default:
		c.held.Store(frames)
		c.heldSince.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// HeldFor is for how long a reader has kept the WAL from being folded. That is
// known as of the latest checkpoint, of which there is one while there are writes.
func (c *Checkpointer) HeldFor() time.Duration {
	since := c.heldSince.Load()
	if since == 0 {
		return 0
	}
	return max(0, time.Since(time.Unix(0, since)))
}

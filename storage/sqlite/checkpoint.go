package sqlite

import (
	"errors"
	"sync/atomic"
	"time"
)

// The WAL is checkpointed beside the writer: its frames are written into the
// file. SQLite's own checkpoints run inside a COMMIT, for which everybody would
// wait: while old pages are deleted, most of a checkpoint is random writes. A
// checkpoint beside the writer never ends under load, though: the writer has
// added frames meanwhile, and SQLite begins the WAL anew only when all of them
// are in the file. So the writer checkpoints the last few itself.
const (
	// checkpointAt is how many frames make a checkpoint worth its syncs: 8 MiB.
	checkpointAt = 2000
	// finishAt is how few frames the writer checkpoints itself, in a millisecond or so.
	finishAt = 200
	// maxPasses bounds how often the rest is checkpointed once more to make it small.
	maxPasses = 4
	// waitAt is when the writer waits for the disk, because the WAL outgrows it.
	waitAt = 16 * checkpointAt
)

// Checkpointer checkpoints the WAL of one writer.
type Checkpointer struct {
	writer *Conn
	beside *Conn // of its own goroutine
	wake   chan struct{}
	done   chan struct{}

	running chan struct{} // holds one while a checkpoint runs
	small   atomic.Bool   // the passes have left but little
	due     int32         // the writer's: frames at which of the next checkpoint

	frames atomic.Int32 // of the WAL after the latest commit
	// held is how many frames there were when a reader last kept them from being
	// checkpointed, and heldSince when that began, in Unix nanoseconds; 0 for not.
	held      atomic.Int32
	heldSince atomic.Int64
}

// NewCheckpointer starts to checkpoint the WAL that a connection writes.
func NewCheckpointer(path string, writer *Conn) (*Checkpointer, error) {
	beside, err := OpenConn(path)
	if err != nil {
		return nil, err
	}
	if err := writer.countFrames(); err != nil {
		return nil, errors.Join(err, beside.Close())
	}
	c := &Checkpointer{
		writer: writer, beside: beside, due: checkpointAt,
		wake: make(chan struct{}, 1), done: make(chan struct{}), running: make(chan struct{}, 1),
	}
	go c.run()
	return c, nil
}

// Close ends the goroutine. The connection that closes last, the writer's, checkpoints what is left.
func (c *Checkpointer) Close() error {
	close(c.wake)
	<-c.done
	return c.beside.Close()
}

// Committed is called by the writer after each transaction.
func (c *Checkpointer) Committed() {
	frames := c.writer.frames()
	c.frames.Store(frames)
	if frames < c.due-checkpointAt/2 { // fewer than when it was last set: the WAL has begun anew
		c.due = checkpointAt
		c.held.Store(0)
	}
	// While a reader keeps the WAL from beginning anew, every transaction finds
	// it too large: that is no reason to sync after each of them.
	due := frames >= c.due
	if due {
		c.due = frames + checkpointAt/2
	}
	switch {
	case due && frames >= c.held.Load()+waitAt: // what a reader has kept is checkpointed beside the writer
		c.running <- struct{}{}
		c.finish()
	case c.small.Load():
		select {
		case c.running <- struct{}{}:
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

// finish checkpoints what the passes have left, and lets others do so. The next
// transaction then begins the WAL anew, unless a reader still needs it. An
// error refuses nothing: every commit is safe in the WAL, and there is a next time.
func (c *Checkpointer) finish() {
	defer func() { <-c.running }()
	c.small.Store(false)
	_, _, _ = c.writer.checkpoint()
}

func (c *Checkpointer) run() {
	defer close(c.done)
	for range c.wake {
		c.running <- struct{}{}
		c.small.Store(c.passes())
		<-c.running
	}
}

// Checkpoint runs the passes now, which wait for no reader, and returns when they are over.
func (c *Checkpointer) Checkpoint() {
	c.running <- struct{}{}
	defer func() { <-c.running }()
	c.passes()
}

// Truncate checkpoints all of the WAL and cuts it to nothing, unless a reader needs it.
// The caller keeps the writer from writing meanwhile.
func (c *Checkpointer) Truncate() (done bool, err error) {
	c.running <- struct{}{}
	defer func() { <-c.running }()
	return c.beside.truncateWAL()
}

// passes checkpoints until the rest is small, or says that it is not: because a
// reader still needs many of the frames, or the disk fails. The writer itself
// may need the last ones just then.
func (c *Checkpointer) passes() bool {
	var before int32
	for range maxPasses {
		committed := c.frames.Load()
		frames, done, err := c.beside.checkpoint()
		c.noteHeld(err == nil && done < committed, committed)
		if err != nil || frames-done > finishAt {
			return false
		}
		if done-before <= finishAt {
			break
		}
		before = done
	}
	return true
}

// noteHeld remembers that a reader keeps frames from being checkpointed, or that none does.
func (c *Checkpointer) noteHeld(held bool, frames int32) {
	switch {
	case !held:
		c.heldSince.Store(0)
	default:
		c.held.Store(frames)
		c.heldSince.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// HeldFor is for how long a reader has kept the WAL from being checkpointed. That is
// known as of the latest checkpoint, of which there is one while there are writes.
func (c *Checkpointer) HeldFor() time.Duration {
	since := c.heldSince.Load()
	if since == 0 {
		return 0
	}
	return max(0, time.Since(time.Unix(0, since)))
}

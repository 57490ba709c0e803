package sqlite

import (
	"errors"
	"sync/atomic"
	"time"
)

// The WAL is checkpointed beside the writer: its frames are written into the
// file. SQLite's own checkpoints run inside a COMMIT, and every write would wait
// for them: when old rows are deleted, most of a checkpoint is random writes.
// Under load, though, a checkpoint beside the writer is never complete, because
// the writer adds frames meanwhile, and SQLite restarts the WAL only when all
// frames are in the file. So the writer checkpoints the last few itself.
const (
	// checkpointAt is how many frames make a checkpoint worth its syncs: 8 MiB.
	checkpointAt = 2000
	// finishAt is how few frames the writer checkpoints itself, in a millisecond or so.
	finishAt = 200
	// maxPasses bounds how often the remaining frames are checkpointed again to make them few.
	maxPasses = 4
	// waitAt is when the writer waits for the disk, because the WAL outgrows it.
	waitAt = 16 * checkpointAt
)

// Checkpointer checkpoints the WAL of one writer.
type Checkpointer struct {
	writer *Conn
	conn   *Conn // of its own goroutine
	wake   chan struct{}
	done   chan struct{}

	running    chan struct{} // full while a checkpoint runs
	nearlyDone atomic.Bool   // the passes have left few frames
	due        int32         // the writer's: at how many frames the next checkpoint is due

	frames atomic.Int32 // of the WAL after the latest commit
	// blockedFrames is how many frames there were when a reader last kept some of
	// them from being checkpointed, and blockedSince when that began, in Unix
	// nanoseconds; 0 when no reader does.
	blockedFrames atomic.Int32
	blockedSince  atomic.Int64
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
		writer: writer, conn: beside, due: checkpointAt,
		wake: make(chan struct{}, 1), done: make(chan struct{}), running: make(chan struct{}, 1),
	}
	go c.run()
	return c, nil
}

// Close ends the goroutine. The connection that closes last, the writer's, checkpoints what is
// left.
func (c *Checkpointer) Close() error {
	close(c.wake)
	<-c.done
	return c.conn.Close()
}

// Committed is called by the writer after each transaction.
func (c *Checkpointer) Committed() {
	frames := c.writer.frames()
	c.frames.Store(frames)
	if frames < c.due-checkpointAt/2 { // fewer than when it was last set: the WAL has begun anew
		c.due = checkpointAt
		c.blockedFrames.Store(0)
	}
	// While a reader keeps the WAL from restarting, every transaction finds
	// it too large: that is no reason to sync after each of them.
	due := frames >= c.due
	if due {
		c.due = frames + checkpointAt/2
	}
	switch {
	case due && frames >= c.blockedFrames.Load()+waitAt: // what a reader has kept is checkpointed beside the writer
		c.running <- struct{}{}
		c.finish()
	case c.nearlyDone.Load():
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

// finish checkpoints what the passes have left, and releases running. The next
// transaction then restarts the WAL, unless a reader still needs it. An
// error refuses nothing: every commit is safe in the WAL, and there is a next time.
func (c *Checkpointer) finish() {
	defer func() { <-c.running }()
	c.nearlyDone.Store(false)
	_, _, _ = c.writer.checkpoint()
}

// run makes checkpoints whenever it is woken. A wake-up during a checkpoint leads to one more.
func (c *Checkpointer) run() {
	defer close(c.done)
	for range c.wake {
		c.running <- struct{}{}
		c.nearlyDone.Store(c.passes())
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
	return c.conn.truncateWAL()
}

// passes checkpoints until few frames are left, and reports whether it got
// there: a reader may still need many of the frames, or the disk may fail.
func (c *Checkpointer) passes() bool {
	var before int32
	for range maxPasses {
		committed := c.frames.Load()
		frames, done, err := c.conn.checkpoint()
		c.setBlocked(err == nil && done < committed, committed)
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

// setBlocked remembers that a reader keeps frames from being checkpointed, or that none does.
func (c *Checkpointer) setBlocked(held bool, frames int32) {
	switch {
	case !held:
		c.blockedSince.Store(0)
	default:
		c.blockedFrames.Store(frames)
		c.blockedSince.CompareAndSwap(0, time.Now().UnixNano())
	}
}

// BlockedFor is for how long a reader has kept the WAL from being checkpointed. That is
// known as of the latest checkpoint, of which there is one while there are writes.
func (c *Checkpointer) BlockedFor() time.Duration {
	since := c.blockedSince.Load()
	if since == 0 {
		return 0
	}
	return max(0, time.Since(time.Unix(0, since)))
}

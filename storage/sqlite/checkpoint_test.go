package sqlite

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestWALRestartsBesideTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.fillTo(checkpointAt - 2*pages)
		before := f.fill()
		f.fillTo(checkpointAt)
		synctest.Wait() // for the passes
		f.fill()        // after it the writer checkpoints the rest
		f.fill()
		if frames := f.fill(); before < checkpointAt/2 || frames > 4*pages {
			t.Errorf("%d frames, then %d", before, frames)
		}
	})
}

// What was written during the passes is left for the writer.
func TestWriterCheckpointsWhatThePassesLeft(t *testing.T) {
	f := newFile(t)
	f.fillTo(checkpointAt / 4)
	f.checkpointer.nearlyDone.Store(true)
	f.fill()
	f.fill()
	if frames := f.fill(); frames > 4*pages {
		t.Errorf("%d frames", frames)
	}
}

// A list that takes its time keeps its snapshot, and everybody else goes on.
func TestReaderHoldsUpTheWALAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.fill()
		over, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- f.read(over)
		}()
		synctest.Wait()
		f.fillTo(2 * checkpointAt)
		synctest.Wait()
		if frames := f.fill(); frames < 2*checkpointAt {
			t.Errorf("the WAL restarted under a reader: %d frames", frames)
		}
		close(over)
		f.must(<-ended)
		for range checkpointAt / pages {
			f.fill()
			synctest.Wait()
		}
		if frames := f.fill(); frames > checkpointAt {
			t.Errorf("%d frames, long after the reader", frames)
		}
	})
}

// When checkpoints fall behind, writes wait for them: the WAL is bounded, also
// when one round of passes begins before what the last one left is checkpointed.
func TestWritesWaitForTheDiskWhenTheWALOutgrowsIt(t *testing.T) {
	for _, small := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFile(t)
			f.checkpointer.nearlyDone.Store(small)
			f.checkpointer.running <- struct{}{} // a disk that takes for ever
			most, over := int32(0), make(chan struct{})
			go func() {
				defer close(over)
				for range (waitAt + 2*checkpointAt) / pages {
					most = max(most, f.fill())
				}
			}()
			synctest.Wait()
			select {
			case <-over:
				t.Errorf("small %v: nobody waits", small)
			default:
			}
			<-f.checkpointer.running
			<-over
			if frames := f.fill(); most < waitAt-2*pages || most > waitAt+checkpointAt || frames > waitAt/2 {
				t.Errorf("small %v: %d frames at most, then %d", small, most, frames)
			}
		})
	}
}

func TestALongReadDelaysNoLaterCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.checkpointer.due = 20 * checkpointAt                    // as a long read leaves it
		large := bytes.Repeat([]byte{7}, (checkpointAt+100)*4096) // never deleted, which would overwrite it
		f.write(`INSERT INTO probes (id, room) VALUES (2, $1)`, large)
		most := int32(0)
		for range 3 * checkpointAt / pages {
			most = max(most, f.fill())
			synctest.Wait()
		}
		if most > 2*checkpointAt+4*pages {
			t.Errorf("nobody checkpoints: %d frames, due at %d", most, f.checkpointer.due)
		}
	})
}

// What a long read has kept is much to checkpoint at once. Nobody waits for that
// until the WAL has grown by as much again as it may anyway.
func TestNobodyWaitsWhileWhatAReaderKeptIsCheckpointed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile(t)
		f.fill()
		over, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- f.read(over)
		}()
		synctest.Wait()
		f.fillTo(waitAt - checkpointAt)
		synctest.Wait()
		f.fillTo(waitAt + checkpointAt)
		synctest.Wait()
		time.Sleep(time.Minute)
		if held := f.checkpointer.BlockedFor(); held < time.Minute {
			t.Errorf("the WAL is held for %v", held)
		}
		f.checkpointer.running <- struct{}{} // a checkpoint of all that takes its time
		close(over)
		f.must(<-ended)
		written := make(chan struct{})
		go func() {
			f.fillTo(waitAt + 4*checkpointAt)
			close(written)
		}()
		synctest.Wait()
		select {
		case <-written:
		default:
			t.Error("writes wait for the checkpoint")
		}
		<-f.checkpointer.running
		<-written
		for range checkpointAt / pages {
			f.fill()
			synctest.Wait()
		}
		if frames := f.fill(); frames > checkpointAt || f.checkpointer.blockedFrames.Load() != 0 || f.checkpointer.BlockedFor() != 0 {
			t.Errorf("%d frames, long after the reader; held %d, for %v", frames, f.checkpointer.blockedFrames.Load(), f.checkpointer.BlockedFor())
		}
	})
}

func TestFramesAreCountedOnANewConnectionToo(t *testing.T) {
	t.Parallel()
	f := newFile(t)
	f.must(f.writer.Reopen())
	f.fillTo(2 * pages)
}

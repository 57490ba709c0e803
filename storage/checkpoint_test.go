package storage

import (
	"bytes"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pages is how many frames of the WAL a write of fill takes, or a few more.
const pages = 64

// fill writes as much as many small writes do, and returns the frames before it.
func (w *world) fill() (frames int32) {
	w.t.Helper()
	w.filled++
	room := bytes.Repeat([]byte{byte(w.filled)}, pages*4096)
	w.must(w.write(w.t.Context(), inMemory, func(tx *Tx) error {
		frames = w.folder.writer.frames()
		_, err := tx.exec(`INSERT INTO probes (id, checked_at, room) VALUES (1, 0, $1)
			ON CONFLICT (id) DO UPDATE SET room = excluded.room`, room)
		return err
	}))
	return frames
}

// fillTo writes until the WAL has that many frames.
func (w *world) fillTo(frames int32) {
	w.t.Helper()
	for w.fill() < frames {
	}
}

func TestWALBeginsAnewBesideTheWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fillTo(foldAt - 2*pages)
		before := w.fill()
		w.fillTo(foldAt)
		synctest.Wait() // for the passes
		w.fill()        // after it the writer folds the rest
		w.fill()
		if frames := w.fill(); before < foldAt/2 || frames > 4*pages {
			t.Errorf("%d frames, then %d", before, frames)
		}
	})
}

// What was written while the passes folded is left for the writer.
func TestWriterFoldsWhatThePassesLeft(t *testing.T) {
	w := newWorld(t)
	w.fillTo(foldAt / 4)
	w.folder.small.Store(true)
	w.fill()
	w.fill()
	if frames := w.fill(); frames > 4*pages {
		t.Errorf("%d frames", frames)
	}
}

// A list that takes its time keeps its snapshot, and everybody else goes on.
func TestReaderHoldsUpTheWALAndNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fill()
		over, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- w.read(t.Context(), func(tx *Tx) error {
				var n int64
				err := tx.get(`SELECT count(*) FROM probes`, nil, &n) // the snapshot begins here
				<-over
				return err
			})
		}()
		synctest.Wait()
		w.fillTo(2 * foldAt)
		synctest.Wait()
		if frames := w.fill(); frames < 2*foldAt {
			t.Errorf("the WAL began anew under a reader: %d frames", frames)
		}
		close(over)
		w.must(<-ended)
		for range foldAt / pages {
			w.fill()
			synctest.Wait()
		}
		if frames := w.fill(); frames > foldAt {
			t.Errorf("%d frames, long after the reader", frames)
		}
	})
}

// When checkpoints fall behind, writes wait for them: the WAL is bounded, also
// when one round of passes begins before what the last one left is folded.
func TestWritesWaitForTheDiskWhenTheWALOutgrowsIt(t *testing.T) {
	for _, small := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.folder.small.Store(small)
			w.folder.folding <- struct{}{} // a disk that takes for ever
			most, over := int32(0), make(chan struct{})
			go func() {
				defer close(over)
				for range (foldNow + 2*foldAt) / pages {
					most = max(most, w.fill())
				}
			}()
			synctest.Wait()
			select {
			case <-over:
				t.Errorf("small %v: nobody waits", small)
			default:
			}
			<-w.folder.folding
			<-over
			if frames := w.fill(); most < foldNow-2*pages || most > foldNow+foldAt || frames > foldNow/2 {
				t.Errorf("small %v: %d frames at most, then %d", small, most, frames)
			}
		})
	}
}

func TestALongReadDelaysNoLaterCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.folder.due = 20 * foldAt                      // as a long read leaves it
		large := strings.Repeat("7", (foldAt+100)*4096) // never deleted, which would overwrite it
		w.must(w.write(t.Context(), inMemory, func(tx *Tx) error {
			_, err := tx.exec(`INSERT INTO run_metadata (run_id, metadata) VALUES (0, $1)`, large)
			return err
		}))
		most := int32(0)
		for range 3 * foldAt / pages {
			most = max(most, w.fill())
			synctest.Wait()
		}
		if most > 2*foldAt+4*pages {
			t.Errorf("nobody folds: %d frames, due at %d", most, w.folder.due)
		}
	})
}

// What a long read has kept is much to fold at once. Nobody waits for that
// until the WAL has grown by as much again as it may anyway.
func TestNobodyWaitsWhileWhatAReaderKeptIsFolded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.fill()
		over, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- w.read(t.Context(), func(tx *Tx) error {
				var n int64
				err := tx.get(`SELECT count(*) FROM probes`, nil, &n)
				<-over
				return err
			})
		}()
		synctest.Wait()
		w.fillTo(foldNow - foldAt)
		synctest.Wait()
		w.fillTo(foldNow + foldAt)
		synctest.Wait()
		time.Sleep(time.Minute)
		if held := w.Stats().WALHeld; held < time.Minute {
			t.Errorf("the WAL is held for %v", held)
		}
		w.folder.folding <- struct{}{} // a checkpoint of all that takes its time
		close(over)
		w.must(<-ended)
		written := make(chan struct{})
		go func() {
			w.fillTo(foldNow + 4*foldAt)
			close(written)
		}()
		synctest.Wait()
		select {
		case <-written:
		default:
			t.Error("writes wait for the checkpoint")
		}
		<-w.folder.folding
		<-written
		for range foldAt / pages {
			w.fill()
			synctest.Wait()
		}
		if frames := w.fill(); frames > foldAt || w.folder.held.Load() != 0 || w.Stats().WALHeld != 0 {
			t.Errorf("%d frames, long after the reader; held %d, for %v", frames, w.folder.held.Load(), w.Stats().WALHeld)
		}
	})
}

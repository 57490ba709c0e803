package storage

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Upkeep rewrites few blocks before it looks at the time, and deletes those that nobody shares.
func TestPayloadsLeaveBlocksInSmallPieces(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	const shared, alone = 2*blocksAtOnce + 1, upkeepChunk + 10
	run, other := w.start(ws, maria).ID, w.start(ws, "ann").ID
	for range shared {
		w.together(w.taking(ws, run, []byte(`{"a":1}`), new(uuid.UUID)), w.taking(ws, other, []byte(`{"b":1}`), new(uuid.UUID)))
	}
	for range alone {
		w.must(w.taking(ws, run, []byte(`{"a":1}`), new(uuid.UUID))())
	}
	w.must(w.write(t.Context(), modeSQL, func(tx *Tx) (err error) {
		for more, last := true, (erasedStep{}); more && err == nil; {
			last, more, err = erasePayloads(tx, ws, w.internal(run), last)
		}
		return err
	}))
	after := int64(-1)
	for i, want := range []int64{shared - blocksAtOnce, shared - 2*blocksAtOnce, 0} {
		more := false
		w.must(w.write(t.Context(), modeSQL, func(tx *Tx) (err error) {
			after, more, err = sweepBlocks(tx, ws, after)
			return err
		}))
		if n := w.number(`SELECT count(*) FROM payload_blocks WHERE payloads = 2`); n != want || more != (i < 2) {
			t.Errorf("after a piece %d blocks are shared, want %d; more: %v", n, want, more)
		}
		w.mustVerify()
	}
	if n := w.number(blocks); n != shared {
		t.Errorf("%d blocks are left", n)
	}
	if n := w.number(`SELECT count(*) FROM dropped_payloads`); n != 0 {
		t.Errorf("%d payloads wait", n)
	}
}

// Large texts are many pages to overwrite, so upkeep goes by bytes too.
func TestLargePayloadsLeaveOneByOne(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	random := make([]byte, 2*upkeepBytes)
	_, _ = rand.Read(random)
	run := w.start(ws, maria).ID
	for range 3 {
		w.must(w.taking(ws, run, []byte(`{"a":"`+base64.StdEncoding.EncodeToString(random)+`"}`), new(uuid.UUID))())
	}
	after := int64(-1)
	for left := int64(2); left >= 0; left-- {
		w.must(w.write(t.Context(), modeSQL, func(tx *Tx) (err error) {
			if _, _, err := erasePayloads(tx, ws, w.internal(run), erasedStep{}); err != nil {
				return err
			}
			after, _, err = sweepBlocks(tx, ws, after)
			return err
		}))
		if n := w.number(blocks); n != left {
			t.Errorf("%d blocks are left, want %d", n, left)
		}
	}
}

// countRewrites counts from now on how often a block is written again.
func (w *world) countRewrites() (count func() int64) {
	w.t.Helper()
	statements := []string{
		`CREATE TABLE rewrites (n INTEGER NOT NULL)`, `INSERT INTO rewrites VALUES (0)`,
		`CREATE TRIGGER rewritten AFTER UPDATE ON payload_blocks BEGIN UPDATE rewrites SET n = n + 1; END`,
	}
	if w.url != "" {
		statements = slices.Replace(statements, 2, 3,
			`CREATE FUNCTION rewritten() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE rewrites SET n = n + 1; RETURN NULL; END'`,
			`CREATE TRIGGER rewritten AFTER UPDATE ON payload_blocks FOR EACH ROW EXECUTE FUNCTION rewritten()`)
	}
	for _, statement := range statements {
		_, err := w.otherProcess.ExecContext(context.Background(), statement)
		w.must(err)
	}
	return func() int64 { return w.number(`SELECT n FROM rewrites`) }
}

// Retention deletes run by run, and the texts of each are among those of many others. What it
// writes grows with the blocks, and not with the texts that leave them.
func TestRetentionWritesABlockOnceAPass(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	const runs, rounds = 60, 6
	type told struct{ run, step uuid.UUID }
	var stay []told
	ids := make([]uuid.UUID, runs)
	for i := range ids {
		ids[i] = w.start(ws, fmt.Sprint("user ", i)).ID
	}
	for round := range rounds { // each run has a text in each block
		steps, all := make([]uuid.UUID, runs), make([]func() error, runs)
		for i, run := range ids {
			all[i] = w.taking(ws, run, fmt.Appendf(nil, `{"round":%d,"of":%d}`, round, i), &steps[i])
		}
		w.together(all...)
		stay = append(stay, told{ids[runs-1], steps[runs-1]})
	}
	if n := w.number(blocks); n != rounds {
		t.Fatalf("there are %d blocks", n)
	}
	for _, run := range ids[:runs-1] {
		w.end(ws, run, RunCompleted)
	}
	rewrites := w.countRewrites()
	w.Advance(366 * 24 * time.Hour)
	if n, err := w.Expire(t.Context()); n != runs-1 || err != nil {
		t.Fatalf("%d runs expired, %v", n, err)
	}
	if n := rewrites(); n != rounds {
		t.Errorf("%d blocks were written again %d times for %d texts", rounds, n, rounds*(runs-1))
	}
	if n := w.number(`SELECT sum(payloads) FROM payload_blocks`); n != rounds {
		t.Errorf("%d texts are left, want %d", n, rounds)
	}
	w.mustVerify()
	for i, s := range stay {
		w.mustHaveTexts(ws, s.run, s.step, fmt.Sprintf(`{"round":%d,"of":%d}`, i, runs-1), "", "")
	}
	w.end(ws, ids[runs-1], RunCompleted)
	w.expire()
	if n := rewrites(); n != rounds || w.number(blocks) != 0 {
		t.Errorf("%d blocks are left, and %d were written again", w.number(blocks), n-rounds)
	}
	w.mustVerify()
}

// What a pass that was interrupted has left in blocks goes with the next pass, or with an erasure:
// the erased person's run may be gone by then.
func TestWhatWasDroppedLeavesItsBlockWhoeverComesNext(t *testing.T) {
	for _, next := range []string{"retention", "erasure"} {
		w := newWorld(t)
		ws := w.unlimitedWorkspace()
		runs, steps := w.saidTogether(ws, maria, "ann")
		w.end(ws, runs[0], RunCompleted)
		w.Advance(366 * 24 * time.Hour)
		w.start(ws, maria)
		for w.expirePiece(ws) {
		}
		if n := w.number(`SELECT count(*) FROM dropped_payloads`); n != 2 {
			t.Fatalf("%d payloads wait", n)
		}
		w.mustVerify()
		if next == "retention" {
			w.expire()
		} else if e := w.erase(ws, maria); !e.Done {
			t.Errorf("%+v", e)
		}
		if n := w.number(`SELECT count(*) FROM dropped_payloads`); n != 0 || w.number(`SELECT sum(payloads) FROM payload_blocks`) != 2 {
			t.Errorf("after %s %d payloads wait", next, n)
		}
		w.mustVerify()
		w.mustHaveTexts(ws, runs[1], steps[1], saysOf("ann"), saysOf("ann"), "no ann")
	}
}

package storage

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"runtime/debug"
	"testing"
	"testing/synctest"
)

func TestAWriteThatIsAloneRunsWhereItIsCalled(t *testing.T) {
	w := newWorld(t)
	w.must(w.write(t.Context(), modeBulkSQL, func(*Tx) error {
		if !bytes.Contains(debug.Stack(), []byte("(*Store).enqueue")) {
			t.Errorf("a lone write waits for another goroutine:\n%s", debug.Stack())
		}
		return nil
	}))
}

func TestWritesBesideALoneOneShareTheNextCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		freed, ended := make(chan struct{}), make(chan error, 5)
		go func() {
			ended <- w.write(t.Context(), modeBulkSQL, func(*Tx) error { <-freed; return nil })
		}()
		synctest.Wait() // it is inside
		names := []string{"a", "b", "c", "d"}
		for _, name := range names {
			go func() { ended <- w.write(t.Context(), modeBulkSQL, add(name)) }()
			synctest.Wait() // each finds the writer waiting for its turn
		}
		if len(ended) != 0 || w.number(countRows) != 0 {
			t.Fatal("a write was done while another one was under way")
		}
		commits := 0
		w.onCommit(func() bool { commits++; return true })
		close(freed)
		for range 5 {
			w.must(<-ended)
		}
		if commits != 2 {
			t.Errorf("%d commits for one write and four that came meanwhile", commits)
		}
		for _, name := range names {
			if w.rows(name) != 1 {
				t.Errorf("%d rows of %s", w.rows(name), name)
			}
		}
	})
}

func TestCloseWaitsForALoneWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		freed, ended, closed := make(chan struct{}), make(chan error, 1), make(chan error, 1)
		go func() {
			ended <- w.write(t.Context(), modeBulkSQL, func(tx *Tx) error { <-freed; return add("a")(tx) })
		}()
		synctest.Wait()
		go func() { closed <- w.Close() }()
		close(freed)
		w.must(<-ended)
		w.must(<-closed)
		if w.rows("a") != 1 {
			t.Error("the write that was under way is lost")
		}
		if err := w.write(t.Context(), modeBulkSQL, add("late")); !errors.Is(err, ErrClosed) {
			t.Errorf("write after closing: %v", err)
		}
	})
}

// A bug between jobs leaves the transaction open. A caller that recovers from
// all panics must not go on from there.
func TestAPanicOutsideOfAJobEndsTheProcess(t *testing.T) {
	const child = "PIKARC_TEST_PANIC"
	if os.Getenv(child) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-engine="+*engineAsked)
		cmd.Env = append(os.Environ(), child+"=1")
		if out, err := cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("panic: a bug")) {
			t.Errorf("the process ends with %v:\n%s", err, out)
		}
		return
	}
	w := newWorld(t)
	w.onCommit(func() bool { panic("a bug") })
	defer func() { _ = recover() }()
	_ = w.write(t.Context(), modeBulkSQL, add("a"))
}

package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/storage/payload"
)

// together has some calls share a batch.
func (w *world) together(all ...func() error) {
	w.t.Helper()
	var group sync.WaitGroup
	w.writerLock <- struct{}{} // so that the calls gather
	for _, call := range all {
		queued := len(w.queue)
		group.Go(func() {
			if err := call(); err != nil {
				w.t.Error(err)
			}
		})
		for len(w.queue) == queued { // one after another, so that their order is the same each time
			runtime.Gosched()
		}
	}
	<-w.writerLock
	group.Wait()
}

// taking is a call that takes a step with an input.
func (w *world) taking(ws WorkspaceKey, run uuid.UUID, input []byte, step *uuid.UUID) func() error {
	return func() error {
		a, err := w.CreateStep(context.Background(), Caller{Workspace: ws}, run, NewStep{Type: 1, Sequence: 1, InputData: input}, guard.Decide)
		*step = a.ID
		return err
	}
}

// reporting is a call that reports texts of a step.
func (w *world) reporting(ws WorkspaceKey, run, step uuid.UUID, in StepUpdate) func() error {
	return func() error {
		_, err := w.UpdateStep(context.Background(), Caller{Workspace: ws}, run, step, in)
		return err
	}
}

// texts reads a step's texts in each of the ways that there are, and wants them to agree.
func (w *world) texts(ws WorkspaceKey, run, step uuid.UUID) (input, output, trouble string) {
	w.t.Helper()
	s, err := w.Step(context.Background(), ws, run, step)
	w.must(err)
	if s.Error != nil {
		trouble = *s.Error
	}
	input, output = string(s.InputData), string(s.OutputData)
	for _, other := range w.detail(ws, run).Steps {
		if other.ID == step && (string(other.InputData) != input || string(other.OutputData) != output || string(other.UsageData) != string(s.UsageData)) {
			w.t.Errorf("in its run the step has %q and %q, alone %q and %q", other.InputData, other.OutputData, input, output)
		}
	}
	all, err := w.StepTexts(context.Background(), ws, run, []uuid.UUID{step})
	w.must(err)
	switch {
	case len(all) == 0 && input+output+trouble != "":
		w.t.Error("there are no texts of the step")
	case len(all) == 1 && (string(all[0].Input) != input || string(all[0].Output) != output || all[0].Error != trouble):
		w.t.Errorf("the texts are %q", all)
	}
	outline, _, err := w.Outline(context.Background(), ws, run, "", MaxOutline)
	w.must(err)
	for _, o := range outline {
		if o.ID == step && (o.Input != "") != (input != "") {
			w.t.Errorf("the outline has the input %q of %q", o.Input, input)
		}
	}
	return input, output, trouble
}

func (w *world) mustHaveTexts(ws WorkspaceKey, run, step uuid.UUID, input, output, trouble string) {
	w.t.Helper()
	if i, o, e := w.texts(ws, run, step); i != input || o != output || e != trouble {
		w.t.Errorf("the texts are %.200q, %.200q and %.200q, want %.200q, %.200q and %.200q", i, o, e, input, output, trouble)
	}
}

const blocks = `SELECT count(*) FROM payload_blocks`

func TestTextsOfABatchShareABlock(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	const calls = 40
	runs, steps, inputs := make([]uuid.UUID, calls), make([]uuid.UUID, calls), make([][]byte, calls)
	var all []func() error
	broken := errors.New("broken")
	for i := range calls {
		of := ws
		if i == 7 {
			of = other
		}
		runs[i], inputs[i] = w.start(of, fmt.Sprint("u", i)).ID, fmt.Appendf(nil, `{"n":%d,"said":"%s"}`, i, strings.Repeat("x", i))
		all = append(all, w.taking(of, runs[i], inputs[i], &steps[i]))
		if i%10 == 0 { // one that fails in between
			all = append(all, func() error {
				err := w.writeIn(context.Background(), ws, modeCached, func(tx *Tx) error {
					of, err := tx.cache.workspaces.get(tx, ws)
					w.must(err)
					r, err := tx.cache.runs.get(tx, runKey{ws, runs[i]})
					w.must(err)
					_, err = insertStep(tx, of, r, NewStep{Type: 1, InputData: []byte(`{"never":1}`)}, guard.Decision{}, "")
					return errors.Join(err, broken)
				})
				if !errors.Is(err, broken) {
					return fmt.Errorf("the job did not fail: %w", err)
				}
				return nil
			})
		}
	}
	w.together(all...)
	if n := w.number(blocks); n != 2 {
		t.Errorf("the texts are in %d blocks, want one of each workspace", n)
	}
	if n := w.number(`SELECT payloads FROM payload_blocks WHERE workspace_id = $1`, ws); n != calls-1 {
		t.Errorf("a block has %d texts", n)
	}
	w.mustRememberTheTruth()
	w.mustVerify()
	for i := range calls {
		of := ws
		if i == 7 {
			of = other
		}
		w.mustHaveTexts(of, runs[i], steps[i], string(inputs[i]), "", "")
		out, err := w.UpdateStep(t.Context(), Caller{Workspace: of}, runs[i], steps[i], StepUpdate{Status: StepCompleted, OutputData: []byte("[1]")})
		if err != nil || !bytes.Equal(out.InputData, inputs[i]) || string(out.OutputData) != "[1]" {
			t.Errorf("the report is answered with %+v, %v", out.Step, err)
		}
		w.mustHaveTexts(of, runs[i], steps[i], string(inputs[i]), "[1]", "")
	}
	w.mustVerify()
}

// What is reported later stands beside what was reported before, or in its place.
func TestALaterReportReplacesWhatItNames(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	random := make([]byte, 100_000)
	_, _ = rand.Read(random)
	large := `"` + base64.StdEncoding.EncodeToString(random) + `"`
	for _, input := range []string{"", `{"a":1}`, `{"a":"` + strings.Repeat("x", 1000) + `"}`, `{"a":` + large + `}`} {
		run := w.start(ws, "u").ID
		var step uuid.UUID
		var in []byte
		if input != "" {
			in = []byte(input)
		}
		w.must(w.taking(ws, run, in, &step)())
		w.must(w.reporting(ws, run, step, StepUpdate{OutputData: []byte(`"one"`)})())
		w.mustHaveTexts(ws, run, step, input, `"one"`, "")
		w.must(w.reporting(ws, run, step, StepUpdate{Error: new("no")})())
		w.mustHaveTexts(ws, run, step, input, `"one"`, "no")
		w.must(w.reporting(ws, run, step, StepUpdate{OutputData: []byte(large), UsageData: []byte("{}")})())
		w.mustHaveTexts(ws, run, step, input, large, "no")
		w.together( // the same step twice in a batch, and another one
			w.reporting(ws, run, step, StepUpdate{OutputData: []byte(`"two"`)}), w.taking(ws, run, nil, new(uuid.UUID)),
			w.reporting(ws, run, step, StepUpdate{Error: new(""), Status: StepFailed}))
		w.mustHaveTexts(ws, run, step, input, `"two"`, "")
		w.mustVerify()
		w.mustRememberTheTruth()
	}
}

func TestAStepTakenAndReportedInABatchHasBothTexts(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run, c := w.start(ws, "u").ID, Caller{Workspace: ws}
	input := []byte(`{"a":"` + strings.Repeat("x", 2*maxOpenPayload) + `"}`)
	var step uuid.UUID
	w.together(func() error {
		return w.writeIn(context.Background(), ws, modeCached, func(tx *Tx) error {
			a, err := createStep(tx, c, run, NewStep{Type: 1, InputData: input}, guard.Decide, nil)
			if err != nil {
				return err
			}
			step = a.ID
			_, err = updateStep(tx, c, run, step, findSegment, StepUpdate{OutputData: []byte("[1]")})
			if err != nil {
				return err
			}
			out, err := updateStep(tx, c, run, step, findSegment, StepUpdate{Error: new("late")})
			if !bytes.Equal(out.InputData, input) || string(out.OutputData) != "[1]" {
				t.Errorf("the step is %+v", out.Step)
			}
			return err
		})
	})
	w.mustHaveTexts(ws, run, step, string(input), "[1]", "late")
	w.mustVerify()
}

// saidTogether has maria and others say something in the same blocks.
func (w *world) saidTogether(ws WorkspaceKey, users ...string) (runs, steps []uuid.UUID) {
	w.t.Helper()
	runs, steps = make([]uuid.UUID, len(users)), make([]uuid.UUID, len(users))
	var asked, reported []func() error
	for i, user := range users {
		runs[i] = w.start(ws, user).ID
		asked = append(asked, w.taking(ws, runs[i], []byte(saysOf(user)), &steps[i]))
	}
	w.together(asked...)
	for i, user := range users {
		reported = append(reported, w.reporting(ws, runs[i], steps[i], StepUpdate{Error: new("no " + user), OutputData: []byte(saysOf(user))}))
	}
	w.together(reported...)
	return runs, steps
}

// saysOf is a text that no two users share a part of.
func saysOf(user string) string {
	return `{"said":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte(user), 20)) + `"}`
}

// stored are the blocks as they are, in pieces that are found again wherever in a file they are.
func (w *world) stored(where string, args ...any) (pieces [][]byte) {
	w.t.Helper()
	w.must(w.read(context.Background(), func(tx *Tx) error {
		return tx.each(`SELECT data FROM payload_blocks `+where, args, func(rows scanner) error {
			var data []byte
			err := rows.Scan(&data)
			const piece = 16
			for i := 0; i+piece <= len(data); i += piece {
				pieces = append(pieces, data[i:i+piece])
			}
			return err
		})
	}))
	return pieces
}

// left counts the pieces that are in the store's files, or in rows of PostgreSQL.
func (w *world) left(pieces [][]byte) (n int) {
	w.t.Helper()
	if w.url != "" {
		now := bytes.Join(w.stored(""), nil)
		for _, piece := range pieces {
			if bytes.Contains(now, piece) {
				n++
			}
		}
		return n
	}
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(w.path + suffix)
		w.must(err)
		for _, piece := range pieces {
			if bytes.Contains(content, piece) {
				n++
			}
		}
	}
	return n
}

// Of a block that users share, the erased one's texts go, and the others' stay as they were.
func TestAnErasureTakesItsPartOfABlock(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	users := []string{maria, "ann", "bob", maria, "cid"}
	runs, steps := w.saidTogether(ws, users...)
	alone, _ := w.saidTogether(ws, maria)
	before := w.stored("WHERE workspace_id = $1", ws)
	if n := w.number(blocks); n != 4 || len(before) == 0 {
		t.Fatalf("there are %d blocks of %d pieces", n, len(before))
	}
	w.must(w.engine.scrub(t.Context(), w.pauseWriter))
	if n := w.left(before); n != len(before) {
		t.Fatalf("%d pieces of %d are found before", n, len(before))
	}
	if e := w.erase(ws, maria); !e.Done {
		t.Fatalf("%+v", e)
	}
	now := bytes.Join(w.stored("WHERE workspace_id = $1", ws), nil)
	before = slices.DeleteFunc(before, func(piece []byte) bool { return bytes.Contains(now, piece) }) // of the others
	if n := w.left(before); n > 0 || len(before) < 10 {
		t.Errorf("%d of %d pieces of what was stored are in the files", n, len(before))
	}
	if n := w.number(blocks); n != 2 {
		t.Errorf("%d blocks are left", n)
	}
	for i, user := range users {
		want := []string{saysOf(user), saysOf(user), "no " + user}
		if user == maria {
			want = make([]string, 3)
		}
		w.mustHaveTexts(ws, runs[i], steps[i], want[0], want[1], want[2])
	}
	if d := w.detail(ws, alone[0]); d.Steps[0].InputData != nil || d.Steps[0].Error != nil {
		t.Errorf("of her own run there is left %+v", d.Steps)
	}
	w.mustVerify()
	w.mustRememberTheTruth()
}

// Retention deletes run by run, whatever else is in a block.
func TestRetentionTakesItsPartOfABlock(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	var users []string
	for i := range 30 {
		users = append(users, fmt.Sprint("user ", i))
	}
	runs, steps := w.saidTogether(ws, users...)
	for i := range runs {
		if i%2 == 0 {
			w.end(ws, runs[i], RunCompleted)
		}
	}
	w.Advance(366 * 24 * time.Hour) // a run that is RUNNING does not expire
	w.expire()
	if n := w.number(`SELECT sum(payloads) FROM payload_blocks`); n != 30 {
		t.Errorf("%d texts are left", n)
	}
	for i := range runs {
		if i%2 == 1 {
			w.mustHaveTexts(ws, runs[i], steps[i], saysOf(users[i]), saysOf(users[i]), "no "+users[i])
			w.end(ws, runs[i], RunCompleted)
		}
	}
	w.mustVerify()
	w.expire()
	if n := w.number(blocks); n != 0 {
		t.Errorf("%d blocks are left", n)
	}
	w.mustVerify()
}

// countingConn counts the queries for blocks.
type countingConn struct {
	conn
	queries, blocks int
}

func (c *countingConn) Query(ctx context.Context, query string, args []any, each func(scanner) error) error {
	if !strings.Contains(query, "FROM payload_blocks") {
		return c.conn.Query(ctx, query, args, each)
	}
	c.queries++
	return c.conn.Query(ctx, query, args, func(rows scanner) error { c.blocks++; return each(rows) })
}

// The steps of a page share blocks, in no order: each is read once, and some by one query.
func TestAPageReadsEachOfItsBlocksOnce(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	const steps, shared = 120, 40 // blocks
	run := w.start(ws, "u").ID
	ids, asked := make([]uuid.UUID, steps), make([]func() error, steps)
	for i := range ids {
		asked[i] = w.taking(ws, run, fmt.Appendf(nil, `{"n":%d}`, i), &ids[i])
	}
	w.together(asked...)
	for block := range shared { // steps 0, 40 and 80, then 1, 41 and 81
		var all []func() error
		for i := block; i < steps; i += shared {
			all = append(all, w.reporting(ws, run, ids[i], StepUpdate{OutputData: fmt.Appendf(nil, `"of %d"`, i)}))
		}
		w.together(all...)
	}
	w.must(w.read(t.Context(), func(tx *Tx) error {
		count := &countingConn{conn: tx.conn}
		tx.conn = count
		page, next, err := readSteps(tx, ws, w.internal(run), RunRunning, "", MaxSteps)
		if len(page) != steps || next != "" {
			t.Errorf("%d steps, and more: %q", len(page), next)
		}
		for _, s := range page {
			i := slices.Index(ids, s.ID)
			if string(s.InputData) != fmt.Sprintf(`{"n":%d}`, i) || string(s.OutputData) != fmt.Sprintf(`"of %d"`, i) {
				t.Errorf("step %d has %s and %s", i, s.InputData, s.OutputData)
			}
		}
		if want := shared/blocksTogether + 1; count.blocks != shared+1 || count.queries != want {
			t.Errorf("%d blocks were read %d times, by %d queries", shared+1, count.blocks, count.queries)
		}
		return err
	}))
}

// A later report writes its block anew: so it may not make one that others share large.
func TestLaterReportsLeaveABlockThatTheyOutgrow(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	const steps = 20
	run := w.start(ws, "u").ID
	ids := make([]uuid.UUID, steps)
	for i := range ids {
		w.must(w.taking(ws, run, nil, &ids[i])())
	}
	report := func(text func(i int) string) (all []func() error) {
		for i := range ids {
			all = append(all, w.reporting(ws, run, ids[i], StepUpdate{OutputData: []byte(text(i))}))
		}
		return all
	}
	random := make([]byte, steps*payload.BlockSize/2)
	_, _ = rand.Read(random)
	long := func(i int) string {
		return `"` + base64.StdEncoding.EncodeToString(random[i*payload.BlockSize/2:][:payload.BlockSize/2]) + `"`
	}
	w.together(report(func(int) string { return `"working"` })...)
	if n := w.number(blocks); n != 1 {
		t.Fatalf("the first reports are in %d blocks", n)
	}
	for _, call := range report(long) {
		w.must(call())
	}
	w.together(append(report(func(int) string { return `"short"` }), report(long)...)...)
	if n := w.number(`SELECT max(octet_length(data)) FROM payload_blocks`); n > 2*payload.BlockSize {
		t.Errorf("a block has %d bytes", n)
	}
	w.mustRememberTheTruth()
	w.mustVerify()
	for i := range ids {
		w.mustHaveTexts(ws, run, ids[i], "", long(i), "")
	}
}

// A large text is compressed before its job is done; when that fails, its block is the next one's.
func TestALargeTextOfAJobThatFailsIsNotStored(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	large := []byte(`{"never":"` + strings.Repeat("x", 3*payload.BlockSize) + `"}`)
	broken := errors.New("broken")
	var step uuid.UUID
	w.together(func() error {
		in := NewStep{Type: 1, InputData: large, packed: w.packLarge(payload.Texts{Input: large})}
		err := w.writeIn(context.Background(), ws, modeCached, func(tx *Tx) error {
			of, err := tx.cache.workspaces.get(tx, ws)
			w.must(err)
			r, err := tx.cache.runs.get(tx, runKey{ws, run})
			w.must(err)
			_, err = insertStep(tx, of, r, in, guard.Decision{}, "")
			return errors.Join(err, broken)
		})
		if !errors.Is(err, broken) {
			return fmt.Errorf("the job did not fail: %w", err)
		}
		return nil
	}, w.taking(ws, run, []byte(`{"small":1}`), &step))
	w.mustHaveTexts(ws, run, step, `{"small":1}`, "", "")
	w.mustVerify()
}

// The average size of texts is an integer on both engines.
func TestExpiringIsEstimatedFromBlocksOfAnySize(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	for i := range 3 {
		w.together(w.taking(ws, run, fmt.Appendf(nil, `{"a":%d}`, i), new(uuid.UUID)),
			w.taking(ws, run, []byte(`{"a":"`+strings.Repeat("y", i)+`"}`), new(uuid.UUID)),
			w.taking(ws, run, []byte(`{"b":"`+strings.Repeat("z", 7*i)+`"}`), new(uuid.UUID)))
	}
	w.end(ws, run, RunCompleted)
	e, err := w.Expiring(t.Context(), ws, 400*24*time.Hour)
	w.must(err)
	if e.Runs != 1 || e.Bytes < 900 {
		t.Errorf("%+v", e)
	}
}

// storeAsOnce gives the steps of a run texts as an older version has stored them.
func (w *world) storeAsOnce(run uuid.UUID) {
	w.t.Helper()
	w.must(w.write(context.Background(), modeBulkSQL, func(tx *Tx) error {
		_, err := tx.exec(`INSERT INTO step_payloads (run_id, step_uuid, input_data, output_data, error, usage_data)
			SELECT run_id, uuid, '{"old":1}', '"old"', 'old trouble', '{}' FROM run_steps WHERE run_id = $1`, w.internal(run))
		return err
	}))
}

// What an older version has stored is read, completed and deleted where it is.
func TestTextsOfOlderVersions(t *testing.T) {
	w := newWorld(t)
	ws := w.workspace(plans.Basic)
	old := func(user string) (run, step uuid.UUID) {
		run = w.start(ws, user).ID
		w.must(w.taking(ws, run, nil, &step)())
		w.storeAsOnce(run)
		w.mustHaveTexts(ws, run, step, `{"old":1}`, `"old"`, "old trouble")
		return run, step
	}
	run, step := old(maria)
	w.must(w.reporting(ws, run, step, StepUpdate{Error: new("new trouble")})())
	w.mustHaveTexts(ws, run, step, `{"old":1}`, `"old"`, "new trouble")
	s, err := w.Step(t.Context(), ws, run, step)
	if err != nil || string(s.UsageData) != "{}" {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := w.IndexRuns(t.Context()); err != nil {
		t.Error(err)
	}
	if n := w.number(`SELECT count(*) FROM run_terms WHERE term IN ('new', 'trouble')`); n != 2 {
		t.Errorf("%d words of the error are found", n)
	}
	w.mustVerify()
	if e := w.erase(ws, maria); !e.Done {
		t.Errorf("%+v", e)
	}
	w.mustHaveTexts(ws, run, step, "", "", "")

	run, _ = old("ann")
	w.mustReplayInput(ws, `{"old":1}`)
	w.end(ws, run, RunCompleted)
	w.Advance(25 * time.Hour)
	if e, err := w.Expiring(t.Context(), ws, 0); err != nil || e.Runs != 2 {
		t.Errorf("%+v, %v", e, err)
	}
	w.expire()
	if n := w.number(`SELECT count(*) FROM step_payloads`); n != 0 {
		t.Errorf("%d rows of older versions are left", n)
	}
	w.mustVerify()
}

// mustReplayInput wants some step of the workspace to have an input in a replay.
func (w *world) mustReplayInput(ws WorkspaceKey, input string) {
	w.t.Helper()
	found := false
	w.must(w.Replay(context.Background(), ws, noon(), noon().Add(time.Hour), everything(w.t), func(e *policies.Event) error {
		found = found || string(e.Input) == input
		return nil
	}))
	if !found {
		w.t.Errorf("no replayed step has the input %.100s", input)
	}
}

func TestInputsAreReplayedFromTheirBlocks(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.saidTogether(ws, "ann", "bob")
	w.mustReplayInput(ws, saysOf("bob"))
	large := `{"a":"` + strings.Repeat("large ", largeReplayed) + `"}`
	w.must(w.taking(ws, w.start(ws, "cid").ID, []byte(large), new(uuid.UUID))())
	w.mustReplayInput(ws, large)
}

// A block that is damaged is said to be, and does not keep anything from being erased.
func TestADamagedBlockIsReportedAndErased(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	runs, steps := w.saidTogether(ws, maria, "ann")
	whole, _ := w.saidTogether(ws, "bob")
	w.elsewhere(w.bytesIn(`UPDATE payload_blocks SET data = x'0205616263' WHERE payloads > 1`))
	if d := w.detail(ws, whole[0]); string(d.Steps[0].InputData) != saysOf("bob") {
		t.Errorf("another run is %+v", d.Steps)
	}
	if _, err := w.Run(t.Context(), ws, runs[1], ""); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the run is read: %v", err)
	}
	if e := w.erase(ws, maria); !e.Done {
		t.Errorf("%+v", e)
	}
	if d := w.detail(ws, runs[0]); d.Steps[0].InputData != nil || d.Steps[0].Error != nil {
		t.Errorf("there is left %+v", d.Steps)
	}
	if n := w.number(blocks); n != 2 {
		t.Errorf("%d blocks are left", n)
	}
	if _, err := w.Run(t.Context(), ws, runs[1], ""); !errors.Is(err, ErrCorrupt) {
		t.Errorf("the other's run is read: %v", err)
	}
	// The other's usage is booked all the same, and the index goes on.
	w.must(w.reporting(ws, runs[1], steps[1], StepUpdate{OutputData: []byte(`"later"`), PromptTokens: new(int64(7))})())
	if n := w.number(`SELECT prompt_tokens FROM run_steps WHERE run_id = $1`, w.internal(runs[1])); n != 7 {
		t.Errorf("%d tokens are booked", n)
	}
	if _, err := w.IndexRuns(t.Context()); err != nil {
		t.Errorf("the index: %v", err)
	}
}

// The index reads the block of a report before its write. What is reported, or erased, in between
// is what counts, also where its place is the same.
func TestTheIndexHasTheErrorThatIsStoredWhenItIsWritten(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	terms := func(words ...string) (found int64) {
		for _, word := range words {
			found += w.number(`SELECT count(*) FROM run_terms WHERE term = $1`, word)
		}
		return found
	}
	run := w.start(ws, "u").ID
	steps, asked := make([]uuid.UUID, 3), []func() error{}
	for i := range steps {
		asked = append(asked, w.taking(ws, run, []byte(`{"a":1}`), &steps[i]))
	}
	w.together(asked...)
	w.index()
	w.together(w.reporting(ws, run, steps[0], StepUpdate{Error: new("alpha")}), w.reporting(ws, run, steps[1], StepUpdate{Error: new("gamma")}))
	place := w.number(`SELECT report_payload FROM run_steps WHERE run_id = $1 AND uuid = $2`, w.internal(run), steps[0][:])
	index := func() error { _, err := w.IndexRuns(t.Context()); return err }
	w.together(w.reporting(ws, run, steps[0], StepUpdate{Error: new("beta")}), index)
	if n := w.number(`SELECT report_payload FROM run_steps WHERE run_id = $1 AND uuid = $2`, w.internal(run), steps[0][:]); n != place {
		t.Fatalf("the report has moved from %d to %d: this tests nothing", place, n)
	}
	if n := terms("beta", "gamma"); n != 2 {
		t.Errorf("%d of the two errors are in the index", n)
	}
	if n := terms("alpha"); n != 0 {
		t.Error("an error is in the index that was replaced before")
	}
	w.must(w.reporting(ws, run, steps[2], StepUpdate{Error: new("delta")})())
	w.together(func() error {
		return w.writeIn(context.Background(), ws, modeSQL, func(tx *Tx) error { // as an erasure does
			return tx.execOne(`UPDATE steps SET report_payload = NULL WHERE run_id = $1 AND uuid = $2`, w.internal(run), steps[2][:])
		})
	}, index)
	if n := terms("delta"); n != 0 {
		t.Error("an error is in the index that was erased before")
	}
	if n := w.number(`SELECT count(*) FROM unindexed_steps`); n != 0 {
		t.Errorf("%d steps are left", n)
	}
}

// A report's block is not unpacked by the writer, which has other things to do.
func TestTheIndexUnpacksNoBlockInItsWrite(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run, step := w.start(ws, "u").ID, uuid.UUID{}
	w.must(w.taking(ws, run, nil, &step)())
	w.must(w.reporting(ws, run, step, StepUpdate{Error: new("alpha " + strings.Repeat("beta ", 100))})()) // too long to be stored as it is
	var next []unindexedStep
	w.must(w.read(t.Context(), func(tx *Tx) (err error) {
		next, err = unindexedSteps(tx)
		return err
	}))
	w.must(w.writeAside(t.Context(), []WorkspaceKey{ws}, func(tx *Tx) error {
		clear(tx.cache.newBlocks[:])
		tx.payloads = nil // with which blocks are unpacked
		return indexReport(tx, next[0])
	}))
	if n := w.number(`SELECT count(*) FROM run_terms WHERE term = 'alpha'`); len(next) != 1 || n != 1 {
		t.Errorf("%d steps were read, and the error is in the index %d times", len(next), n)
	}
}

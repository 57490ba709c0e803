package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/storage/payload"
)

// What goes in and comes out of a step is stored in blocks: the texts of a
// commit together, compressed, and of one workspace. A block is appended to its
// table, so that a commit dirties few pages, however many runs are active. The
// step has where its texts are: one place for its input, and one for what was
// reported of it (output, error, usage).
//
// A block is written when the batch's changes are (cache.flush), by one statement
// for all of its texts; until then it is in cache.blocks. Numbers of blocks count
// per workspace, which the writer holds, so no two writers use the same.
//
// Texts that versions before this have stored are in step_payloads, a row for
// each step. They are read and deleted there; nothing is added.

// payloadPlace is where texts are: a block's number, times payload.MaxPlaces,
// plus the place in it. Null where there are none.
type payloadPlace = sql.NullInt64

type blockKey struct {
	ws     WorkspaceKey
	number int64
}

// cachedBlock is a block that is not stored yet.
type cachedBlock struct {
	cached
	blockKey
	payload.Block
	packed []byte // the block, where a caller has compressed it already
}

// save compresses and stores the block, unless the jobs that have filled it all failed.
func (b *cachedBlock) save(tx *Tx) error {
	delete(tx.cache.blocks, b.blockKey)
	used := int64(b.Used())
	if used == 0 {
		return nil
	}
	if b.packed == nil {
		b.packed = tx.payloads.Encode(&b.Block)
	}
	err := tx.queue(`INSERT INTO payload_blocks (workspace_id, number, payloads, data) VALUES ($1, $2, $3, $4)`,
		b.ws, b.number, used, b.packed)
	if err == nil && b.Size() <= payload.BlockSize {
		b.packed, b.readAt = nil, tx.cache.generation
		tx.cache.newBlocks[tx.cache.nextNew] = b
		tx.cache.nextNew = (tx.cache.nextNew + 1) % len(tx.cache.newBlocks)
	}
	return err
}

// newBlocks is how many of the blocks that were stored last are kept: most steps
// are reported soon, and the answer has their input.
const newBlocks = 32

// newBlock is a block that was stored lately; nil for others, and on a reader.
func (tx *Tx) newBlock(key blockKey) *cachedBlock {
	if tx.cache == nil {
		return nil
	}
	for _, b := range tx.cache.newBlocks {
		if b != nil && b.blockKey == key && tx.cache.valid(b.entry(), key.ws) {
			return b
		}
	}
	return nil
}

// forgetBlock is called when a stored block changes.
func (c *cache) forgetBlock(key blockKey) {
	for i, b := range c.newBlocks {
		if b != nil && b.blockKey == key {
			c.newBlocks[i] = nil
		}
	}
}

// packLarge compresses texts that are a block of their own, before the writer has
// to; nil for others.
func (s *Store) packLarge(texts payload.Texts) []byte {
	place := texts.Place()
	if len(place) <= payload.BlockSize {
		return nil
	}
	var b payload.Block
	b.Add(place)
	return s.payloads.Encode(&b)
}

// addPayload puts texts into the workspace's open block, or into one of their own
// when they are packed. A job that fails takes them out again.
func (tx *Tx) addPayload(w *cachedWorkspace, texts payload.Texts, packed []byte) payloadPlace {
	place := texts.Place()
	if place == nil {
		return payloadPlace{}
	}
	b := tx.cache.blocks[blockKey{w.key, w.lastBlock}]
	if b == nil || !b.Fits(len(place)) {
		w.lastBlock++
		b = &cachedBlock{blockKey: blockKey{w.key, w.lastBlock}, packed: packed}
		tx.cache.blocks[b.blockKey] = b
		tx.cache.markDirty(b)
	}
	number := b.Add(place)
	tx.undo = append(tx.undo, func() { b.Set(number, nil) })
	return payloadPlace{Int64: b.number*payload.MaxPlaces + int64(number), Valid: true}
}

// changePayload replaces texts where they are.
func (tx *Tx) changePayload(ws WorkspaceKey, at payloadPlace, texts payload.Texts) error {
	key, number := blockOf(ws, at)
	if b := tx.unsavedBlock(key); b != nil {
		before := b.Place(number)
		b.packed = nil
		b.Set(number, texts.Place())
		tx.undo = append(tx.undo, func() { b.Set(number, before) })
		return nil
	}
	b, err := tx.readBlock(key)
	if err != nil {
		return err
	}
	b.Set(number, texts.Place())
	return tx.storeBlock(key, b)
}

func blockOf(ws WorkspaceKey, at payloadPlace) (key blockKey, place int) {
	return blockKey{ws, at.Int64 / payload.MaxPlaces}, int(at.Int64 % payload.MaxPlaces)
}

// unsavedBlock is nil for a block that is stored, and on a reader.
func (tx *Tx) unsavedBlock(key blockKey) *cachedBlock {
	if tx.cache == nil {
		return nil
	}
	return tx.cache.blocks[key]
}

func (tx *Tx) readBlock(key blockKey) (*payload.Block, error) {
	var data []byte
	err := tx.get(`SELECT data FROM payload_blocks WHERE workspace_id = $1 AND number = $2`, []any{key.ws, key.number}, &data)
	if errors.Is(err, ErrNotFound) {
		return nil, missingRow("a block of payloads")
	}
	if err != nil {
		return nil, err
	}
	b, err := tx.payloads.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("%w: block %d of workspace %d: %w", ErrCorrupt, key.number, key.ws, err)
	}
	return b, nil
}

// storeBlock writes a block that has changed, or deletes one in which nothing is left.
func (tx *Tx) storeBlock(key blockKey, b *payload.Block) error {
	tx.cache.forgetBlock(key)
	used := int64(b.Used())
	if used == 0 {
		return tx.execOne(`DELETE FROM payload_blocks WHERE workspace_id = $1 AND number = $2`, key.ws, key.number)
	}
	return tx.execOne(`UPDATE payload_blocks SET payloads = $3, data = $4 WHERE workspace_id = $1 AND number = $2`,
		key.ws, key.number, used, tx.payloads.Encode(b))
}

// blocksKept is how many blocks a reader keeps, so that steps that share one read it once.
const blocksKept = 32

// payload reads texts. One that was just written, and is not stored yet, is read too.
func (tx *Tx) payload(ws WorkspaceKey, at payloadPlace) (texts payload.Texts, err error) {
	if !at.Valid {
		return texts, nil
	}
	key, number := blockOf(ws, at)
	if b := tx.unsavedBlock(key); b != nil {
		return payload.Parse(b.Place(number))
	}
	if b := tx.newBlock(key); b != nil {
		return payload.Parse(b.Place(number))
	}
	b := tx.blocks[key]
	if b == nil {
		if b, err = tx.readBlock(key); err != nil {
			return texts, err
		}
		if tx.reader && b.Size() <= payload.BlockSize {
			if len(tx.blocks) >= blocksKept || tx.blocks == nil {
				tx.blocks = make(map[blockKey]*payload.Block)
			}
			tx.blocks[key] = b
		}
	}
	return payload.Parse(b.Place(number))
}

// payloadsOf are where the texts of a step are.
type payloadsOf struct{ input, report payloadPlace }

// read reads the texts of a step over those that an older version has stored.
func (p payloadsOf) read(tx *Tx, ws WorkspaceKey, s *Step) error {
	input, err := tx.payload(ws, p.input)
	if err != nil {
		return err
	}
	if p.input.Valid {
		s.InputData = input.Input
	}
	report, err := tx.payload(ws, p.report)
	if err != nil || !p.report.Valid {
		return err
	}
	s.OutputData, s.UsageData, s.Error = report.Output, report.Usage, nil
	if report.Error != nil {
		s.Error = new(string(report.Error))
	}
	return nil
}

// readInput reads what the step was to do, unless an older version has stored it.
func (r *Review) readInput(tx *Tx, ws WorkspaceKey) error {
	texts, err := tx.payload(ws, r.payload)
	if r.payload.Valid {
		r.InputData = texts.Input
	}
	return err
}

func (in *StepUpdate) texts() payload.Texts {
	texts := payload.Texts{Output: in.OutputData, Usage: in.UsageData}
	if in.Error != nil {
		texts.Error = []byte(*in.Error)
	}
	return texts
}

// saveReport stores the texts that an update reports, with those of earlier updates.
func (row *stepRow) saveReport(tx *Tx, w *cachedWorkspace, in StepUpdate) error {
	if in.OutputData == nil && in.Error == nil && in.UsageData == nil {
		return nil
	}
	in.OutputData, in.packed = laterText(row.OutputData, in.OutputData, in.packed)
	in.UsageData, in.packed = laterText(row.UsageData, in.UsageData, in.packed)
	if in.Error == nil && row.Error != nil {
		in.Error, in.packed = row.Error, nil
	}
	row.OutputData, row.UsageData, row.Error = in.OutputData, in.UsageData, in.Error
	texts := in.texts()
	if row.payloads.report.Valid {
		return tx.changePayload(w.key, row.payloads.report, texts)
	}
	row.payloads.report = tx.addPayload(w, texts, in.packed)
	return nil
}

// laterText is what an update says, or else what was said before: then it is not
// as it was packed.
func laterText(before, now, packed []byte) (text, stillPacked []byte) {
	if now == nil && before != nil {
		return before, nil
	}
	return now, packed
}

// dropPayloads takes texts out of their blocks. The steps must forget where they were, or go.
// A block that cannot be read is deleted: nobody can tell what of it is to stay.
func dropPayloads(tx *Tx, ws WorkspaceKey, places []int64) error {
	slices.Sort(places)
	for len(places) > 0 {
		key, _ := blockOf(ws, payloadPlace{Int64: places[0]})
		n := 0
		b, err := tx.readBlock(key)
		for ; n < len(places) && places[n]/payload.MaxPlaces == key.number; n++ {
			if err == nil {
				b.Set(int(places[n]%payload.MaxPlaces), nil)
			}
		}
		switch {
		case err == nil:
			err = tx.storeBlock(key, b)
		case errors.Is(err, ErrCorrupt):
			tx.cache.forgetBlock(key)
			_, err = tx.exec(`DELETE FROM payload_blocks WHERE workspace_id = $1 AND number = $2`, key.ws, key.number)
		}
		if err != nil {
			return err
		}
		places = places[n:]
	}
	return nil
}

// blocksAtOnce is how many blocks upkeep changes before it looks at the time:
// each is read, compressed and written again.
const blocksAtOnce = 2

// heldPayload is a step with texts in blocks.
type heldPayload struct {
	segment int64
	step    uuid.UUID
	payloadsOf
}

// placesOfSome are those of the first steps, so many that they are in blocksAtOnce blocks.
func placesOfSome(steps []heldPayload) (places []int64, n int) {
	blocks := make(map[int64]bool)
	for n < len(steps) && len(blocks) < blocksAtOnce {
		for _, at := range []payloadPlace{steps[n].input, steps[n].report} {
			if at.Valid {
				places = append(places, at.Int64)
				blocks[at.Int64/payload.MaxPlaces] = true
			}
		}
		n++
	}
	return places, n
}

// erasePayloads takes the texts from some steps of a run that come after one, and
// returns the last of them; more says whether to go on from there.
func erasePayloads(tx *Tx, ws WorkspaceKey, runID int64, after heldPayload) (last heldPayload, more bool, err error) {
	var steps []heldPayload
	err = tx.each(`SELECT segment, uuid, input_payload, report_payload FROM run_steps
		WHERE run_id = $1 AND segment >= $2 AND (segment, uuid) > ($2, $3)
			AND (input_payload IS NOT NULL OR report_payload IS NOT NULL) ORDER BY segment, uuid LIMIT $4`,
		[]any{runID, after.segment, after.step[:], int64(upkeepChunk)}, func(rows scanner) error {
			var s heldPayload
			err := rows.Scan(&s.segment, &s.step, &s.input, &s.report)
			steps = append(steps, s)
			return err
		})
	if err != nil || len(steps) == 0 {
		return after, false, err
	}
	places, n := placesOfSome(steps)
	if err := dropPayloads(tx, ws, places); err != nil {
		return after, true, err
	}
	for _, s := range steps[:n] {
		err := tx.execOne(`UPDATE steps SET input_payload = NULL, report_payload = NULL
			WHERE segment = $1 AND run_id = $2 AND uuid = $3`, s.segment, runID, s.step[:])
		if err != nil {
			return after, true, err
		}
	}
	return steps[n-1], true, nil
}

// dropOldestPayloads takes the texts of a run's oldest steps in a segment, which are
// about to be deleted. It returns of how many steps: fewer when that was enough at once.
func dropOldestPayloads(tx *Tx, ws WorkspaceKey, segment, runID, limit int64) (n int64, err error) {
	var steps []heldPayload
	err = tx.each(`SELECT uuid, input_payload, report_payload FROM steps WHERE segment = $1 AND run_id = $2
		ORDER BY uuid LIMIT $3`, []any{segment, runID, limit}, func(rows scanner) error {
		var s heldPayload
		err := rows.Scan(&s.step, &s.input, &s.report)
		steps = append(steps, s)
		return err
	})
	if err != nil {
		return 0, err
	}
	places, some := placesOfSome(steps)
	if some == len(steps) {
		some = int(limit)
	}
	return int64(some), dropPayloads(tx, ws, places)
}

// Expiring is how much retention will delete soon.
type Expiring struct {
	Runs  int64
	Bytes int64 // estimated from the oldest runs
}

// Expiring estimates what retention will delete from a workspace within that time.
func (s *Store) Expiring(ctx context.Context, ws WorkspaceKey, within time.Duration) (e Expiring, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		e, err = expiring(tx, ws, tx.now.Add(within).AddDate(0, 0, -int(w.Plan.RetentionDays)))
		return err
	})
	return e, err
}

// expiring counts the runs that began before a time, and estimates their size from the oldest.
func expiring(tx *Tx, ws WorkspaceKey, before time.Time) (e Expiring, err error) {
	const sample, stepBytes, runBytes = 100, 100, 300 // a row with its part of the indexes
	bound := idFloor(before)
	err = tx.get(`SELECT count(*) FROM runs WHERE workspace_id = $1 AND uuid < $2`, []any{ws, bound[:]}, &e.Runs)
	if err != nil || e.Runs == 0 {
		return e, err
	}
	var runs, bytes, payloadBytes int64
	err = tx.get(`SELECT coalesce(sum(octet_length(data)) / sum(payloads), 0) FROM payload_blocks WHERE workspace_id = $1
		AND number < $2 + (SELECT min(number) FROM payload_blocks WHERE workspace_id = $1)`, []any{ws, sample}, &payloadBytes)
	if err != nil {
		return e, err
	}
	err = tx.get(`SELECT count(*), coalesce(sum(r.step_count * $4 + $5
			+ coalesce((SELECT octet_length(m.metadata) FROM run_metadata m WHERE m.run_id = r.id), 0)
			+ coalesce((SELECT sum(coalesce(octet_length(p.input_data), 0) + coalesce(octet_length(p.output_data), 0)
				+ coalesce(octet_length(p.error), 0)) FROM step_payloads p WHERE p.run_id = r.id), 0)
			+ (SELECT count(s.input_payload) + count(s.report_payload) FROM run_steps s WHERE s.run_id = r.id) * $6), 0)
		FROM (SELECT id, step_count FROM runs WHERE workspace_id = $1 AND uuid < $2 ORDER BY uuid LIMIT $3) r`,
		[]any{ws, bound[:], sample, stepBytes, runBytes, payloadBytes}, &runs, &bytes)
	e.Bytes = bytes / max(1, runs) * e.Runs
	return e, err
}

// TotalExpiring is Expiring of all workspaces together.
func (s *Store) TotalExpiring(ctx context.Context, within time.Duration) (all Expiring, err error) {
	workspaces, err := s.retentions(ctx)
	for _, w := range workspaces {
		e, readErr := s.Expiring(ctx, w.ws, within)
		if readErr != nil {
			return all, readErr
		}
		all.Runs, all.Bytes = all.Runs+e.Runs, all.Bytes+e.Bytes
	}
	return all, err
}

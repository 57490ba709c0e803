package storage

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"

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
	if number > 0 {
		b.packed = nil // it is of the first place alone
	}
	tx.undo = append(tx.undo, func() {
		b.packed = nil
		b.Set(number, nil)
	})
	return payloadPlace{Int64: b.number*payload.MaxPlaces + int64(number), Valid: true}
}

// changePayload replaces texts, and returns where they are now: elsewhere when they would make a
// block that others share larger than a block is to be. Each change writes the whole block anew.
func (tx *Tx) changePayload(
	w *cachedWorkspace, at payloadPlace, texts payload.Texts, packed []byte,
) (payloadPlace, error) {
	key, number := blockOf(w.key, at)
	place := texts.Place()
	outgrows := func(b *payload.Block) bool {
		return b.Used() > 1 && b.Size()+len(place)-len(b.Place(number)) > payload.BlockSize
	}
	if b := tx.unsavedBlock(key); b != nil {
		before, moves := b.Place(number), outgrows(&b.Block)
		b.packed = nil
		tx.undo = append(tx.undo, func() {
			b.packed = nil
			b.Set(number, before)
		})
		if moves {
			b.Set(number, nil)
			return tx.addPayload(w, texts, packed), nil
		}
		b.Set(number, place)
		return at, nil
	}
	b, err := tx.readBlock(key)
	if err != nil {
		return at, err
	}
	if outgrows(b) {
		b.Set(number, nil)
		at = tx.addPayload(w, texts, packed)
	} else {
		b.Set(number, place)
	}
	return at, tx.storeBlock(key, b)
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
		return tx.queueOne(`DELETE FROM payload_blocks WHERE workspace_id = $1 AND number = $2`, key.ws, key.number)
	}
	return tx.queueOne(`UPDATE payload_blocks SET payloads = $3, data = $4 WHERE workspace_id = $1 AND number = $2`,
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
	if err := p.readInput(tx, ws, s); err != nil {
		return err
	}
	return p.readReport(tx, ws, s)
}

// readToReport is read for a report, which is booked whatever has become of texts: those that are
// damaged are left out, for verify to find, and what is reported goes elsewhere.
func (p *payloadsOf) readToReport(tx *Tx, ws WorkspaceKey, s *Step) error {
	if err := p.readInput(tx, ws, s); err != nil && !errors.Is(err, ErrCorrupt) {
		return err
	}
	err := p.readReport(tx, ws, s)
	if errors.Is(err, ErrCorrupt) {
		p.report, err = payloadPlace{}, nil
	}
	return err
}

func (p payloadsOf) readInput(tx *Tx, ws WorkspaceKey, s *Step) error {
	texts, err := tx.payload(ws, p.input)
	if err == nil && p.input.Valid {
		s.InputData = texts.Input
	}
	return err
}

func (p payloadsOf) readReport(tx *Tx, ws WorkspaceKey, s *Step) error {
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
func (row *stepRow) saveReport(tx *Tx, w *cachedWorkspace, in StepUpdate) (err error) {
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
		row.payloads.report, err = tx.changePayload(w, row.payloads.report, texts, in.packed)
		return err
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

// blocksAtOnce is how many blocks upkeep writes anew before it looks at the time: each is read,
// compressed and written again. A block of which nothing is left just goes.
const blocksAtOnce = 8

// heldPayload is a step with texts in blocks.
type heldPayload struct {
	segment int64
	step    uuid.UUID
	payloadsOf
	inputShares, reportShares sql.NullInt64 // of how many texts their blocks are
}

// payloadDrop counts which texts leave which blocks.
type payloadDrop struct {
	places  []int64
	left    map[int64]int64 // by the number of a block: how many texts stay in it
	rewrite int             // how many blocks others stay in
}

func newPayloadDrop() *payloadDrop { return &payloadDrop{left: make(map[int64]int64)} }

func (d *payloadDrop) addStep(s heldPayload) {
	d.add(s.input, s.inputShares)
	d.add(s.report, s.reportShares)
}

func (d *payloadDrop) add(at payloadPlace, shares sql.NullInt64) {
	if !at.Valid {
		return
	}
	number := at.Int64 / payload.MaxPlaces
	before, touched := d.left[number]
	if !touched {
		before = shares.Int64 // 0 where there is no such block, which is then found out
	} else if before > 0 {
		d.rewrite--
	}
	if d.left[number] = before - 1; before > 1 {
		d.rewrite++
	}
	d.places = append(d.places, at.Int64)
}

// dropSome takes the texts of the first steps out of their blocks, of so many steps that no more
// than blocksAtOnce blocks are written anew, and returns how many. The steps must forget where
// their texts were, or go.
func dropSome(tx *Tx, ws WorkspaceKey, steps []heldPayload) (n int, err error) {
	all := newPayloadDrop()
	for i, s := range steps {
		all.addStep(s)
		if i == 0 || all.rewrite <= blocksAtOnce {
			n = i + 1
		}
	}
	first := newPayloadDrop()
	for _, s := range steps[:n] {
		first.addStep(s)
	}
	return n, dropPayloads(tx, ws, first.places, first.left)
}

// dropPayloads takes texts out of their blocks; left says how many others each block has.
// A block that cannot be read is deleted: nobody can tell what of it is to stay.
func dropPayloads(tx *Tx, ws WorkspaceKey, places []int64, left map[int64]int64) error {
	slices.Sort(places)
	for len(places) > 0 {
		key, _ := blockOf(ws, payloadPlace{Int64: places[0]})
		n := 1
		for n < len(places) && places[n]/payload.MaxPlaces == key.number {
			n++
		}
		if err := dropFromBlock(tx, key, places[:n], left[key.number] == 0); err != nil {
			return err
		}
		places = places[n:]
	}
	return nil
}

func dropFromBlock(tx *Tx, key blockKey, places []int64, all bool) error {
	if all {
		return tx.storeBlock(key, &payload.Block{})
	}
	b, err := tx.readBlock(key)
	if errors.Is(err, ErrCorrupt) {
		tx.cache.forgetBlock(key)
		_, err = tx.exec(`DELETE FROM payload_blocks WHERE workspace_id = $1 AND number = $2`, key.ws, key.number)
		return err
	}
	if err != nil {
		return err
	}
	for _, at := range places {
		b.Set(int(at%payload.MaxPlaces), nil)
	}
	return tx.storeBlock(key, b)
}

// joinBlocks joins the blocks of a step's texts: $1 is the workspace, $2 payload.MaxPlaces.
const joinBlocks = `LEFT JOIN payload_blocks i ON i.workspace_id = $1 AND i.number = s.input_payload / $2
		LEFT JOIN payload_blocks r ON r.workspace_id = $1 AND r.number = s.report_payload / $2`

// erasePayloads takes the texts from some steps of a run that come after one, and
// returns the last of them; more says whether to go on from there.
func erasePayloads(tx *Tx, ws WorkspaceKey, runID int64, after heldPayload) (last heldPayload, more bool, err error) {
	var steps []heldPayload
	err = tx.each(`SELECT s.segment, s.uuid, s.input_payload, s.report_payload, i.payloads, r.payloads FROM run_steps s
		`+joinBlocks+`
		WHERE s.run_id = $3 AND s.segment >= $4 AND (s.segment, s.uuid) > ($4, $5)
			AND (s.input_payload IS NOT NULL OR s.report_payload IS NOT NULL) ORDER BY s.segment, s.uuid LIMIT $6`,
		[]any{ws, int64(payload.MaxPlaces), runID, after.segment, after.step[:], int64(upkeepChunk)}, func(rows scanner) error {
			var s heldPayload
			err := rows.Scan(&s.segment, &s.step, &s.input, &s.report, &s.inputShares, &s.reportShares)
			steps = append(steps, s)
			return err
		})
	if err != nil || len(steps) == 0 {
		return after, false, err
	}
	n, err := dropSome(tx, ws, steps)
	if err != nil {
		return after, true, err
	}
	for _, s := range steps[:n] {
		err := tx.queueOne(`UPDATE steps SET input_payload = NULL, report_payload = NULL
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
	err = tx.each(`SELECT s.uuid, s.input_payload, s.report_payload, i.payloads, r.payloads FROM steps s `+joinBlocks+`
		WHERE s.segment = $3 AND s.run_id = $4 ORDER BY s.uuid LIMIT $5`,
		[]any{ws, int64(payload.MaxPlaces), segment, runID, limit}, func(rows scanner) error {
			var s heldPayload
			err := rows.Scan(&s.step, &s.input, &s.report, &s.inputShares, &s.reportShares)
			steps = append(steps, s)
			return err
		})
	if err != nil {
		return 0, err
	}
	some, err := dropSome(tx, ws, steps)
	if some == len(steps) {
		some = int(limit)
	}
	return int64(some), err
}

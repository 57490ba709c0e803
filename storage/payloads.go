package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

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
		tx.cache.keepBlock(b)
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
	if texts.Size() <= payload.BlockSize {
		return nil
	}
	var b payload.Block
	b.Add(&texts)
	return s.payloads.Encode(&b)
}

// addPayload puts texts into the workspace's open block, or into one of their own
// when they are packed. A job that fails takes them out again.
func (tx *Tx) addPayload(w *cachedWorkspace, texts payload.Texts, packed []byte) payloadPlace {
	size := texts.Size()
	if size == 0 {
		return payloadPlace{}
	}
	b := tx.cache.blocks[blockKey{w.key, w.lastBlock}]
	if b == nil || !b.Fits(size) {
		w.lastBlock++
		b = &cachedBlock{blockKey: blockKey{w.key, w.lastBlock}, Block: tx.cache.emptyBlock(), packed: packed}
		tx.cache.blocks[b.blockKey] = b
		tx.cache.markDirty(b)
	}
	number := b.Add(&texts)
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

// packedBlock reads a block as it is stored.
func (tx *Tx) packedBlock(key blockKey) (data []byte, err error) {
	err = tx.get(`SELECT data FROM payload_blocks WHERE workspace_id = $1 AND number = $2`, []any{key.ws, key.number}, &data)
	if errors.Is(err, ErrNotFound) {
		err = missingRow("a block of payloads")
	}
	return data, err
}

func (tx *Tx) readBlock(key blockKey) (*payload.Block, error) {
	data, err := tx.packedBlock(key)
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
	if texts, ok, err := tx.expected.read(tx, at.Int64); ok || err != nil {
		return texts, err
	}
	b, err := tx.readBlock(key)
	if err != nil {
		return texts, err
	}
	return payload.Parse(b.Place(number))
}

// expectedPayloads are the texts of a page that is about to be read, in whatever order: their
// blocks are read a few at a time, and each once.
type expectedPayloads struct {
	ws     WorkspaceKey
	places []int64                 // that were not read yet, in order
	texts  map[int64]payload.Texts // that were read with another one, by their place
}

// blocksTogether is how many blocks one query reads.
const blocksTogether = 8

// expectPayloads says which texts of a workspace payload will be asked for: so many, by their number.
func (tx *Tx) expectPayloads(ws WorkspaceKey, n int, place func(i int) payloadPlace) {
	e := &expectedPayloads{ws: ws, texts: make(map[int64]payload.Texts)}
	for i := range n {
		if at := place(i); at.Valid {
			e.places = append(e.places, at.Int64)
		}
	}
	slices.Sort(e.places)
	tx.expected = e
}

// read returns a text that is expected, and false for others.
func (e *expectedPayloads) read(tx *Tx, at int64) (texts payload.Texts, ok bool, err error) {
	if e == nil {
		return texts, false, nil
	}
	if texts, ok = e.texts[at]; ok {
		delete(e.texts, at)
		return texts, true, nil
	}
	if _, ok = slices.BinarySearch(e.places, at); !ok {
		return texts, false, nil
	}
	if err := e.readBlocks(tx, at/payload.MaxPlaces); err != nil {
		return texts, false, err
	}
	texts, ok = e.texts[at]
	delete(e.texts, at)
	return texts, ok, nil
}

// readBlocks reads the texts of the block with a number, and of those that come next. What cannot
// be read is left out: it is an error once it is asked for.
func (e *expectedPayloads) readBlocks(tx *Tx, number int64) error {
	numbers := e.blocksFrom(number)
	args := []any{e.ws}
	for i := range blocksTogether {
		args = append(args, numbers[min(i, len(numbers)-1)])
	}
	err := tx.each(`SELECT number, data FROM payload_blocks WHERE workspace_id = $1 AND number IN ($2, $3, $4, $5, $6, $7, $8, $9)`,
		args, func(rows scanner) error {
			var number int64
			var data []byte
			if err := rows.Scan(&number, &data); err != nil {
				return err
			}
			b, err := tx.payloads.Decode(data)
			if err != nil {
				return nil
			}
			i, _ := slices.BinarySearch(e.places, number*payload.MaxPlaces)
			for ; i < len(e.places) && e.places[i]/payload.MaxPlaces == number; i++ {
				if texts, err := payload.Parse(b.Place(int(e.places[i] % payload.MaxPlaces))); err == nil {
					e.texts[e.places[i]] = texts
				}
			}
			return nil
		})
	e.places = slices.DeleteFunc(e.places, func(at int64) bool { return slices.Contains(numbers, at/payload.MaxPlaces) })
	return err
}

// blocksFrom are the next blocks to read: one with a number, and then from there on.
func (e *expectedPayloads) blocksFrom(number int64) (numbers []int64) {
	from, _ := slices.BinarySearch(e.places, number*payload.MaxPlaces)
	for i := range e.places {
		next := e.places[(from+i)%len(e.places)] / payload.MaxPlaces
		if len(numbers) == 0 || numbers[len(numbers)-1] != next {
			if len(numbers) == blocksTogether {
				break
			}
			numbers = append(numbers, next)
		}
	}
	return numbers
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

// To drop a text is to say where it is in dropped_payloads, in the transaction in which its step
// goes or forgets it. Nothing reads it from then on. sweepPayloads takes the texts out of their
// blocks: one write for a block, whatever the runs whose texts leave it.

// dropPayload has a text leave its block with the next sweep.
func (tx *Tx) dropPayload(ws WorkspaceKey, at payloadPlace) error {
	if !at.Valid {
		return nil
	}
	return tx.queue(`INSERT INTO dropped_payloads (workspace_id, place) VALUES ($1, $2)
		ON CONFLICT (workspace_id, place) DO NOTHING`, ws, at.Int64)
}

// drop drops the texts of a step.
func (p payloadsOf) drop(tx *Tx, ws WorkspaceKey) error {
	return errors.Join(tx.dropPayload(ws, p.input), tx.dropPayload(ws, p.report))
}

// blocksAtOnce is how many blocks upkeep writes anew before it looks at the time: each is read,
// compressed and written again. A block of which nothing is left just goes.
const blocksAtOnce = 8

// sweepPayloads takes what was dropped out of the workspace's blocks.
func (s *Store) sweepPayloads(ctx context.Context, ws WorkspaceKey) error {
	after, more := int64(-1), false
	err := s.read(ctx, func(tx *Tx) error {
		return tx.get(`SELECT EXISTS (SELECT 1 FROM dropped_payloads WHERE workspace_id = $1)`, []any{ws}, &more)
	})
	if err != nil {
		return fmt.Errorf("look for dropped payloads: %w", err)
	}
	for more {
		next, latest := after, (*Tx)(nil)
		err := s.runUpkeep(ctx, ws, modeSQL, func(tx *Tx) (_ bool, err error) {
			if tx != latest { // its batch may be run again
				next, latest = after, tx
			}
			next, more, err = sweepBlocks(tx, ws, next)
			return more, err
		})
		if err != nil {
			return fmt.Errorf("take payloads out of their blocks: %w", err)
		}
		after = next
	}
	return nil
}

// sparseBlock is a block that texts leave.
type sparseBlock struct {
	blockKey
	places          []int64 // theirs
	payloads, bytes int64   // of the block as it is stored; 0 when it is gone
}

// sweepBlocks takes the texts that were dropped out of the next few blocks that have some after a
// place, and returns the last of their places.
func sweepBlocks(tx *Tx, ws WorkspaceKey, after int64) (last int64, more bool, err error) {
	list, more, err := sparseBlocks(tx, ws, after)
	if err != nil || len(list) == 0 {
		return after, false, err
	}
	n, rewritten, size := 0, 0, int64(0)
	for n < len(list) && rewritten < blocksAtOnce && size < upkeepBytes {
		b := list[n]
		n, size = n+1, size+b.bytes
		if int64(len(b.places)) < b.payloads {
			rewritten++
		}
		if err := b.sweep(tx); err != nil {
			return after, true, err
		}
	}
	swept := list[n-1].places
	last = swept[len(swept)-1]
	_, err = tx.exec(`DELETE FROM dropped_payloads WHERE workspace_id = $1 AND place > $2 AND place <= $3`, ws, after, last)
	return last, more || n < len(list), err
}

// sparseBlocks lists blocks that have dropped texts after a place; more tells of others.
func sparseBlocks(tx *Tx, ws WorkspaceKey, after int64) (list []sparseBlock, more bool, err error) {
	const limit = payload.MaxPlaces + 1 // so that all of the first one's are there
	places := 0
	err = tx.each(`SELECT d.place, coalesce(b.payloads, 0), coalesce(octet_length(b.data), 0) FROM dropped_payloads d
		LEFT JOIN payload_blocks b ON b.workspace_id = d.workspace_id AND b.number = d.place / $4
		WHERE d.workspace_id = $1 AND d.place > $2 ORDER BY d.place LIMIT $3`,
		[]any{ws, after, int64(limit), int64(payload.MaxPlaces)}, func(rows scanner) error {
			var at int64
			var b sparseBlock
			err := rows.Scan(&at, &b.payloads, &b.bytes)
			b.blockKey, _ = blockOf(ws, payloadPlace{Int64: at})
			if len(list) == 0 || list[len(list)-1].blockKey != b.blockKey {
				list = append(list, b)
			}
			of := &list[len(list)-1]
			of.places, places = append(of.places, at), places+1
			return err
		})
	if places == limit { // the last block may have more of them
		return list[:len(list)-1], true, err
	}
	return list, false, err
}

// sweep takes the texts out of the block. One that cannot be read is deleted: nobody can tell what
// of it is to stay.
func (s sparseBlock) sweep(tx *Tx) error {
	if s.payloads == 0 {
		return nil
	}
	if s.payloads == int64(len(s.places)) {
		return tx.storeBlock(s.blockKey, &payload.Block{})
	}
	b, err := tx.readBlock(s.blockKey)
	if errors.Is(err, ErrCorrupt) {
		return tx.storeBlock(s.blockKey, &payload.Block{})
	}
	if err != nil {
		return err
	}
	for _, at := range s.places {
		b.Set(int(at%payload.MaxPlaces), nil)
	}
	return tx.storeBlock(s.blockKey, b)
}

package storage

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/storage/payload"
)

// Runs are found by their tags, and by terms: the words of their title, user and
// errors, their models and their tools. Tags are stored when a run starts,
// because usage is counted by them (cachedTagDay). Terms are collected beside
// the writer, by IndexRuns, so that no decision waits for them: run_index says
// how far they have come, and unindexed_steps lists what was reported since.

// Tag is a name with a value that a run's metadata gives it.
type Tag struct{ Key, Value string }

// tagsOf takes a run's tags from its metadata, in the order of their keys.
func tagsOf(metadata []byte) (tags []Tag) {
	has := func(text string) bool { return bytes.Contains(metadata, []byte(text)) }
	if !has(`"tags"`) && !has(`"agent"`) && !has(`\`) {
		return nil // most runs, without reading their metadata
	}
	values, _ := policies.TagsOf(metadata)
	for _, key := range slices.Sorted(maps.Keys(values)) {
		tags = append(tags, Tag{key, values[key]})
	}
	return tags
}

// saveTags stores a run's tags, each with the workspace, so that the index of tags finds runs
// without a join.
func saveTags(tx *Tx, ws WorkspaceKey, r *cachedRun, id uuid.UUID, tags []Tag) error {
	for _, t := range tags {
		err := tx.queue(`INSERT INTO run_tags (run_id, key, value, workspace_id, run_uuid) VALUES ($1, $2, $3, $4, $5)`,
			r.id, t.Key, t.Value, ws, id[:])
		if err != nil {
			return err
		}
	}
	r.tags = tags
	return nil
}

// loadTags reads a run's tags in the order of their keys.
func loadTags(tx *Tx, runID int64) (tags []Tag, err error) {
	return tags, tx.each(`SELECT key, value FROM run_tags WHERE run_id = $1 ORDER BY key`, []any{runID}, func(rows scanner) error {
		var t Tag
		err := rows.Scan(&t.Key, &t.Value)
		tags = append(tags, t)
		return err
	})
}

// tagDays are the days' parts of a run's tags: nil for the many runs that have none.
func (r *cachedRun) tagDays(tx *Tx, on dayKey) (days []*cachedTagDay, err error) {
	for _, t := range r.tags {
		d, err := tx.cache.tagDays.get(tx, tagDayKey{on, t})
		if err != nil {
			return nil, err
		}
		if d.values, err = tx.cache.tagValues.get(tx, on); err != nil {
			return nil, err
		}
		days = append(days, d)
	}
	return days, nil
}

// eraseTags takes a run's tags, and what it has used from the figures of their
// values, so that a value that nobody else has is gone.
func eraseTags(tx *Tx, key runKey) error {
	r, err := tx.cache.runs.get(tx, key)
	if err != nil || r.tags == nil {
		return err
	}
	type part struct {
		day              int64
		used             amounts
		allowed, blocked int64
	}
	var parts []part
	started := part{day: floorDiv(idMillis(key.id), millisPerDay)}
	started.allowed, started.blocked = 1, 0
	if r.status == RunBlocked && r.endedBy == 0 {
		started.allowed, started.blocked = 0, 1
	}
	parts = append(parts, started)
	var local sql.NullInt64
	if err := tx.get(`SELECT local_day FROM runs WHERE id = $1`, []any{r.id}, &local); err != nil {
		return err
	}
	if started.day = localDays + local.Int64; local.Valid {
		parts = append(parts, started)
	}
	err = tx.each(`SELECT booked_day, coalesce(sum(cost_nanos), 0), sum(prompt_tokens), sum(completion_tokens)
		FROM run_steps WHERE run_id = $1 AND booked_day IS NOT NULL GROUP BY booked_day
		UNION ALL SELECT local_day + $2, coalesce(sum(cost_nanos), 0), sum(prompt_tokens), sum(completion_tokens)
		FROM run_steps WHERE run_id = $1 AND local_day IS NOT NULL GROUP BY local_day`, []any{r.id, localDays}, func(rows scanner) error {
		var p part
		err := rows.Scan(&p.day, &p.used.spend, &p.used.prompt, &p.used.completion)
		parts = append(parts, p)
		return err
	})
	if err != nil {
		return err
	}
	var days [][]*cachedTagDay
	for _, p := range parts {
		of, err := r.tagDays(tx, dayKey{key.ws, p.day})
		if err != nil {
			return err
		}
		days = append(days, of)
	}
	if _, err := tx.exec(`DELETE FROM run_tags WHERE run_id = $1`, r.id); err != nil {
		return err
	}
	for i, p := range parts {
		for _, d := range days[i] {
			if d.admitted {
				d.book(tx, amounts{}.minus(p.used), -p.allowed, -p.blocked)
			}
		}
	}
	r.tags = nil
	return nil
}

// addTerm lists a run under a term, unless the run is gone meanwhile.
func addTerm(tx *Tx, runID int64, kind termKind, term string) error {
	return tx.queue(`INSERT INTO run_terms (run_id, kind, term, workspace_id, run_uuid)
		SELECT $1, $2, $3, workspace_id, uuid FROM runs WHERE id = $1
		ON CONFLICT (run_id, kind, term) DO NOTHING`, runID, int64(kind), term)
}

// addWords adds the words of some texts to a run's terms.
func addWords(tx *Tx, runID int64, texts ...string) error {
	for _, text := range texts {
		for _, word := range wordsOf(text) {
			if err := addTerm(tx, runID, termWord, word); err != nil {
				return err
			}
		}
	}
	return nil
}

// IndexRuns lists under their terms the runs and steps that are new since it was
// last called, and returns how many runs and segments it has looked at. It goes
// on where it ended, after a restart too.
func (s *Store) IndexRuns(ctx context.Context) (done int, err error) {
	sweep, err := s.beginSweep(ctx)
	if err != nil {
		return 0, fmt.Errorf("look how far the runs of all nodes are complete: %w", err)
	}
	runs, err := s.indexTitles(ctx)
	if err != nil {
		return runs, fmt.Errorf("index the words of runs: %w", err)
	}
	if err := s.indexReports(ctx); err != nil {
		return runs, fmt.Errorf("index reports of steps: %w", err)
	}
	segments, err := s.indexSegments(ctx)
	if err != nil {
		return runs + segments, fmt.Errorf("index models and tools: %w", err)
	}
	late, err := s.sweepIndex(ctx, sweep)
	if err != nil {
		return runs + segments + late, fmt.Errorf("index what was committed late: %w", err)
	}
	return runs + segments + late, nil
}

// indexPosition is how far the index has come.
func indexPosition(tx *Tx) (runID, segment int64, err error) {
	err = tx.get(`SELECT run_id, segment FROM run_index WHERE id = 1`, nil, &runID, &segment)
	return runID, segment, err
}

// indexedAtOnce is how many runs or steps are indexed in one write: so few that
// decisions hardly notice it.
const indexedAtOnce = 8

// indexedRun is a run whose words are to be indexed.
type indexedRun struct {
	ws WorkspaceKey
	id int64
}

// indexTitles indexes new runs. A reader looks which are next. They are read again
// where they are written, while nobody else writes in their workspaces: no erasure
// can come between.
func (s *Store) indexTitles(ctx context.Context) (done int, err error) {
	for {
		var next []indexedRun
		err := s.read(ctx, func(tx *Tx) error {
			after, _, err := indexPosition(tx)
			if err != nil {
				return err
			}
			return tx.each(`SELECT workspace_id, id FROM runs WHERE id > $1 ORDER BY id LIMIT $2`,
				[]any{after, int64(indexedAtOnce)}, func(rows scanner) error {
					var r indexedRun
					err := rows.Scan(&r.ws, &r.id)
					next = append(next, r)
					return err
				})
		})
		if err != nil || len(next) == 0 {
			return done, err
		}
		of := func(r indexedRun) WorkspaceKey { return r.ws }
		err = writeIndex(ctx, s, next, of, func(tx *Tx) error { return indexWords(tx, next) })
		if err != nil {
			return done, err
		}
		done += len(next)
	}
}

// indexWords indexes runs that follow one another.
func indexWords(tx *Tx, runs []indexedRun) error {
	if err := addTitles(tx, runs); err != nil {
		return err
	}
	_, err := tx.exec(`UPDATE run_index SET run_id = $1 WHERE id = 1`, runs[len(runs)-1].id)
	return err
}

// addTitles adds the words of runs' titles and users.
func addTitles(tx *Tx, runs []indexedRun) error {
	for _, r := range runs {
		var title, user string
		err := tx.get(`SELECT coalesce(r.title, ''), u.external_id FROM runs r JOIN users u ON u.id = r.user_id WHERE r.id = $1`,
			[]any{r.id}, &title, &user)
		if err == nil {
			err = addWords(tx, r.id, title, user)
		}
		if ignoreNotFound(err) != nil { // it may be gone
			return err
		}
	}
	return nil
}

// markUnindexed has IndexRuns look at a step again: it was reported with an error or another model.
func markUnindexed(tx *Tx, runID int64, step uuid.UUID) error {
	err := tx.queue(`INSERT INTO unindexed_steps (run_id, step_uuid) VALUES ($1, $2)
		ON CONFLICT (run_id, step_uuid) DO NOTHING`, runID, step[:])
	return err
}

// unindexedStep is a step that IndexRuns is to look at again.
type unindexedStep struct {
	ws     WorkspaceKey
	runID  int64
	step   uuid.UUID
	report payloadPlace
	block  []byte         // in which its report was; nil where there was none
	error  sql.NullString // in that
}

// indexReports adds the terms of steps that were reported since, some at a time.
func (s *Store) indexReports(ctx context.Context) error {
	for {
		var next []unindexedStep
		err := s.read(ctx, func(tx *Tx) (err error) {
			next, err = unindexedSteps(tx)
			return err
		})
		if err != nil || len(next) == 0 {
			return err
		}
		of := func(u unindexedStep) WorkspaceKey { return u.ws }
		err = writeIndex(ctx, s, next, of, func(tx *Tx) error {
			for _, u := range next {
				if err := indexReport(tx, u); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
}

// unindexedSteps reads some of them, with their errors: the writer is spared their blocks.
func unindexedSteps(tx *Tx) (next []unindexedStep, err error) {
	err = tx.each(`SELECT r.workspace_id, q.run_id, q.step_uuid,
			(SELECT s.report_payload FROM run_steps s WHERE s.run_id = q.run_id AND s.uuid = q.step_uuid)
		FROM unindexed_steps q JOIN runs r ON r.id = q.run_id
		ORDER BY q.run_id, q.step_uuid LIMIT $1`, []any{int64(indexedAtOnce)}, func(rows scanner) error {
		var u unindexedStep
		err := rows.Scan(&u.ws, &u.runID, &u.step, &u.report)
		next = append(next, u)
		return err
	})
	for i := range next {
		if u := &next[i]; err == nil && u.report.Valid {
			key, place := blockOf(u.ws, u.report)
			if u.block, err = tx.packedBlock(key); err == nil {
				u.error, err = tx.errorIn(u.block, place)
			}
			err = ignoreCorrupt(err)
		}
	}
	return next, err
}

// ignoreCorrupt passes over damage: what is damaged has no words, and holds up no other.
func ignoreCorrupt(err error) error {
	if errors.Is(err, ErrCorrupt) || errors.Is(err, payload.ErrCorrupt) {
		return nil
	}
	return err
}

// errorIn is the error at a place of a block.
func (tx *Tx) errorIn(block []byte, place int) (text sql.NullString, err error) {
	b, err := tx.payloads.Decode(block)
	if err != nil {
		return text, err
	}
	texts, err := payload.Parse(b.Place(place))
	return errorOf(texts), err
}

func errorOf(texts payload.Texts) sql.NullString {
	return sql.NullString{String: firstCharacters(texts.Error, maxErrorText), Valid: texts.Error != nil}
}

// errorNow is the error of a step whose report is at a place: what was read, unless its block has
// changed since, as by another report or an erasure.
func (u *unindexedStep) errorNow(tx *Tx, report payloadPlace) (text sql.NullString, err error) {
	if u.block != nil && report == u.report {
		key, _ := blockOf(u.ws, report)
		var same bool
		err := tx.get(`SELECT EXISTS (SELECT 1 FROM payload_blocks WHERE workspace_id = $1 AND number = $2 AND data = $3)`,
			[]any{key.ws, key.number, u.block}, &same)
		if err != nil || same {
			return u.error, err
		}
	}
	texts, err := tx.payload(u.ws, report)
	return errorOf(texts), ignoreCorrupt(err)
}

// indexReport takes a step off the list of unindexed ones, and adds the words of its error and
// the name of its model.
func indexReport(tx *Tx, u unindexedStep) error {
	var text, model sql.NullString
	var report payloadPlace
	err := tx.get(`SELECT substr(p.error, 1, $3),
			(SELECT m.name FROM run_steps s JOIN models m ON m.id = s.model_id WHERE s.run_id = q.run_id AND s.uuid = q.step_uuid),
			(SELECT s.report_payload FROM run_steps s WHERE s.run_id = q.run_id AND s.uuid = q.step_uuid)
		FROM unindexed_steps q LEFT JOIN step_payloads p ON p.run_id = q.run_id AND p.step_uuid = q.step_uuid
		WHERE q.run_id = $1 AND q.step_uuid = $2`, []any{u.runID, u.step[:], int64(maxErrorText)}, &text, &model, &report)
	if err != nil {
		return ignoreNotFound(err)
	}
	if now, err := u.errorNow(tx, report); err != nil {
		return err
	} else if now.Valid {
		text = now
	}
	if err := addWords(tx, u.runID, text.String); err != nil {
		return err
	}
	if model.Valid {
		if err := addTerm(tx, u.runID, termModel, model.String); err != nil {
			return err
		}
	}
	_, err = tx.exec(`DELETE FROM unindexed_steps WHERE run_id = $1 AND step_uuid = $2`, u.runID, u.step[:])
	return err
}

// runTerm is a model or a tool of a run.
type runTerm struct {
	ws    WorkspaceKey
	runID int64
	kind  termKind
	term  string
}

// indexedSegment is how many steps of the newest segment are in the index.
type indexedSegment struct{ segment, steps int64 }

// indexSegments indexes the models and tools of steps, segment by segment. All
// but the newest segment are full, so they are read once. The newest is read
// again when it has grown.
func (s *Store) indexSegments(ctx context.Context) (done int, err error) {
	for {
		var at indexedSegment
		var terms []runTerm
		var last bool
		err := s.read(ctx, func(tx *Tx) (err error) {
			at, terms, last, err = s.readSegment(tx)
			return err
		})
		if err != nil || at.steps == 0 {
			return done, err
		}
		if err := s.addTerms(ctx, terms); err != nil {
			return done, err
		}
		done++
		if s.indexed = at; last {
			return done, nil
		}
		err = s.writeAside(ctx, nil, func(tx *Tx) error {
			_, err := tx.exec(`UPDATE run_index SET segment = $1 WHERE id = 1`, at.segment+1)
			return err
		})
		if err != nil {
			return done, err
		}
	}
}

// readSegment reads the next segment of which something is not in the index; one
// without steps when there is none.
func (s *Store) readSegment(tx *Tx) (at indexedSegment, terms []runTerm, last bool, err error) {
	_, from, err := indexPosition(tx)
	if err != nil {
		return at, nil, false, err
	}
	err = tx.get(`SELECT segment FROM steps WHERE segment >= $1 ORDER BY segment LIMIT 1`, []any{from}, &at.segment)
	if err != nil {
		return at, nil, true, ignoreNotFound(err)
	}
	var newest int64
	err = tx.get(`SELECT max(segment) FROM steps`, nil, &newest)
	if err == nil {
		err = tx.get(`SELECT count(*) FROM steps WHERE segment = $1`, []any{at.segment}, &at.steps)
	}
	if err != nil || at == s.indexed && at.segment == newest {
		return indexedSegment{}, nil, true, err
	}
	seen := map[runTerm]bool{}
	add := func(ws WorkspaceKey, runID int64, kind termKind, name sql.NullString) {
		t := runTerm{ws, runID, kind, name.String}
		if name.Valid && !seen[t] {
			seen[t] = true
			terms = append(terms, t)
		}
	}
	err = tx.each(`SELECT r.workspace_id, s.run_id, m.name, s.tool_name FROM steps s JOIN runs r ON r.id = s.run_id
		LEFT JOIN models m ON m.id = s.model_id WHERE s.segment = $1`, []any{at.segment}, func(rows scanner) error {
		var ws WorkspaceKey
		var runID int64
		var model, tool sql.NullString
		err := rows.Scan(&ws, &runID, &model, &tool)
		add(ws, runID, termModel, model)
		add(ws, runID, termTool, tool)
		return err
	})
	return at, terms, at.segment == newest, err
}

// addTerms stores terms in transactions of a bounded size, so that no decision waits long behind
// one.
func (s *Store) addTerms(ctx context.Context, terms []runTerm) error {
	of := func(t runTerm) WorkspaceKey { return t.ws }
	for part := range slices.Chunk(terms, 2*indexedAtOnce) {
		err := writeIndex(ctx, s, part, of, func(tx *Tx) error {
			for _, t := range part {
				if err := addTerm(tx, t.runID, t.kind, t.term); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

package storage

import (
	"errors"
	"math"

	"github.com/google/uuid"
)

// Steps are stored by segments: some hundred that were asked for one after
// another, whatever their runs. So the pages that a commit dirties are those of
// the newest segment, which are few however many runs are under way; by runs
// alone they would be one for each of them. run_segments lists the segments in
// which a run has steps, an entry for many of them, and the view run_steps
// finds a run's steps through it.

// segmentSteps is about how many steps a segment takes. Larger ones have more
// pages to dirty, and of smaller ones a run has more to list.
const segmentSteps = 512

// place returns the segment that the run's next step belongs to, and lists the
// run there. The step's own change of memory (stepped) remembers that it is.
func (r *heldRun) place(tx *Tx) (segment int64, err error) {
	segment, err = tx.memory.newestSegment(tx)
	if err != nil || segment == r.segment {
		return segment, err
	}
	_, err = tx.exec(`INSERT INTO run_segments (run_id, segment) VALUES ($1, $2) ON CONFLICT (run_id, segment) DO NOTHING`, r.id, segment)
	return segment, err
}

// newestSegment is the one that is being filled, or the next when it is full.
// Another process may fill the same one, or another, without harm.
func (m *memory) newestSegment(tx *Tx) (int64, error) {
	switch {
	case m.segment == 0:
		err := tx.get(`SELECT coalesce(max(segment), 0) + 1 FROM steps`, nil, &m.segment)
		if err != nil {
			return 0, err
		}
	case m.segmentSteps == segmentSteps:
		m.segment, m.segmentSteps = m.segment+1, 0
	}
	m.segmentSteps++
	return m.segment, nil
}

// segmentFinder finds the segment of a run's step. It never moves.
type segmentFinder func(tx *Tx, runID int64, step uuid.UUID) (segment int64, err error)

// lookedInto is how many of a run's segments the writer looks into for a step,
// the newest first: most are asked for soon after they were made. In more of
// them only a reader looks, which holds up nobody.
const lookedInto = 16

// errElsewhere says that a step is in none of a run's newest segments.
var errElsewhere = errors.New("the step is in no segment that was looked into")

// newSegmentOf looks into the newest segments alone.
func newSegmentOf(tx *Tx, runID int64, step uuid.UUID) (int64, error) {
	segment, err := segmentAmong(tx, lookedInto, runID, step)
	if errors.Is(err, ErrNotFound) {
		err = errElsewhere
	}
	return segment, err
}

// segmentOf looks into all of them.
func segmentOf(tx *Tx, runID int64, step uuid.UUID) (int64, error) {
	return segmentAmong(tx, math.MaxInt64, runID, step)
}

func segmentAmong(tx *Tx, newest, runID int64, step uuid.UUID) (segment int64, err error) {
	err = tx.get(`SELECT s.segment FROM (SELECT segment FROM run_segments WHERE run_id = $1 ORDER BY segment DESC LIMIT $3) l
		JOIN steps s ON s.segment = l.segment AND s.run_id = $1 AND s.uuid = $2`, []any{runID, step[:], newest}, &segment)
	return segment, err
}

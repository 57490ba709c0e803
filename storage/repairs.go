package storage

import (
	"context"

	"github.com/google/uuid"
)

// Repairs are the fields of a run or step that could not be kept as they were
// sent, so that who reads them knows. The values are stored: never renumber.
type Repairs int64

const (
	// RepairedOther stands for all fields that this server does not know.
	RepairedOther Repairs = 1
	// AllRepairs has every bit.
	AllRepairs = ^Repairs(0)
)

// repairedFields are the names of the other bits, from 2 upwards.
func repairedFields() []string {
	return []string{
		"metadata", "input_data", "output_data", "error", "model", "tool_name", "duration_ms",
		"prompt_tokens", "completion_tokens", "cached_tokens", "cache_write_tokens", "cache_write_1h_tokens",
		"reasoning_tokens", "service_tier", "reported_cost_usd", "usage",
	}
}

// RepairOf is the bit of a field by its name in the API.
func RepairOf(field string) Repairs {
	for i, name := range repairedFields() {
		if name == field {
			return 2 << i
		}
	}
	return RepairedOther
}

// RepairsOf is the set of such fields.
func RepairsOf(fields []string) (all Repairs) {
	for _, field := range fields {
		all |= RepairOf(field)
	}
	return all
}

// Fields names them, as the API does; unknown ones are one "other".
func (r Repairs) Fields() (names []string) {
	if r == 0 {
		return nil
	}
	for i, name := range repairedFields() {
		if r&(2<<i) != 0 {
			names = append(names, name)
		}
	}
	if r&RepairedOther != 0 {
		names = append(names, "other")
	}
	return names
}

// RepairRun records that a call on a run was repaired that records nothing else.
func (s *Store) RepairRun(ctx context.Context, c Caller, run uuid.UUID, r Repairs) error {
	return s.write(ctx, modeCached, func(tx *Tx) error {
		_, c, err := authorizeReport(tx, c, run)
		if err != nil {
			return err
		}
		return saveRepairs(tx, c.id, nil, r)
	})
}

// saveRepairs adds to what is recorded of a step, or of the run itself when
// step is nil. Hardly any call needs it, so it is no column of theirs.
func saveRepairs(tx *Tx, runID int64, step []byte, r Repairs) error {
	if r == 0 {
		return nil
	}
	if step == nil {
		step = []byte{}
	}
	_, err := tx.exec(`INSERT INTO repairs (run_id, step_uuid, fields) VALUES ($1, $2, $3)
		ON CONFLICT (run_id, step_uuid) DO UPDATE SET fields = repairs.fields | excluded.fields`, runID, step, int64(r))
	return err
}

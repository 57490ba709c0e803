package storage

import (
	"database/sql"
	"encoding/binary"
	"math"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// Step is what was asked, decided and used in one action of a run.
type Step struct {
	ID                             uuid.UUID
	Sequence                       int64
	Type                           StepType
	Status                         StepStatus
	Model, ToolName                *string
	InputData, OutputData          []byte // JSON, or nil
	Error                          *string
	Decision                       guard.Decision
	PromptTokens, CompletionTokens int64
	Booked                         bool         // usage was reported
	Capped                         bool         // its day or run was too full to book all of it
	Cost                           *plans.Money // nil while no usage is reported, or without a price
	InputPrice, OutputPrice        *plans.Price // those used
	Price                          PriceOrigin  // which entry they are of
	Parts                          Parts        // of what was reported
	UsageData                      []byte       // JSON: the provider's usage, where not all of it could be read; or nil
	CreatedAt                      time.Time
	CompletedAt                    time.Time // zero while RUNNING
	DurationMillis                 *int64
	Repairs                        Repairs
}

const (
	// MaxSteps is how many steps come with a run at most.
	MaxSteps = 500
	// stepsPageBytes ends a page before the step that would carry it beyond, so that large inputs and
	// outputs do not add up in memory. A step that is larger by itself is a page of its own.
	stepsPageBytes = 4 << 20
)

// stepKey is where a step stands in the callers' order.
type stepKey struct {
	sequence int64
	id       uuid.UUID
}

// readSteps lists a page of a run's steps in the callers' order, and the
// cursor of the next page. It orders the keys alone, and then reads step by
// step, so that sorting never carries payloads.
func readSteps(tx *Tx, runID int64, run RunStatus, after string, limit int) (steps []Step, next string, err error) {
	from := stepKey{sequence: math.MinInt64}
	if after != "" {
		if from, err = parseStepKey(runID, after); err != nil {
			return nil, "", err
		}
	}
	type place struct {
		stepKey
		segment int64
	}
	var places []place
	err = tx.each(`SELECT sequence, uuid, segment FROM run_steps WHERE run_id = $1 AND (sequence, uuid) > ($2, $3)
		ORDER BY sequence, uuid LIMIT $4`, []any{runID, from.sequence, from.id[:], limit + 1}, func(rows scanner) error {
		var p place
		err := rows.Scan(&p.sequence, &p.id, &p.segment)
		places = append(places, p)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	size, last := 0, from
	for i, p := range places {
		if i == limit {
			return steps, stepCursor(runID, last), nil
		}
		row, err := readStep(tx, p.segment, runID, p.id)
		if err != nil {
			return nil, "", err
		}
		s := row.shown(run)
		if size += s.size(); size > stepsPageBytes && i > 0 {
			return steps, stepCursor(runID, last), nil
		}
		steps, last = append(steps, s), p.stepKey
	}
	return steps, "", nil
}

// size is about how many bytes of JSON a step takes, and never fewer.
func (s Step) size() int {
	const rest = 4096 // names of 255 characters, each escaped, and what else a step has
	n := rest + len(s.InputData) + len(s.OutputData) + len(s.UsageData)
	if s.Error != nil {
		for _, r := range *s.Error {
			switch {
			case r < ' ' || r == '\u2028' || r == '\u2029':
				n += len(`\u0000`)
			case r == '"' || r == '\\':
				n += len(`\"`)
			default:
				n += utf8.RuneLen(r)
			}
		}
	}
	return n
}

const sequenceSize = 8

func stepCursor(runID int64, k stepKey) string {
	return cursor(listSteps, runID, append(binary.BigEndian.AppendUint64(nil, uint64(k.sequence)), k.id[:]...))
}

func parseStepKey(runID int64, text string) (k stepKey, err error) {
	key, err := parseCursor(listSteps, runID, text, sequenceSize+len(k.id))
	if err != nil {
		return k, err
	}
	k.sequence = int64(binary.BigEndian.Uint64(key))
	copy(k.id[:], key[sequenceSize:])
	return k, nil
}

// stepRow is a step as it is stored.
type stepRow struct {
	Step
	segment int64
	stepProgress
}

// stepProgress is what updates change, but for texts.
type stepProgress struct {
	model       sql.NullInt64
	status      StepStatus
	completedAt sql.NullInt64
	duration    sql.NullInt64
	bookedDay   sql.NullInt64 // null until usage was reported
	used        usage
}

func readStep(tx *Tx, segment, runID int64, id uuid.UUID) (stepRow, error) {
	s := stepRow{segment: segment}
	var input, output sql.NullString
	var reason, limit, used, resets, prompt, completion, reportedPrompt, reportedCompletion sql.NullInt64
	var created int64
	var entry, version, reportedUsage sql.NullString
	kinds, at := &s.used.parts, &s.used.partPrices
	err := tx.get(`SELECT s.uuid, s.sequence, s.type, s.status, s.model_id, m.name, s.tool_name, p.input_data, p.output_data, p.error,
			d.reason, d.limit_value, d.used_value, d.resets_at,
			s.prompt_tokens, s.completion_tokens, s.cost_nanos, s.input_picos, s.output_picos, s.booked_day,
			s.created_at, s.completed_at, s.duration_ms, coalesce(x.fields, 0), c.prompt_tokens, c.completion_tokens,
			coalesce(pp.id, 0), coalesce(pp.source, 0), pp.name, pp.version, p.usage_data,
			coalesce(y.cached_tokens, 0), coalesce(y.cache_write_tokens, 0), coalesce(y.cache_write_1h_tokens, 0),
			coalesce(y.reasoning_tokens, 0), coalesce(y.service_tier, 0), y.reported_nanos, coalesce(y.cached_picos, 0),
			coalesce(y.cache_write_picos, 0), coalesce(y.cache_write_1h_picos, 0), coalesce(y.reasoning_picos, 0)
		FROM steps s LEFT JOIN models m ON m.id = s.model_id
		LEFT JOIN capped_steps c ON c.run_id = s.run_id AND c.step_uuid = s.uuid
		LEFT JOIN step_payloads p ON p.run_id = s.run_id AND p.step_uuid = s.uuid
		LEFT JOIN denials d ON d.run_id = s.run_id AND d.step_uuid = s.uuid
		LEFT JOIN price_points pp ON pp.id = s.price_id
		LEFT JOIN step_usage y ON y.segment = s.segment AND y.run_id = s.run_id AND y.step_uuid = s.uuid
		LEFT JOIN repairs x ON x.run_id = s.run_id AND x.step_uuid = s.uuid
		WHERE s.segment = $1 AND s.run_id = $2 AND s.uuid = $3`, []any{segment, runID, id[:]},
		&s.ID, &s.Sequence, &s.Type, &s.status, &s.model, &s.Model, &s.ToolName, &input, &output, &s.Error,
		&reason, &limit, &used, &resets,
		&prompt, &completion, &s.used.cost, &s.used.inputPrice, &s.used.outputPrice, &s.bookedDay,
		&created, &s.completedAt, &s.duration, &s.Repairs, &reportedPrompt, &reportedCompletion,
		&s.used.point, &s.Price.Source, &entry, &version, &reportedUsage,
		&kinds.cached, &kinds.cacheWrite, &kinds.cacheWrite1h, &kinds.reasoning, &kinds.tier, &kinds.reportedCost,
		&at.cached, &at.cacheWrite, &at.cacheWrite1h, &at.reasoning)
	s.Price.Name, s.Price.Version = entry.String, version.String
	switch {
	case s.used.inputPrice.Valid && s.used.point == 0 && s.Model != nil:
		s.Price = PriceOrigin{Source: PriceOwn, Name: *s.Model}
	case !s.used.inputPrice.Valid && s.used.cost.Valid:
		s.Price = PriceOrigin{Source: PriceReported}
	}
	if s.Type == ToolCall && s.ToolName != nil && s.Model != nil && *s.Model == toolPrefix+*s.ToolName {
		s.Model = nil // the entry that prices the tool, which nobody has named
	}
	s.InputData, s.OutputData, s.UsageData = jsonOf(input), jsonOf(output), jsonOf(reportedUsage)
	s.Decision = recordedDecision(guard.Step, reason, limit, used, resets)
	s.CreatedAt = time.UnixMilli(created).UTC()
	s.used.booked = tokens{prompt.Int64, completion.Int64}
	s.used.reported = s.used.booked
	if reportedPrompt.Valid {
		s.used.reported, s.used.cut = tokens{reportedPrompt.Int64, reportedCompletion.Int64}, true
	}
	return s, err
}

// shown is the step with its progress, as its run makes it look: a step that
// was open when the run ended is abandoned. That is not stored, so that a run's
// end takes no longer when it has many steps.
func (row stepRow) shown(run RunStatus) Step {
	out := row.Step
	out.Status, out.CompletedAt = row.status, timeOf(row.completedAt)
	if out.Status == StepRunning && run != RunRunning {
		out.Status = StepAbandoned
	}
	out.PromptTokens, out.CompletionTokens = row.used.booked.prompt, row.used.booked.completion
	out.Booked, out.Capped = row.bookedDay.Valid, row.used.capped()
	out.Parts = row.used.parts.shown()
	out.DurationMillis = int64Ptr[int64](row.duration)
	out.Cost = int64Ptr[plans.Money](row.used.cost)
	out.InputPrice, out.OutputPrice = int64Ptr[plans.Price](row.used.inputPrice), int64Ptr[plans.Price](row.used.outputPrice)
	return out
}

package storage

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"math"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/payload"
)

// NewStep is what an agent says when it asks to take a step.
type NewStep struct {
	Type StepType
	// Chosen by the caller, from 1 on; steps are listed by it.
	Sequence  int64
	Model     *string
	ToolName  *string
	InputData []byte // JSON object, or nil
	// What the server changed in the body, for the record.
	Repairs     Repairs
	Idempotency Idempotency
	packed      []byte // InputData, compressed, where it is large
	// Waits reports whether the client can wait for a review if a policy requires one.
	Waits bool
}

// CreateStep decides whether a run may take a step, and records it: RUNNING,
// BLOCKED, or WAITING for a person.
func (s *Store) CreateStep(ctx context.Context, c Caller, run uuid.UUID, in NewStep, decide Decider) (a Answer, err error) {
	in.packed = s.packLarge(payload.Texts{Input: in.InputData})
	err = s.decideWithPolicies(ctx, knownCall{c, run, in.Model}, func(tx *Tx, e *policyEvaluation) error {
		a, err = createStep(tx, c, run, in, decide, e)
		return err
	})
	return a, err
}

// createStep does CreateStep's work within the writer's transaction: it loads the state, asks the
// rules, then the policies, and stores the step with its counters. A denied step is stored like an
// allowed one.
func createStep(tx *Tx, c Caller, run uuid.UUID, in NewStep, decide Decider, e *policyEvaluation) (Answer, error) {
	ws, r, state, err := loadRunState(tx, c, run)
	if err != nil {
		return Answer{}, err
	}
	if first, err := replay(tx, c.Workspace, r.id, in.Idempotency); err != nil || first != nil {
		return Answer{Replay: first}, err
	}
	if state.UnpricedRefused, err = deniesUnpriced(tx, c.Workspace, in); err != nil {
		return Answer{}, err
	}
	d := decide(guard.Request{Kind: guard.Step, At: tx.now}, state)
	var call *policyCall
	if d.Allowed() {
		if call, d, err = decidePoliciesForStep(tx, ws, r, run, in, e, d); err != nil {
			return Answer{}, err
		}
	}
	said, err := call.record(tx, d)
	if err != nil {
		return Answer{}, err
	}
	row, err := insertStep(tx, ws, r, in, d, said)
	if err != nil {
		return Answer{}, err
	}
	a := Answer{ID: row.ID, Status: row.status.String(), Decision: d}
	if call != nil {
		if a.Review, err = call.followStep(tx, r, row); err != nil {
			return Answer{}, err
		}
	}
	if err := saveAnswer(tx, c.Workspace, r.id, in.Idempotency, a); err != nil {
		return Answer{}, err
	}
	if d.Allowed() {
		r.cacheStep(row)
	}
	if call != nil {
		call.book(tx)
		r.remember(call)
	}
	r.countStep(tx, row.segment, d)
	recordStepChange(tx, c.Workspace, r.id, row.ID, a.Review, d)
	return a, nil
}

// deniesUnpriced reports whether the step calls a model that has no price, and the
// workspace refuses that.
func deniesUnpriced(tx *Tx, ws WorkspaceKey, in NewStep) (bool, error) {
	w, err := tx.cache.workspaces.get(tx, ws)
	if err != nil || !w.refusesUnpriced || in.Type != ModelCall || in.Model == nil {
		return false, err
	}
	model, err := internModel(tx, ws, in.Model)
	if err != nil {
		return false, err
	}
	price, err := tx.cache.price(tx, idKey{ws, model})
	return price == nil, err
}

// recordStepChange publishes the step after the commit, as a denial or a review if it is one.
func recordStepChange(tx *Tx, ws WorkspaceKey, runID int64, id, review uuid.UUID, d guard.Decision) {
	c := Change{Workspace: ws, Kind: RunProgressed, Run: runID}
	if d.Review {
		c.Kind, c.Step, c.Review = ReviewAsked, id, review
	}
	if d.Denied() {
		c.Kind, c.Denial = StepDenied, &Denial{Step: id, Decision: d}
	}
	tx.recordChange(c)
}

// insertStep stores the step's row, and puts its input into a block. The input of a user who was
// erased is not stored. said is what policies have said of it.
func insertStep(tx *Tx, w *cachedWorkspace, r *cachedRun, in NewStep, d guard.Decision, said string) (row stepRow, err error) {
	ws := w.key
	if r.erased {
		in.InputData, in.packed = nil, nil
	}
	row.Step = Step{
		ID: newID(tx.now), Sequence: in.Sequence, Type: in.Type, Model: in.Model, ToolName: in.ToolName, InputData: in.InputData,
		Decision: d, CreatedAt: tx.now.Truncate(time.Millisecond),
	}
	row.said = nullString(said)
	row.status = StepRunning
	if d.Review {
		row.status = StepWaiting
	}
	if d.Denied() {
		row.status = StepBlocked
		if err := recordDenial(tx, ws, r.id, row.ID[:], d); err != nil {
			return row, err
		}
	}
	model, err := internModel(tx, ws, in.Model)
	if err != nil {
		return row, err
	}
	row.model = nullZero(model)
	if row.segment, err = r.assignSegment(tx); err != nil {
		return row, err
	}
	row.payloads.input = tx.addPayload(w, payload.Texts{Input: in.InputData}, in.packed)
	err = tx.queue(`INSERT INTO steps (segment, run_id, uuid, sequence, type, status, created_at, model_id, tool_name, input_payload,
			policies)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`, row.segment, r.id, row.ID[:], in.Sequence, int64(in.Type),
		int64(row.status), tx.now.UnixMilli(), row.model, in.ToolName, row.payloads.input, row.said)
	if err != nil {
		return row, err
	}
	return row, saveRepairs(tx, r.id, row.ID[:], in.Repairs)
}

// countStep counts a step on its run. A denied step's reason becomes the run's, except that
// RunAlreadyEnded does so only if the run has no other: it does not say why the run was stopped.
func (r *cachedRun) countStep(tx *Tx, segment int64, d guard.Decision) {
	r.segment = segment
	r.stepCount++
	if d.Denied() {
		r.blockedStepCount++
		if d.Reason != r.denyReason && (d.Reason != guard.RunAlreadyEnded || r.denyReason == guard.None) {
			r.denyReason, r.statusChanged = d.Reason, true
		}
	}
	tx.cache.markDirty(r)
	r.touch(tx)
}

// Steps are stored in segments. A segment holds about 512 steps in the order they were asked for,
// whatever their runs, so a commit changes only the few pages of the newest segment, however many
// runs are active. Stored by run, it would change a page for each run. run_segments lists the
// segments that contain steps of a run; the view run_steps uses it to find a run's steps.

// segmentSteps is about how many steps a segment takes. A larger segment has
// more pages to dirty; of smaller ones each run has more.
const segmentSteps = 512

// assignSegment returns the segment for the run's next step, and lists the run
// there. countStep then caches that it is listed.
func (r *cachedRun) assignSegment(tx *Tx) (segment int64, err error) {
	segment, err = tx.cache.newestSegment(tx)
	if err != nil || segment == r.segment {
		return segment, err
	}
	err = tx.queue(`INSERT INTO run_segments (run_id, segment) VALUES ($1, $2) ON CONFLICT (run_id, segment) DO NOTHING`, r.id, segment)
	return segment, err
}

// newestSegment returns the segment being filled, or the next one if that is full. Two processes
// may fill the same segment, or different ones; both are fine.
func (c *cache) newestSegment(tx *Tx) (int64, error) {
	switch {
	case c.segment == 0:
		err := tx.get(`SELECT coalesce(max(segment), 0) + 1 FROM steps`, nil, &c.segment)
		if err != nil {
			return 0, err
		}
	case c.segmentSteps == segmentSteps:
		c.segment, c.segmentSteps = c.segment+1, 0
	}
	c.segmentSteps++
	return c.segment, nil
}

// segmentFinder finds the segment of a run's step. A step never moves.
type segmentFinder func(tx *Tx, runID int64, step uuid.UUID) (segment int64, err error)

// searchedSegments is how many of a run's newest segments the writer searches
// for a step: most steps are reported soon. A reader searches the others, which
// delays nobody.
const searchedSegments = 16

// errNotInNewest says that a step is in none of a run's newest segments.
var errNotInNewest = errors.New("the step is in no segment that was looked into")

// findInNewestSegments searches the newest segments only.
func findInNewestSegments(tx *Tx, runID int64, step uuid.UUID) (int64, error) {
	segment, err := findAmongSegments(tx, searchedSegments, runID, step)
	if errors.Is(err, ErrNotFound) {
		err = errNotInNewest
	}
	return segment, err
}

// findSegment searches all of a run's segments.
func findSegment(tx *Tx, runID int64, step uuid.UUID) (int64, error) {
	return findAmongSegments(tx, math.MaxInt64, runID, step)
}

// findAmongSegments looks for a step in the newest of the run's segments, up to a number of them:
// reports nearly always are about a recent step.
func findAmongSegments(tx *Tx, newest, runID int64, step uuid.UUID) (segment int64, err error) {
	err = tx.get(`SELECT s.segment FROM (SELECT segment FROM run_segments WHERE run_id = $1 ORDER BY segment DESC LIMIT $3) l
		JOIN steps s ON s.segment = l.segment AND s.run_id = $1 AND s.uuid = $2`, []any{runID, step[:], newest}, &segment)
	return segment, err
}

// Step is what was asked, decided and used in one action of a run.
type Step struct {
	ID uuid.UUID
	// Steps are listed by sequence, then by id.
	Sequence              int64
	Type                  StepType
	Status                StepStatus
	Model, ToolName       *string
	InputData, OutputData []byte // JSON, or nil
	Error                 *string
	// The decision as it was given, with what was compared.
	Decision guard.Decision
	// As booked: less than was reported if Capped.
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
	Review                         *StepReview // nil when no person was asked
	Grants                         []StepGrant // that have let it pass without asking a person
}

// StepReview is what of a step's review is shown with it.
type StepReview struct {
	ID         uuid.UUID
	PolicyName string
	Resolution Resolution
	DecidedBy  string    // "" where nobody did
	DecidedAt  time.Time // zero while pending
	ExpiresAt  time.Time
	Note       *string
}

// StepGrant is what of a grant is shown with a step that it has let pass.
type StepGrant struct {
	ID         uuid.UUID
	PolicyName string // that would have asked a person
	GrantedBy  string
}

const (
	// MaxSteps is how many steps come with a run at most.
	MaxSteps = 500
	// stepsPageBytes ends a page before the step that would carry it beyond, so that large inputs
	// and outputs do not add up in memory. A step that is larger by itself is a page of its own.
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
func readSteps(tx *Tx, ws WorkspaceKey, runID int64, run RunStatus, after string, limit int) (steps []Step, next string, err error) {
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
	var texts []payloadPlace
	err = tx.each(`SELECT sequence, uuid, segment, input_payload, report_payload FROM run_steps WHERE run_id = $1 AND (sequence, uuid) > ($2, $3)
		ORDER BY sequence, uuid LIMIT $4`, []any{runID, from.sequence, from.id[:], limit + 1}, func(rows scanner) error {
		var p place
		var input, report payloadPlace
		err := rows.Scan(&p.sequence, &p.id, &p.segment, &input, &report)
		places, texts = append(places, p), append(texts, input, report)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	tx.expectPayloads(ws, 2*min(limit, len(places)), func(i int) payloadPlace { return texts[i] })
	size, last, said := 0, from, make([]string, 0, limit)
	for i, p := range places {
		if i == limit {
			next = stepCursor(runID, last)
			break
		}
		row, err := readStepTexts(tx, ws, p.segment, runID, p.id)
		if err != nil {
			return nil, "", err
		}
		s := row.shown(run)
		if size += s.size(); size > stepsPageBytes && i > 0 {
			next = stepCursor(runID, last)
			break
		}
		steps, said, last = append(steps, s), append(said, row.said.String), p.stepKey
	}
	return steps, next, addPolicies(tx, runID, steps, said)
}

// size is about how many bytes of JSON a step takes, and never fewer.
func (s Step) size() int {
	const overhead = 4096 // names of 255 characters, each escaped, and what else a step has
	n := overhead + len(s.InputData) + len(s.OutputData) + len(s.UsageData)
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

// sequenceSize is the length of a sequence number in a cursor.
const sequenceSize = 8

// stepCursor encodes a step's place in its run.
func stepCursor(runID int64, k stepKey) string {
	return cursor(listSteps, runID, append(binary.BigEndian.AppendUint64(nil, uint64(k.sequence)), k.id[:]...))
}

// parseStepKey decodes a cursor of stepCursor.
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
	said    sql.NullString // what policies said of it, as package outcomes writes it
	stepProgress
}

// stepProgress is what updates change, apart from texts and payloads.
type stepProgress struct {
	model       sql.NullInt64
	status      StepStatus
	completedAt sql.NullInt64
	duration    sql.NullInt64
	bookedDay   sql.NullInt64 // null until usage was reported
	localDay    sql.NullInt64 // the date then in the workspace's zone, where dates are counted
	used        usage
	payloads    payloadsOf
}

// readStepTexts is readStep with the step's texts.
func readStepTexts(tx *Tx, ws WorkspaceKey, segment, runID int64, id uuid.UUID) (stepRow, error) {
	row, err := readStep(tx, segment, runID, id)
	if err == nil {
		err = row.payloads.read(tx, ws, &row.Step)
	}
	return row, err
}

// readStep reads everything about one step but the texts that are in blocks: those that an
// older version has stored are read. The columns and the destinations of the scan are in the
// same order, table by table: steps (s), models (m), step_payloads (p), denials (d), repairs (x),
// capped_steps (c), price_points (pp) and step_usage (y).
func readStep(tx *Tx, segment, runID int64, id uuid.UUID) (stepRow, error) {
	s := stepRow{segment: segment}
	var input, output sql.NullString
	var reason, limit, used, resets, prompt, completion, reportedPrompt, reportedCompletion sql.NullInt64
	var created int64
	var entry, version, reportedUsage sql.NullString
	kinds, at := &s.used.parts, &s.used.partPrices
	err := tx.get(`SELECT s.uuid, s.sequence, s.type, s.status, s.model_id, m.name, s.tool_name, p.input_data, p.output_data, p.error,
			d.reason, d.limit_value, d.used_value, d.resets_at,
			s.prompt_tokens, s.completion_tokens, s.cost_nanos, s.input_picos, s.output_picos, s.booked_day, s.local_day,
			s.created_at, s.completed_at, s.duration_ms, coalesce(x.fields, 0), c.prompt_tokens, c.completion_tokens,
			coalesce(pp.id, 0), coalesce(pp.source, 0), pp.name, pp.version, p.usage_data,
			coalesce(y.cached_tokens, 0), coalesce(y.cache_write_tokens, 0), coalesce(y.cache_write_1h_tokens, 0),
			coalesce(y.reasoning_tokens, 0), coalesce(y.service_tier, 0), y.reported_nanos, coalesce(y.cached_picos, 0),
			coalesce(y.cache_write_picos, 0), coalesce(y.cache_write_1h_picos, 0), coalesce(y.reasoning_picos, 0),
			s.input_payload, s.report_payload, s.policies
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
		&prompt, &completion, &s.used.cost, &s.used.inputPrice, &s.used.outputPrice, &s.bookedDay, &s.localDay,
		&created, &s.completedAt, &s.duration, &s.Repairs, &reportedPrompt, &reportedCompletion,
		&s.used.point, &s.Price.Source, &entry, &version, &reportedUsage,
		&kinds.cached, &kinds.cacheWrite, &kinds.cacheWrite1h, &kinds.reasoning, &kinds.tier, &kinds.reportedCost,
		&at.cached, &at.cacheWrite, &at.cacheWrite1h, &at.reasoning, &s.payloads.input, &s.payloads.report, &s.said)
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
	if err == nil {
		err = readPolicy(tx, runID, id[:], &s.Decision)
	}
	s.Decision.Review = s.status == StepWaiting
	s.CreatedAt = time.UnixMilli(created).UTC()
	s.used.booked = tokens{prompt.Int64, completion.Int64}
	s.used.reported = s.used.booked
	if reportedPrompt.Valid {
		s.used.reported, s.used.costCapped = tokens{reportedPrompt.Int64, reportedCompletion.Int64}, true
	}
	return s, err
}

// shown returns the step as callers see it. A step that was open when its run ended is shown as
// ABANDONED. That is not stored, so ending a run costs the same however many steps it has.
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

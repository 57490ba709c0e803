package storage

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"errors"
	"math"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// StepOutline is a step without its payloads: what a drawing of a run of
// thousands needs.
type StepOutline struct {
	ID                             uuid.UUID
	Sequence                       int64
	Type                           StepType
	Status                         StepStatus
	Model, ToolName                string // "" for none
	CreatedAt                      time.Time
	Duration                       *int64 // milliseconds: as reported, else until its report; nil without either
	PromptTokens, CompletionTokens int64
	Cost                           *plans.Money
	Reason                         guard.Reason // of its denial
	// Input is equal for equal inputs, and "" where none was sent.
	Input string

	payload payloadPlace // of its input
}

const (
	// MaxOutline is how many steps an outline holds at most.
	MaxOutline = 5000
	// outlinePageBytes ends an outline once so much input was read for it.
	outlinePageBytes = 64 << 20
)

// Outline lists so many of a run's steps in the callers' order, MaxOutline at most, and the cursor
// of the next page. Inputs are read one by one, so that sorting never carries them.
func (s *Store) Outline(ctx context.Context, ws WorkspaceKey, run uuid.UUID, after string, limit int) (steps []StepOutline, next string, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		runID, status, err := findRun(tx, ws, run)
		if err != nil {
			return err
		}
		from := stepKey{sequence: math.MinInt64}
		if after != "" {
			if from, err = parseStepKey(runID, after); err != nil {
				return err
			}
		}
		if steps, err = outlineAfter(tx, runID, status, from, limit); err != nil {
			return err
		}
		tx.expectPayloads(ws, min(limit, len(steps)), func(i int) payloadPlace { return steps[i].payload })
		read := 0
		for i := range steps {
			if i == limit || read > outlinePageBytes {
				last := steps[i-1]
				next, steps = stepCursor(runID, stepKey{last.Sequence, last.ID}), steps[:i]
				return nil
			}
			n, err := steps[i].readInput(tx, ws, runID)
			if err != nil {
				return err
			}
			read += n
		}
		return nil
	})
	return steps, next, err
}

// outlineAfter reads one step more than asked for, which tells whether there are more.
func outlineAfter(tx *Tx, runID int64, run RunStatus, from stepKey, limit int) (steps []StepOutline, err error) {
	err = tx.each(`SELECT s.uuid, s.sequence, s.type, s.status, m.name, s.tool_name, s.created_at, s.completed_at, s.duration_ms,
			s.prompt_tokens, s.completion_tokens, s.cost_nanos, d.reason, s.input_payload
		FROM (SELECT * FROM run_steps WHERE run_id = $1 AND (sequence, uuid) > ($2, $3) ORDER BY sequence, uuid LIMIT $4) s
		LEFT JOIN models m ON m.id = s.model_id
		LEFT JOIN denials d ON d.run_id = s.run_id AND d.step_uuid = s.uuid ORDER BY s.sequence, s.uuid`,
		[]any{runID, from.sequence, from.id[:], limit + 1}, func(rows scanner) error {
			var o StepOutline
			var model, tool sql.NullString
			var created int64
			var completed, duration, prompt, completion, cost, reason sql.NullInt64
			err := rows.Scan(&o.ID, &o.Sequence, &o.Type, &o.Status, &model, &tool, &created, &completed, &duration,
				&prompt, &completion, &cost, &reason, &o.payload)
			// Steps of a run that has ended are abandoned without a write to each of them.
			if o.Status == StepRunning && run != RunRunning {
				o.Status = StepAbandoned
			}
			o.Model, o.ToolName = modelShown(o.Type, model.String, tool.String), tool.String
			o.CreatedAt, o.Reason = time.UnixMilli(created).UTC(), guard.Reason(reason.Int64)
			if o.Duration = int64Ptr[int64](duration); o.Duration == nil && completed.Valid {
				o.Duration = new(max(0, completed.Int64-created))
			}
			o.PromptTokens, o.CompletionTokens = prompt.Int64, completion.Int64
			o.Cost = int64Ptr[plans.Money](cost)
			steps = append(steps, o)
			return err
		})
	return steps, err
}

// modelShown is the model that a caller named: the entry that prices a tool is none.
func modelShown(kind StepType, model, tool string) string {
	if kind == ToolCall && model == toolPrefix+tool {
		return ""
	}
	return model
}

// readInput fills in what tells equal inputs, and returns how much was read for it.
func (o *StepOutline) readInput(tx *Tx, ws WorkspaceKey, runID int64) (int, error) {
	var old sql.NullString
	// Inputs are in blocks; those of older versions lie in step_payloads.
	texts, err := tx.payload(ws, o.payload)
	if err == nil && !o.payload.Valid {
		err = tx.get(`SELECT input_data FROM step_payloads WHERE run_id = $1 AND step_uuid = $2`, []any{runID, o.ID[:]}, &old)
		texts.Input = jsonOf(old)
	}
	if err != nil || texts.Input == nil {
		return 0, ignoreNotFound(err)
	}
	// Eight bytes of the hash: among 5,000 steps two different inputs hardly ever look the
	// same.
	const enough = 8
	sum := sha256.Sum256(texts.Input)
	o.Input = base64.RawURLEncoding.EncodeToString(sum[:enough])
	return len(texts.Input), nil
}

// findRun returns a run's internal id and status: ErrNotFound if it belongs to another workspace.
func findRun(tx *Tx, ws WorkspaceKey, run uuid.UUID) (id int64, status RunStatus, err error) {
	err = tx.get(`SELECT id, status FROM runs WHERE workspace_id = $1 AND uuid = $2`, []any{ws, run[:]}, &id, &status)
	return id, status, err
}

// StepTexts are what went in and came out of a step, as it was sent.
type StepTexts struct {
	ID            uuid.UUID
	Input, Output []byte // JSON, or nil
	Error         string
}

// StepTexts reads the texts of some steps of a run. Steps without any, and ids
// that are no step's, are left out.
func (s *Store) StepTexts(ctx context.Context, ws WorkspaceKey, run uuid.UUID, ids []uuid.UUID) (texts []StepTexts, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		runID, _, err := findRun(tx, ws, run)
		if err != nil {
			return err
		}
		var found []storedTexts
		var places []payloadPlace
		for _, id := range ids {
			t, err := findTexts(tx, runID, id)
			if errors.Is(err, ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			found, places = append(found, t), append(places, t.places.input, t.places.report)
		}
		tx.expectPayloads(ws, len(places), func(i int) payloadPlace { return places[i] })
		for _, t := range found {
			if err := t.places.read(tx, ws, &t.step); err != nil {
				return err
			}
			if t.any() {
				texts = append(texts, t.shown())
			}
		}
		return nil
	})
	return texts, err
}

// storedTexts is where the texts of a step are, and those of them that an older version has stored.
type storedTexts struct {
	step   Step
	places payloadsOf
}

// findTexts returns ErrNotFound for what is no step of the run.
func findTexts(tx *Tx, runID int64, id uuid.UUID) (t storedTexts, err error) {
	t.step.ID = id
	var input, output sql.NullString
	err = tx.get(`SELECT s.input_payload, s.report_payload, p.input_data, p.output_data, p.error FROM run_steps s
		LEFT JOIN step_payloads p ON p.run_id = s.run_id AND p.step_uuid = s.uuid WHERE s.run_id = $1 AND s.uuid = $2`,
		[]any{runID, id[:]}, &t.places.input, &t.places.report, &input, &output, &t.step.Error)
	t.step.InputData, t.step.OutputData = jsonOf(input), jsonOf(output)
	return t, err
}

// any reports whether something was said, be it an empty error.
func (t storedTexts) any() bool {
	s := t.step
	return s.InputData != nil || s.OutputData != nil || s.Error != nil || t.places.report.Valid
}

func (t storedTexts) shown() StepTexts {
	out := StepTexts{ID: t.step.ID, Input: t.step.InputData, Output: t.step.OutputData}
	if t.step.Error != nil {
		out.Error = *t.step.Error
	}
	return out
}

// Step reads one step of a run.
func (s *Store) Step(ctx context.Context, ws WorkspaceKey, run, id uuid.UUID) (step Step, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		runID, status, err := findRun(tx, ws, run)
		if err != nil {
			return err
		}
		var segment int64
		if err := tx.get(`SELECT segment FROM run_steps WHERE run_id = $1 AND uuid = $2`, []any{runID, id[:]}, &segment); err != nil {
			return err
		}
		row, err := readStepTexts(tx, ws, segment, runID, id)
		if err != nil {
			return err
		}
		one := []Step{row.shown(status)}
		err = addPolicies(tx, runID, one, []string{row.said.String})
		step = one[0]
		return err
	})
	return step, err
}

// Breakdown is what a run's steps add up to, by model and by tool.
type Breakdown struct {
	Parts []RunPart // most expensive first, then those called most; at most maxParts
	Other RunPart   // the rest together
	// The first step that was denied, the first that failed, and the most expensive; nil for none.
	FirstDenied, FirstFailed, Dearest *uuid.UUID
}

// RunPart is what a model or a tool has in a run. Steps that name neither have their type alone.
type RunPart struct {
	Type                           StepType
	Model, ToolName                string
	Steps, Failed, Denied          int64
	PromptTokens, CompletionTokens int64
	Cost                           plans.Money
	UnpricedTokens                 int64
}

// maxParts is how many parts a breakdown tells apart: a run may name as many tools as it has steps.
const maxParts = 100

// Breakdown adds up a run's steps. The costs of all parts are the run's own, to the nano-dollar.
func (s *Store) Breakdown(ctx context.Context, ws WorkspaceKey, run uuid.UUID) (b Breakdown, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		runID, _, err := findRun(tx, ws, run)
		if err != nil {
			return err
		}
		if b.Parts, b.Other, err = runParts(tx, runID); err != nil {
			return err
		}
		all := b.Other
		for _, p := range b.Parts {
			all.add(p)
		}
		const first = `SELECT uuid FROM run_steps WHERE run_id = $1 AND status = $2 ORDER BY sequence, uuid LIMIT 1`
		const dearest = `SELECT uuid FROM run_steps WHERE run_id = $1 AND cost_nanos > $2 ORDER BY cost_nanos DESC, sequence, uuid LIMIT 1`
		// Only where the sums say that there is one: else the query would read all steps for
		// nothing.
		find := func(there bool, query string, value int64, into **uuid.UUID) error {
			if !there {
				return nil
			}
			*into = new(uuid.UUID)
			return tx.get(query, []any{runID, value}, *into)
		}
		return errors.Join(
			find(all.Denied > 0, first, int64(StepBlocked), &b.FirstDenied),
			find(all.Failed > 0, first, int64(StepFailed), &b.FirstFailed),
			find(all.Cost > 0, dearest, 0, &b.Dearest))
	})
	return b, err
}

// runParts sums up a run's steps by type, model and tool, the most expensive first. All but the
// largest parts are added up as other.
func runParts(tx *Tx, runID int64) (parts []RunPart, other RunPart, err error) {
	err = tx.each(`SELECT s.type, m.name, s.tool_name, s.steps, s.failed, s.denied, s.prompt, s.completion, s.cost, s.unpriced
		FROM (SELECT type, model_id, tool_name, count(*) AS steps,
				sum(CASE WHEN status = $2 THEN 1 ELSE 0 END) AS failed, sum(CASE WHEN status = $3 THEN 1 ELSE 0 END) AS denied,
				coalesce(sum(prompt_tokens), 0) AS prompt, coalesce(sum(completion_tokens), 0) AS completion,
				coalesce(sum(cost_nanos), 0) AS cost,
				coalesce(sum(CASE WHEN cost_nanos IS NULL THEN prompt_tokens + completion_tokens END), 0) AS unpriced
			FROM run_steps WHERE run_id = $1 GROUP BY type, model_id, tool_name) s
		LEFT JOIN models m ON m.id = s.model_id ORDER BY s.cost DESC, s.steps DESC, s.type, m.name, s.tool_name`,
		[]any{runID, int64(StepFailed), int64(StepBlocked)}, func(rows scanner) error {
			var p RunPart
			var model, tool sql.NullString
			err := rows.Scan(&p.Type, &model, &tool, &p.Steps, &p.Failed, &p.Denied,
				&p.PromptTokens, &p.CompletionTokens, &p.Cost, &p.UnpricedTokens)
			p.Model, p.ToolName = modelShown(p.Type, model.String, tool.String), tool.String
			if at := partLike(parts, p); at >= 0 {
				parts[at].add(p)
			} else if len(parts) < maxParts {
				parts = append(parts, p)
			} else {
				other.add(p)
			}
			return err
		})
	return parts, other, err
}

// partLike finds the part of the same name: the steps of a tool without a price
// have no entry, and those after it was priced have one.
func partLike(parts []RunPart, p RunPart) int {
	for i, q := range parts {
		if q.Type == p.Type && q.Model == p.Model && q.ToolName == p.ToolName {
			return i
		}
	}
	return -1
}

// add adds up two parts.
func (p *RunPart) add(q RunPart) {
	p.Steps, p.Failed, p.Denied = p.Steps+q.Steps, p.Failed+q.Failed, p.Denied+q.Denied
	p.PromptTokens, p.CompletionTokens = p.PromptTokens+q.PromptTokens, p.CompletionTokens+q.CompletionTokens
	p.Cost, p.UnpricedTokens = p.Cost+q.Cost, p.UnpricedTokens+q.UnpricedTokens
}

// Neighbours are the runs that started just after a run and just before it; nil at the ends.
type Neighbours struct{ Newer, Older *uuid.UUID }

// Neighbours finds the runs beside a run in the list of all.
func (s *Store) Neighbours(ctx context.Context, ws WorkspaceKey, run uuid.UUID) (n Neighbours, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		if _, _, err := findRun(tx, ws, run); err != nil {
			return err
		}
		const newer = `SELECT uuid FROM runs WHERE workspace_id = $1 AND uuid > $2 ORDER BY uuid LIMIT 1`
		// The same in the other direction. Ids of runs are in the order of their starts.
		older := strings.NewReplacer("uuid >", "uuid <", "ORDER BY uuid", "ORDER BY uuid DESC").Replace(newer)
		var err error
		if n.Newer, err = oneID(tx, newer, ws, run); err != nil {
			return err
		}
		n.Older, err = oneID(tx, older, ws, run)
		return err
	})
	return n, err
}

// oneID reads an id; nil when there is none.
func oneID(tx *Tx, query string, ws WorkspaceKey, run uuid.UUID) (*uuid.UUID, error) {
	var id uuid.UUID
	err := tx.get(query, []any{ws, run[:]}, &id)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	return &id, err
}

// UserReport is what a user's runs used: by day from the rollups, and by model,
// tool and tag from the runs that started in the period.
type UserReport struct {
	User
	Usage UsagePart // what by user is kept
	All   UsagePart // the whole workspace's
	Runs  RunsOfUser
	// Policies are those that name the user, or that count by user; Use is the user's own.
	Policies []StoredPolicy
}

// RunsOfUser are the runs of a user that started in a period: the latest, if
// there are more than maxRunsOfUser.
type RunsOfUser struct {
	Runs, Blocked, Denied int64
	Spend                 plans.Money
	More                  bool
	Parts                 []RunPart // most expensive first; at most maxParts
	Tags                  []TagPart // most expensive first; at most maxParts
}

// TagPart is what the runs with a tag are of RunsOfUser.
type TagPart struct {
	Tag
	Runs  int64
	Spend plans.Money
}

// maxRunsOfUser is how many runs of a user are added up at once.
const maxRunsOfUser = 2000

// UsageOfUser reads what a user used. ErrNotFound for a user never seen.
func (s *Store) UsageOfUser(ctx context.Context, ws WorkspaceKey, user string, in UsageQuery) (r UserReport, err error) {
	before, from, err := idBounds(listRuns, ws, in.From, in.To, "")
	if err != nil {
		return r, err
	}
	err = s.read(ctx, func(tx *Tx) error {
		id, err := loadUserID(tx, nameKey{ws, user})
		if err != nil {
			return err
		}
		if r.User, err = readUser(tx, ws, id.id); err != nil {
			return err
		}
		u, err := newUsageBy(tx, ws, in)
		if err != nil {
			return err
		}
		if r.All, err = u.all(); err != nil {
			return err
		}
		source, err := usageSourceOf(ByUser)
		if err != nil {
			return err
		}
		r.Usage = u.newPart(user)
		err = u.eachDay(source, []any{id.id}, func(_ any, isBefore bool, day int64, sums UsageSums) {
			u.place(&r.Usage, isBefore, day, sums)
		})
		if err != nil {
			return err
		}
		if r.Policies, err = policiesOfUser(tx, ws, user, id.id); err != nil {
			return err
		}
		r.Runs, err = runsOfUser(tx, []any{ws, id.id, before[:], from[:], maxRunsOfUser})
		return err
	})
	return r, err
}

// theRuns are those of a user that started in a period.
const theRuns = `(SELECT id, status, deny_reason, spend_nanos FROM runs
	WHERE workspace_id = $1 AND user_id = $2 AND uuid < $3 AND uuid >= $4 ORDER BY uuid DESC LIMIT $5) r`

// runsOfUser sums up a user's latest runs, at most maxRunsOfUser; More tells that there are others.
func runsOfUser(tx *Tx, args []any) (all RunsOfUser, err error) {
	err = tx.get(`SELECT count(*), coalesce(sum(CASE WHEN status = 4 THEN 1 ELSE 0 END), 0),
			coalesce(sum(CASE WHEN deny_reason IS NOT NULL THEN 1 ELSE 0 END), 0), coalesce(sum(spend_nanos), 0)
		FROM `+theRuns, args, &all.Runs, &all.Blocked, &all.Denied, &all.Spend)
	if err != nil {
		return all, err
	}
	all.More = all.Runs == maxRunsOfUser
	err = tx.each(`SELECT s.type, m.name, s.tool_name, s.steps, s.prompt, s.completion, s.cost, s.unpriced
		FROM (SELECT s.type, s.model_id, s.tool_name, count(*) AS steps, coalesce(sum(s.prompt_tokens), 0) AS prompt,
				coalesce(sum(s.completion_tokens), 0) AS completion, coalesce(sum(s.cost_nanos), 0) AS cost,
				coalesce(sum(CASE WHEN s.cost_nanos IS NULL THEN s.prompt_tokens + s.completion_tokens END), 0) AS unpriced
			FROM `+theRuns+` JOIN run_steps s ON s.run_id = r.id GROUP BY s.type, s.model_id, s.tool_name) s
		LEFT JOIN models m ON m.id = s.model_id ORDER BY s.cost DESC, s.steps DESC, s.type, m.name, s.tool_name`, args, func(rows scanner) error {
		var p RunPart
		var model, tool sql.NullString
		err := rows.Scan(&p.Type, &model, &tool, &p.Steps, &p.PromptTokens, &p.CompletionTokens, &p.Cost, &p.UnpricedTokens)
		p.Model, p.ToolName = modelShown(p.Type, model.String, tool.String), tool.String
		if at := partLike(all.Parts, p); at >= 0 {
			all.Parts[at].add(p)
		} else if len(all.Parts) < maxParts {
			all.Parts = append(all.Parts, p)
		}
		return err
	})
	if err != nil {
		return all, err
	}
	err = tx.each(`SELECT t.key, t.value, count(*) AS runs, sum(r.spend_nanos) AS spend FROM `+theRuns+`
		JOIN run_tags t ON t.run_id = r.id GROUP BY t.key, t.value ORDER BY spend DESC, runs DESC, t.key, t.value LIMIT $6`,
		append(args, maxParts), func(rows scanner) error {
			var t TagPart
			err := rows.Scan(&t.Key, &t.Value, &t.Runs, &t.Spend)
			all.Tags = append(all.Tags, t)
			return err
		})
	return all, err
}

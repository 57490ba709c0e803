package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/storage/outcomes"
	"github.com/pikarc/server/storage/payload"
)

// StepUpdate is what an agent reports of a step; nil and 0 keep what is there.
type StepUpdate struct {
	// Zero values and nil leave the field as it is.
	Status           StepStatus
	DurationMillis   *int64
	PromptTokens     *int64 // absolute, so that repeating changes nothing
	CompletionTokens *int64
	// Parts of the two, absolute as well; see Parts.
	CachedTokens, CacheWriteTokens, CacheWrite1hTokens, ReasoningTokens *int64

	ServiceTier  ServiceTier  // 0 when not said
	ReportedCost *plans.Money // what the provider says that it cost
	Model        *string      // that really answered; taken while nothing is booked
	OutputData   []byte       // JSON, or nil
	UsageData    []byte       // JSON: the provider's usage, where not all of it could be read
	Error        *string
	// Repairs names the fields that the server has already changed.
	Repairs Repairs

	packed []byte // the texts, compressed, where they are large
}

// hasUsage reports whether the update says anything of what the step has used. It decides whether
// the step is booked on a day.
func (in StepUpdate) hasUsage() bool {
	return in.PromptTokens != nil || in.CompletionTokens != nil || in.CachedTokens != nil || in.CacheWriteTokens != nil ||
		in.CacheWrite1hTokens != nil || in.ReasoningTokens != nil || in.ServiceTier != 0 || in.ReportedCost != nil
}

// StepUpdated is a step after an update, with what changed for metrics and the answer.
type StepUpdated struct {
	Step
	// Repaired names fields not kept as sent: a model named after usage was booked, or a count
	// below the sum of its parts.
	Repaired       Repairs
	NewlyUnpriced  bool  // usage without a known price, for the first time
	UnpricedTokens int64 // tokens without a known price that this update added
	WithoutUsage   bool  // became a completed model call without reported usage
	NewlyCapped    bool  // the day or run was full, so only part was booked, for the first time
}

// UpdateStep records how a step ended and books its usage on the day first
// reported; a correction books the difference there, and so does a price that
// was not known before. Usage counts also after the run has ended. What the
// day or the run is too full for is not booked, and the step is marked as
// capped. ErrStepBlocked when the step was denied.
func (s *Store) UpdateStep(
	ctx context.Context, c Caller, run, step uuid.UUID, in StepUpdate,
) (out StepUpdated, err error) {
	in.packed = s.packLarge(in.texts())
	update := func(find segmentFinder) error {
		return s.writeCall(ctx, knownCall{Caller: c, run: run}, func(tx *Tx) (err error) {
			out, err = updateStep(tx, c, run, step, find, in)
			return err
		})
	}
	var runID, segment int64
	err = update(func(tx *Tx, id int64, step uuid.UUID) (int64, error) {
		runID = id
		return findInNewestSegments(tx, id, step)
	})
	if !errors.Is(err, errNotInNewest) {
		return out, err
	}
	err = s.read(ctx, func(tx *Tx) (err error) {
		segment, err = findSegment(tx, runID, step)
		return err
	})
	if err != nil {
		return StepUpdated{}, err
	}
	err = update(func(*Tx, int64, uuid.UUID) (int64, error) { return segment, nil })
	return out, err
}

// updateStep does UpdateStep's work within the writer's transaction. The order matters: first
// everything that can fail, which is all SQL; then the cached counters change, from closing.apply
// on. A job that fails before that is rolled back and leaves nothing in the cache.
func updateStep(
	tx *Tx, c Caller, run, step uuid.UUID, find segmentFinder, in StepUpdate,
) (out StepUpdated, err error) {
	ws, r, err := authorizeReport(tx, c, run)
	if err != nil {
		return out, err
	}
	row, err := r.step(tx, ws.key, step, find)
	if err != nil {
		return out, err
	}
	if r.erased {
		in.OutputData, in.UsageData, in.Error, in.packed = nil, nil, nil, nil
	}
	// What the step contributed before the update is in the counters already: only the difference
	// is booked.
	was, counted, model := row.stepProgress, row.counted(), row.Model
	var closing reviewsClosing
	if row.status == StepBlocked || row.status == StepWaiting {
		if closing, err = row.reportUnapproved(tx, ws, r, c); err != nil {
			return out, err
		}
	}
	if out.Repaired, err = row.applyUpdate(tx, ws, r, in); err != nil {
		return out, err
	}
	posts, err := row.counted().since(tx, counted, ws.key, r)
	if err != nil {
		return out, err
	}
	limits, err := row.limitPostingsSince(tx, ws, was.used, row.used)
	if err != nil {
		return out, err
	}
	if err := row.saveReport(tx, ws, in); err != nil {
		return out, err
	}
	if row.stepProgress != was {
		if err := saveStep(tx, r.id, row, was.used); err != nil {
			return out, err
		}
	}
	if err := saveRepairs(tx, r.id, row.ID[:], in.Repairs|out.Repaired); err != nil {
		return out, err
	}
	// Run search finds runs by error text and by model. Terms are added by a job, since adding them
	// here would touch pages that a report otherwise does not.
	if in.Error != nil || row.Model != model && !slices.Contains(r.answered, row.model.Int64) {
		if err := markUnindexed(tx, r.id, row.ID); err != nil {
			return out, err
		}
	}
	if err := tx.notifyUpdate(ws, r, row, posts); err != nil {
		return out, err
	}
	recordUpdateChanges(tx, ws.key, r.id, row, row.stepProgress != was || in.OutputData != nil || in.UsageData != nil || in.Error != nil, posts)
	closing.apply(tx)
	posts.book(tx)
	limits.book(tx)
	if row.Model != model {
		r.rememberAnswer(row.model.Int64)
	}
	r.evictStep(step)
	r.touch(tx)
	out.Step = row.shown(r.status)
	out.setChanges(counted, row.counted(), row.used.capped() && !was.used.capped())
	return out, nil
}

// setChanges sets what the update changed, from the step's contribution to the counters before
// and after.
func (u *StepUpdated) setChanges(was, now contribution, capped bool) {
	u.NewlyUnpriced = now.used.unpricedSteps > was.used.unpricedSteps
	u.UnpricedTokens = max(0, now.used.unpricedTokens-was.used.unpricedTokens)
	u.WithoutUsage = now.withoutUsage && !was.withoutUsage
	u.NewlyCapped = capped
}

// recordUpdateChanges publishes what an update changed. Usage without a price is published once a
// day for each model, a full day once. Call it before the counters move.
func recordUpdateChanges(tx *Tx, ws WorkspaceKey, runID int64, row stepRow, progressed bool, posts postings) {
	if progressed {
		tx.recordChange(Change{Workspace: ws, Kind: RunProgressed, Run: runID})
	}
	if posts.firstUnpriced() {
		c := Change{Workspace: ws, Kind: ModelUnpriced, Run: runID, Step: row.ID}
		if row.Model != nil {
			c.Model = *row.Model
		}
		tx.recordChange(c)
	}
	if row.used.capped() && posts.firstCapped() {
		tx.recordChange(Change{Workspace: ws, Kind: SpendCapped, Run: runID, Step: row.ID})
	}
}

// applyUpdate applies an update to the step, and returns the fields that it could not keep as sent.
func (row *stepRow) applyUpdate(tx *Tx, ws *cachedWorkspace, r *cachedRun, in StepUpdate) (repaired Repairs, err error) {
	if repaired, err = row.changeModel(tx, ws.key, in.Model); err != nil {
		return 0, err
	}
	uses := in.hasUsage() || row.bookedDay.Valid && !row.used.inputPrice.Valid
	if !uses && in.Status == StepCompleted && !row.bookedDay.Valid {
		if uses, err = row.costsByCall(tx, ws); err != nil {
			return 0, err
		}
	}
	if uses {
		raised, err := row.applyUsage(tx, ws, r, in)
		if err != nil {
			return 0, err
		}
		repaired |= raised
	}
	if in.Status != 0 {
		row.status = in.Status
		if !row.completedAt.Valid {
			row.completedAt = sql.NullInt64{Int64: tx.now.UnixMilli(), Valid: true}
		}
	}
	if in.DurationMillis != nil {
		row.duration = nullInt(in.DurationMillis)
	}
	return repaired, nil
}

// changeModel changes the step's model while nothing is booked under it, and clears its price.
func (row *stepRow) changeModel(tx *Tx, ws WorkspaceKey, model *string) (ignored Repairs, err error) {
	if model == nil || row.Model != nil && *row.Model == *model {
		return 0, nil
	}
	if row.used.tokens() > 0 || row.used.cost.Int64 > 0 {
		return RepairOf("model"), nil
	}
	id, err := internModel(tx, ws, model)
	if err != nil {
		return 0, err
	}
	row.Model, row.model = model, nullZero(id)
	row.clearPrice()
	return 0, nil
}

// clearPrice clears the step's price, so that it is looked up again.
func (row *stepRow) clearPrice() {
	row.used.inputPrice, row.used.outputPrice, row.used.cost = sql.NullInt64{}, sql.NullInt64{}, sql.NullInt64{}
	row.used.point, row.Price, row.used.partPrices = 0, PriceOrigin{}, partPrices{}
}

// unpriced reports whether usage is booked for which no price was known.
func (row *stepRow) unpriced() bool { return row.bookedDay.Valid && !row.used.cost.Valid }

// applyUsage applies the usage in an update. The step gets its model's price when usage is first
// reported, or later as soon as there is one, or when the service tier changes. Without a price,
// the cost is the one that the provider reports, if the workspace trusts it. raised names counts
// that were raised to the sum of their parts.
func (row *stepRow) applyUsage(tx *Tx, ws *cachedWorkspace, r *cachedRun, in StepUpdate) (raised Repairs, err error) {
	old := row.used
	raised = row.used.applyCounts(in)
	if !row.bookedDay.Valid {
		row.bookedDay = sql.NullInt64{Int64: dayOf(tx.now), Valid: true}
		if row.localDay, err = ws.localDay(tx); err != nil {
			return 0, err
		}
	}
	if err := row.findTool(tx, ws); err != nil {
		return 0, err
	}
	if !row.used.inputPrice.Valid || row.used.parts.tier.rates() != old.parts.tier.rates() {
		if err := row.findPrice(tx, ws.key); err != nil {
			return 0, err
		}
	}
	return raised, row.fit(tx, ws, r, old)
}

// fit books what was reported in place of what is booked already.
func (row *stepRow) fit(tx *Tx, ws *cachedWorkspace, r *cachedRun, old usage) error {
	rates, err := row.chargedRates(tx, ws.key)
	if err != nil {
		return err
	}
	day, err := tx.cache.days.get(tx, dayKey{ws.key, row.bookedDay.Int64})
	if err != nil {
		return err
	}
	if err := row.used.fit(old, day, r, rates); err != nil {
		return err
	}
	// A cost booked as the provider reported it stays, even if the workspace no longer trusts it.
	trusted := ws.trustsReports || row.Price.Source == PriceReported
	if reported := row.used.parts.reportedCost; !row.used.inputPrice.Valid && reported.Valid && trusted && row.model.Valid {
		row.used.fitCost(plans.Money(reported.Int64), old, day, r)
		row.Price = PriceOrigin{Source: PriceReported}
	}
	return nil
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

// saveStep writes the step's columns. What was reported but not booked, because a day or the run is
// full, is kept in capped_steps. The tokens are NULL until usage is reported: a step without usage
// differs from one that used nothing.
func saveStep(tx *Tx, runID int64, row stepRow, was usage) error {
	tokens := func(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: row.bookedDay.Valid} }
	err := tx.queueOne(`UPDATE steps SET status = $3, completed_at = $4, duration_ms = $5, booked_day = $6,
			prompt_tokens = $7, completion_tokens = $8, input_picos = $9, output_picos = $10, cost_nanos = $11, model_id = $13, price_id = $14, local_day = $15,
			report_payload = $16
		WHERE run_id = $1 AND uuid = $2 AND segment = $12`,
		runID, row.ID[:], int64(row.status), row.completedAt, row.duration, row.bookedDay, tokens(row.used.booked.prompt),
		tokens(row.used.booked.completion), row.used.inputPrice, row.used.outputPrice, row.used.cost, row.segment, row.model,
		nullZero(row.used.point), row.localDay, row.payloads.report)
	if err == nil {
		err = row.saveParts(tx, runID, was)
	}
	switch {
	case err != nil:
		return err
	case row.used.capped():
		err = tx.queue(`INSERT INTO capped_steps (run_id, step_uuid, prompt_tokens, completion_tokens) VALUES ($1, $2, $3, $4)
			ON CONFLICT (run_id, step_uuid) DO UPDATE SET
				prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens`,
			runID, row.ID[:], row.used.reported.prompt, row.used.reported.completion)
	case was.capped():
		err = tx.queue(`DELETE FROM capped_steps WHERE run_id = $1 AND step_uuid = $2`, runID, row.ID[:])
	}
	return err
}

// stepLimit is the counter of a limit that a step is counted on.
type stepLimit struct {
	limitKey
	measure policies.Measure
}

// stepLimits lists the counters that a step is counted on, of what its policies have said. Where
// that text is damaged there are none, as verify says: the step itself is booked all the same.
func stepLimits(ws WorkspaceKey, said string) (list []stepLimit) {
	all, err := outcomes.Decode(said)
	if err != nil {
		return nil
	}
	for _, o := range all {
		if o.Measure != 0 {
			key := limitKey{ws: ws, policy: o.Policy, countsFrom: o.CountsFrom, scope: o.Scope, bucket: o.Bucket}
			list = append(list, stepLimit{key, policies.Measure(o.Measure)})
		}
	}
	return list
}

// limitPostings are pending changes of limit counters.
type limitPostings []limitPosting

// limitPosting is a change of one limit's counter.
type limitPosting struct {
	counter *cachedLimit
	n       int64
}

// limitPostingsSince returns the postings that turn the step's usage from was into now in the
// counters of its limits. Rolling counters are not cached and change at once, by SQL.
func (row *stepRow) limitPostingsSince(tx *Tx, ws *cachedWorkspace, was, now usage) (posts limitPostings, err error) {
	spend, used := now.cost.Int64-was.cost.Int64, now.tokens()-was.tokens()
	if ws.policiesVersion == 0 || spend == 0 && used == 0 {
		return nil, nil
	}
	for _, l := range stepLimits(ws.key, row.said.String) {
		n := map[policies.Measure]int64{policies.MeasureUSD: spend, policies.MeasureTokens: used}[l.measure]
		if err := posts.add(tx, ws, l, n); err != nil {
			return nil, err
		}
	}
	return posts, nil
}

// callPostings returns postings of n calls for the limits that count the step's call: -1 gives the
// call back when a review refuses the step, 1 takes it again when the agent executed it anyway.
func callPostings(tx *Tx, ws *cachedWorkspace, said string, n int64) (posts limitPostings, err error) {
	for _, l := range stepLimits(ws.key, said) {
		if err == nil && l.measure == policies.MeasureCalls {
			err = posts.add(tx, ws, l, n)
		}
	}
	return posts, err
}

// add posts to the counter if it is cached; otherwise it changes the stored counter at once.
func (p *limitPostings) add(tx *Tx, ws *cachedWorkspace, l stepLimit, n int64) error {
	if n == 0 {
		return nil
	}
	if err := tx.notifyUsed(ws, l, n); err != nil {
		return err
	}
	if counter, ok := tx.cache.limits.peek(tx, l.limitKey); ok {
		*p = append(*p, limitPosting{counter, n})
		return nil
	}
	if tx.reader {
		return nil // a dry run, which nobody asks for limits
	}
	return addUsage(tx, l.limitKey, n)
}

// book moves the counters.
func (p limitPostings) book(tx *Tx) {
	for _, post := range p {
		post.counter.used += post.n
		tx.cache.markDirty(post.counter)
	}
}

package storage

import (
	"database/sql"
	"errors"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// tokens are those of a step, by their classes.
type tokens struct{ prompt, completion int64 }

// usage is what a step has used, and what of it was booked at which prices.
type usage struct {
	reported    tokens        // by the agent
	booked      tokens        // reported, or less if the day or the run was full
	parts       parts         // of reported
	partPrices  partPrices    // of parts, if the parts have prices of their own
	inputPrice  sql.NullInt64 // pico-USD a token; null if the model had no price
	outputPrice sql.NullInt64
	point       int64         // id in price_points; 0 if the prices are of the model's own entry
	cost        sql.NullInt64 // nano-USD, as booked
	costCapped  bool          // the cost was capped
}

// tokens returns how many tokens are booked.
func (u usage) tokens() int64 { return u.booked.prompt + u.booked.completion }

// capped reports whether less is booked than was used.
func (u usage) capped() bool { return u.costCapped || u.reported != u.booked }

// fit sets what is booked: the reported usage, limited by what is left of the day's and the run's
// maximum (plans.MaxDay), not counting what old has already booked there. The workspace's day
// bounds the days of its users and models; a run may span many days, so it is bounded as well.
// rates is nil if the step has only an input and an output price.
func (u *usage) fit(old usage, day *cachedDay, r *cachedRun, rates *prices.Rates) error {
	u.booked.prompt = min(u.reported.prompt, room(day.prompt, r.promptTokens, old.booked.prompt))
	u.booked.completion = min(u.reported.completion, room(day.completion, r.completionTokens, old.booked.completion))
	u.costCapped, u.cost = false, sql.NullInt64{}
	if !u.inputPrice.Valid {
		return nil
	}
	cost, err := u.price(rates)
	beyond := errors.Is(err, plans.ErrCostOverflow)
	if err != nil && !beyond {
		return err
	}
	if beyond {
		cost = plans.MaxDay
	}
	u.fitCost(cost, old, day, r)
	u.costCapped = u.costCapped || beyond
	return nil
}

// fitCost books as much of a cost as the day and the run have left.
func (u *usage) fitCost(cost plans.Money, old usage, day *cachedDay, r *cachedRun) {
	booked := min(int64(cost), room(day.spend, r.spend, old.cost.Int64))
	u.cost = sql.NullInt64{Int64: booked, Valid: true}
	u.costCapped = booked < int64(cost)
}

// room returns how much more may be booked, if old is replaced.
func room(day, run, old int64) int64 { return plans.MaxDay - max(day, run) + old }

// amounts are what a step adds to the counters.
type amounts struct {
	spend, prompt, completion     int64
	unpricedTokens, unpricedSteps int64
	callsWithoutUsage             int64
}

// minus subtracts field by field; amounts{}.minus(g) takes g back.
func (f amounts) minus(g amounts) amounts {
	return amounts{
		spend: f.spend - g.spend, prompt: f.prompt - g.prompt, completion: f.completion - g.completion,
		unpricedTokens: f.unpricedTokens - g.unpricedTokens, unpricedSteps: f.unpricedSteps - g.unpricedSteps,
		callsWithoutUsage: f.callsWithoutUsage - g.callsWithoutUsage,
	}
}

// contribution is a step's contribution to the counters. A model call that is COMPLETED without
// tokens or cost counts on the day it completed, since it has no booking day. Reporting its usage
// later takes that back.
type contribution struct {
	model        sql.NullInt64
	bookedDay    int64
	localDay     sql.NullInt64
	minute       int64 // in which its cost counts; 0 for none
	used         amounts
	withoutUsage bool
	completedDay int64
}

// counted computes what the step, as it is now, contributes to the counters. It must agree with the
// queries of storage/verify/ledger.go, which compute the same from the rows.
func (row *stepRow) counted() contribution {
	c := contribution{
		model: row.model, bookedDay: row.bookedDay.Int64, localDay: row.localDay, minute: row.minute(),
		used: amounts{spend: row.used.cost.Int64, prompt: row.used.booked.prompt, completion: row.used.booked.completion},
	}
	if row.unpriced() && row.used.tokens() > 0 {
		c.used.unpricedTokens, c.used.unpricedSteps = row.used.tokens(), 1
	}
	if row.Type == ModelCall && row.status == StepCompleted && row.used.tokens() == 0 && row.used.cost.Int64 == 0 {
		c.withoutUsage, c.completedDay = true, floorDiv(row.completedAt.Int64, millisPerDay)
	}
	return c
}

// since returns the postings that turn was, which the counters already contain, into c. If the
// step's model changes after it has used something (a tool call that gets a price, for instance),
// all of its usage moves to the new model.
func (c contribution) since(tx *Tx, was contribution, ws WorkspaceKey, r *cachedRun) (posts postings, err error) {
	posts.run = r
	if err := posts.burn(tx, ws, was, c); err != nil {
		return posts, err
	}
	used := c.used.minus(was.used)
	if c.model != was.model && was.used != (amounts{}) {
		used = c.used
		if err := posts.addUsage(tx, ws, was, r, amounts{}.minus(was.used)); err != nil {
			return posts, err
		}
	}
	if used != (amounts{}) {
		if err := posts.addUsage(tx, ws, c, r, used); err != nil {
			return posts, err
		}
	}
	if c.withoutUsage == was.withoutUsage && c.model == was.model {
		return posts, nil
	}
	if was.withoutUsage {
		err = posts.add(tx, dayKey{ws, was.completedDay}, was.model, r, amounts{callsWithoutUsage: -1})
	}
	if c.withoutUsage && err == nil {
		err = posts.add(tx, dayKey{ws, c.completedDay}, c.model, r, amounts{callsWithoutUsage: 1})
	}
	return posts, err
}

// posting is a change of figures with every counter that it moves.
type posting struct {
	amounts
	run      *cachedRun // nil where another posting of the same change moves it
	day      *cachedDay
	userDay  *cachedUserDay
	modelDay *cachedModelDay // nil for a step without a model
	keyDay   *cachedKeyDay   // nil for a run that no key started
	tagDays  []*cachedTagDay // by the run's tags
}

// postings are the counter changes of one update: up to two for usage (old model, new model), each
// on its UTC day and on its date in the workspace's zone, and up to two for a call without usage.
type postings struct {
	list   [6]posting
	n      int
	run    *cachedRun
	burns  [2]minutePosting
	burned int
}

// addUsage adds what a step has used to its day, and to its date in the workspace's zone.
func (p *postings) addUsage(tx *Tx, ws WorkspaceKey, c contribution, r *cachedRun, f amounts) error {
	err := p.add(tx, dayKey{ws, c.bookedDay}, c.model, r, f)
	if err != nil || !c.localDay.Valid {
		return err
	}
	if err = p.add(tx, dayKey{ws, localDays + c.localDay.Int64}, c.model, r, f); err == nil {
		p.list[p.n-1].run = nil
	}
	return err
}

// add loads every counter that the posting will change, so that book cannot fail.
func (p *postings) add(tx *Tx, on dayKey, model sql.NullInt64, r *cachedRun, f amounts) (err error) {
	b := &p.list[p.n]
	b.amounts, b.run = f, r
	if b.day, err = tx.cache.days.get(tx, on); err != nil {
		return err
	}
	if b.userDay, err = tx.cache.userDays.get(tx, partKey{on, r.userID}); err != nil {
		return err
	}
	if model.Valid {
		if b.modelDay, err = tx.cache.modelDays.get(tx, partKey{on, model.Int64}); err != nil {
			return err
		}
	}
	if b.tagDays, err = r.tagDays(tx, on); err != nil {
		return err
	}
	if r.keyID != 0 {
		if b.keyDay, err = tx.cache.keyDays.get(tx, partKey{on, int64(r.keyID)}); err != nil {
			return err
		}
	}
	p.n++
	return nil
}

// firstUnpriced reports whether these are the first tokens of the day that the
// model has no price for.
func (p *postings) firstUnpriced() bool {
	for _, b := range p.list[:p.n] {
		if b.unpricedTokens > 0 && b.run != nil {
			return b.modelDay != nil && b.modelDay.unpriced == 0 || b.modelDay == nil && b.day.unpricedTokens == 0
		}
	}
	return false
}

// firstCapped reports whether neither the day nor the run was full before: this update is the first
// cut.
func (p *postings) firstCapped() bool {
	return p.n > 0 && !isFull(p.list[0].day.spend, p.list[0].day.prompt, p.list[0].day.completion) &&
		!isFull(p.list[0].run.spend, p.list[0].run.promptTokens, p.list[0].run.completionTokens)
}

// isFull reports whether a day or a run can take no more of something.
func isFull(spend, prompt, completion int64) bool {
	return max(spend, prompt, completion) >= plans.MaxDay
}

// book moves the counters.
func (p *postings) book(tx *Tx) {
	for _, b := range p.list[:p.n] {
		b.book(tx)
	}
	for _, b := range p.burns[:p.burned] {
		b.book(tx, p.run)
	}
}

// book moves the counters of the day, the user, the model, the key and the tags, and those of the
// run. It cannot fail: add has loaded all of them. A row is written only if it changes, since each
// is a page to write.
func (b posting) book(tx *Tx) {
	if b.run != nil {
		b.run.book(tx, b.amounts)
	}
	b.day.spend += b.spend
	b.day.prompt += b.prompt
	b.day.completion += b.completion
	b.day.unpricedTokens += b.unpricedTokens
	b.day.unpricedSteps += b.unpricedSteps
	b.day.callsWithoutUsage += b.callsWithoutUsage
	tx.cache.markDirty(b.day)
	if b.spend != 0 || b.unpricedTokens != 0 {
		b.userDay.spend += b.spend
		b.userDay.unpriced += b.unpricedTokens
		tx.cache.markDirty(b.userDay)
	}
	uses := b.spend != 0 || b.prompt != 0 || b.completion != 0
	for _, d := range b.tagDays {
		if uses {
			d.book(tx, b.amounts, 0, 0)
		}
	}
	if b.keyDay != nil && uses {
		b.keyDay.spend += b.spend
		b.keyDay.prompt += b.prompt
		b.keyDay.completion += b.completion
		tx.cache.markDirty(b.keyDay)
	}
	if b.modelDay == nil {
		return
	}
	b.modelDay.spend += b.spend
	b.modelDay.prompt += b.prompt
	b.modelDay.completion += b.completion
	b.modelDay.unpriced += b.unpricedTokens
	b.modelDay.unpricedSteps += b.unpricedSteps
	b.modelDay.callsWithoutUsage += b.callsWithoutUsage
	tx.cache.markDirty(b.modelDay)
}

// book adds to the run's own counters.
func (r *cachedRun) book(tx *Tx, f amounts) {
	r.spend += f.spend
	r.promptTokens += f.prompt
	r.completionTokens += f.completion
	r.unpricedTokens += f.unpricedTokens
	r.callsWithoutUsage += f.callsWithoutUsage
	if f.unpricedTokens != 0 || f.callsWithoutUsage != 0 {
		r.gapsChanged = true
	}
	tx.cache.markDirty(r)
}

// maxTagValues is how many values of tags a workspace's day is counted by.
const maxTagValues = 1000

// tagDayKey names the day of one value of a tag.
type tagDayKey struct {
	dayKey
	Tag
}

// cachedTagDay is what the runs with a tag used on a day.
type cachedTagDay struct {
	cached
	tagDayKey
	spend, prompt, completion int64
	runs, blockedRuns         int64
	admitted                  bool // it has a row, or will have
	values                    *cachedTagValues
}

// loadTagDay reads the day of a tag's value. admitted tells whether it has a row: a day is counted
// by a bounded number of values.
func loadTagDay(tx *Tx, key tagDayKey) (*cachedTagDay, error) {
	d := &cachedTagDay{tagDayKey: key}
	err := tx.get(`SELECT spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count
		FROM tag_days WHERE workspace_id = $1 AND day = $2 AND key = $3 AND value = $4`,
		[]any{key.ws, key.day, key.Key, key.Value}, &d.spend, &d.prompt, &d.completion, &d.runs, &d.blockedRuns)
	d.admitted = err == nil
	return d, ignoreNotFound(err)
}

// book moves the figures, unless the day has too many values already: those
// that come later are counted in the workspace's day alone.
func (d *cachedTagDay) book(tx *Tx, f amounts, runs, blockedRuns int64) {
	if !d.admitted {
		if d.values.n >= maxTagValues {
			return
		}
		d.values.n++
		d.admitted = true
	}
	d.spend += f.spend
	d.prompt += f.prompt
	d.completion += f.completion
	d.runs += runs
	d.blockedRuns += blockedRuns
	tx.cache.markDirty(d)
}

// save deletes the row when an erasure has taken all of it. Then there is room for another value.
func (d *cachedTagDay) save(tx *Tx) error {
	if d.spend == 0 && d.prompt == 0 && d.completion == 0 && d.runs == 0 && d.blockedRuns == 0 {
		d.admitted = false
		if v, ok := tx.cache.tagValues.peek(tx, d.dayKey); ok {
			v.n--
		}
		_, err := tx.exec(`DELETE FROM tag_days WHERE workspace_id = $1 AND day = $2 AND key = $3 AND value = $4`,
			d.ws, d.day, d.Key, d.Value)
		return err
	}
	return tx.queueOne(`INSERT INTO tag_days
			(workspace_id, day, key, value, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (workspace_id, day, key, value)
		DO UPDATE SET spend_nanos = excluded.spend_nanos, prompt_tokens = excluded.prompt_tokens,
			completion_tokens = excluded.completion_tokens, run_count = excluded.run_count,
			blocked_run_count = excluded.blocked_run_count`,
		d.ws, d.day, d.Key, d.Value, d.spend, d.prompt, d.completion, d.runs, d.blockedRuns)
}

// cachedTagValues is how many values of tags a day is counted by.
type cachedTagValues struct {
	cached
	n int64
}

// loadTagValues counts the values of tags that a day keeps already.
func loadTagValues(tx *Tx, key dayKey) (*cachedTagValues, error) {
	v := &cachedTagValues{}
	return v, tx.get(`SELECT count(*) FROM tag_days WHERE workspace_id = $1 AND day = $2`, []any{key.ws, key.day}, &v.n)
}

// save has nothing to write: the number is that of the rows in tag_days.
func (v *cachedTagValues) save(*Tx) error { return nil }

// startDay is the counters of a day that a start moves.
type startDay struct {
	day     *cachedDay
	userDay *cachedUserDay
	keyDay  *cachedKeyDay   // by the key that makes it; nil when none does
	tagDays []*cachedTagDay // by the run's tags
}

// loadStarts loads the counters of the day on which a run starts, and of its date in the
// workspace's zone where dates are counted.
func (d *decisionState) loadStarts(tx *Tx, key KeyID, r *cachedRun, local sql.NullInt64) error {
	today := &d.starts[0]
	today.day, today.userDay = d.day, d.userDay
	err := today.load(tx, d.day.dayKey, key, r)
	if err != nil || !local.Valid {
		return err
	}
	date, on := &d.starts[1], dayKey{d.ws.key, localDays + local.Int64}
	if date.day, err = tx.cache.days.get(tx, on); err != nil {
		return err
	}
	if date.userDay, err = tx.cache.userDays.get(tx, partKey{on, r.userID}); err != nil {
		return err
	}
	return date.load(tx, on, key, r)
}

// load loads what depends on the run.
func (s *startDay) load(tx *Tx, on dayKey, key KeyID, r *cachedRun) (err error) {
	if key != 0 {
		if s.keyDay, err = tx.cache.keyDays.get(tx, partKey{on, int64(key)}); err != nil {
			return err
		}
	}
	s.tagDays, err = r.tagDays(tx, on)
	return err
}

// count adds a start that was allowed, or one that was blocked.
func (s *startDay) count(tx *Tx, allowed, blocked int64) {
	s.day.runs += allowed
	s.day.blockedRuns += blocked
	tx.cache.markDirty(s.day)
	if allowed > 0 {
		s.userDay.runs += allowed
		tx.cache.markDirty(s.userDay)
	}
	if s.keyDay != nil {
		s.keyDay.runs += allowed
		s.keyDay.blockedRuns += blocked
		tx.cache.markDirty(s.keyDay)
	}
	for _, t := range s.tagDays {
		t.book(tx, amounts{}, allowed, blocked)
	}
}

package storage

import (
	"database/sql"
	"errors"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// tokens are those of a step, by their classes.
type tokens struct{ prompt, completion int64 }

// usage is what a step has used, and what of it is booked at which prices.
type usage struct {
	reported    tokens        // by the agent
	booked      tokens        // the same, or less where the day or the run is full
	parts       parts         // of what was reported
	partPrices  partPrices    // of the parts, where there are both
	inputPrice  sql.NullInt64 // pico-USD; null when the model had no price
	outputPrice sql.NullInt64
	point       int64         // of price_points; 0 where the two prices are those of the model's own entry
	cost        sql.NullInt64 // nano-USD, as booked
	cut         bool          // the cost is less than it would be
}

func (u usage) tokens() int64 { return u.booked.prompt + u.booked.completion }

// capped reports whether less is booked than was used.
func (u usage) capped() bool { return u.cut || u.reported != u.booked }

// fit books of what was reported what a day and a run have room for, beside
// what they hold of old already. The user's and the model's days are parts of
// the workspace's, so its bound is theirs; a run may live for many days, so it
// has the bound of a day too. The rates are nil where the two prices are all.
func (u *usage) fit(old usage, day *cachedDay, r *cachedRun, rates *prices.Rates) error {
	u.booked.prompt = min(u.reported.prompt, room(day.prompt, r.promptTokens, old.booked.prompt))
	u.booked.completion = min(u.reported.completion, room(day.completion, r.completionTokens, old.booked.completion))
	u.cut, u.cost = false, sql.NullInt64{}
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
	u.cut = u.cut || beyond
	return nil
}

// fitCost books what a day and a run have room for of a cost.
func (u *usage) fitCost(cost plans.Money, old usage, day *cachedDay, r *cachedRun) {
	booked := min(int64(cost), room(day.spend, r.spend, old.cost.Int64))
	u.cost = sql.NullInt64{Int64: booked, Valid: true}
	u.cut = booked < int64(cost)
}

// room is how much may be booked in place of old.
func room(day, run, old int64) int64 { return plans.MaxDay - max(day, run) + old }

// figures are what a step adds to the counters.
type figures struct {
	spend, prompt, completion     int64
	unpricedTokens, unpricedSteps int64
	callsWithoutUsage             int64
}

func (f figures) minus(g figures) figures {
	return figures{
		spend: f.spend - g.spend, prompt: f.prompt - g.prompt, completion: f.completion - g.completion,
		unpricedTokens: f.unpricedTokens - g.unpricedTokens, unpricedSteps: f.unpricedSteps - g.unpricedSteps,
		callsWithoutUsage: f.callsWithoutUsage - g.callsWithoutUsage,
	}
}

// counted is what of a step the counters hold. A model call that is COMPLETED
// without any tokens or cost counts on the day of its completion, because it has no
// other; a correction of its usage takes it away again.
type counted struct {
	model        sql.NullInt64
	bookedDay    int64
	minute       int64 // in which its cost counts; 0 for none
	used         figures
	withoutUsage bool
	completedDay int64
}

func (row *stepRow) counted() counted {
	c := counted{
		model: row.model, bookedDay: row.bookedDay.Int64, minute: row.minute(),
		used: figures{spend: row.used.cost.Int64, prompt: row.used.booked.prompt, completion: row.used.booked.completion},
	}
	if row.unpriced() && row.used.tokens() > 0 {
		c.used.unpricedTokens, c.used.unpricedSteps = row.used.tokens(), 1
	}
	if row.Type == ModelCall && row.status == StepCompleted && row.used.tokens() == 0 && row.used.cost.Int64 == 0 {
		c.withoutUsage, c.completedDay = true, floorDiv(row.completedAt.Int64, millisPerDay)
	}
	return c
}

// since finds by how much the counters then differ from what they hold of the
// step. Where its model changes although it has used something, as that of a
// call of a tool does that gets a price, all of it moves to the other model.
func (c counted) since(tx *Tx, was counted, ws WorkspaceKey, r *cachedRun) (posts postings, err error) {
	posts.run = r
	if err := posts.burn(tx, ws, was, c); err != nil {
		return posts, err
	}
	used := c.used.minus(was.used)
	if c.model != was.model && was.used != (figures{}) {
		used = c.used
		if err := posts.add(tx, dayKey{ws, was.bookedDay}, was.model, r, figures{}.minus(was.used)); err != nil {
			return posts, err
		}
	}
	if used != (figures{}) {
		if err := posts.add(tx, dayKey{ws, c.bookedDay}, c.model, r, used); err != nil {
			return posts, err
		}
	}
	if c.withoutUsage == was.withoutUsage && c.model == was.model {
		return posts, nil
	}
	if was.withoutUsage {
		err = posts.add(tx, dayKey{ws, was.completedDay}, was.model, r, figures{callsWithoutUsage: -1})
	}
	if c.withoutUsage && err == nil {
		err = posts.add(tx, dayKey{ws, c.completedDay}, c.model, r, figures{callsWithoutUsage: 1})
	}
	return posts, err
}

// posting is a change of figures with every counter that it moves.
type posting struct {
	figures
	run      *cachedRun
	day      *cachedDay
	userDay  *cachedUserDay
	modelDay *cachedModelDay // nil for a step without a model
	keyDay   *cachedKeyDay   // nil for a run that no key started
	tagDays  []*cachedTagDay // by the run's tags
}

// postings are the changes that one update makes: of what the step has used,
// and of a call without usage, each under the model that it had and that it has.
type postings struct {
	list   [4]posting
	n      int
	run    *cachedRun
	burns  [2]burning
	burned int
}

// add reads every counter that holds the figures, so that book cannot fail.
func (p *postings) add(tx *Tx, on dayKey, model sql.NullInt64, r *cachedRun, f figures) (err error) {
	b := &p.list[p.n]
	b.figures, b.run = f, r
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
		if b.unpricedTokens > 0 {
			return b.modelDay != nil && b.modelDay.unpriced == 0 || b.modelDay == nil && b.day.unpricedTokens == 0
		}
	}
	return false
}

// fills reports whether day and run have had room for something of all they count.
func (p *postings) fills() bool {
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

func (b posting) book(tx *Tx) {
	b.run.book(tx, b.figures)
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
			d.book(tx, b.figures, 0, 0)
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

func (r *cachedRun) book(tx *Tx, f figures) {
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

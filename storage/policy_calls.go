package storage

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"strconv"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/storage/outcomes"
)

// This file evaluates a workspace's policies for a start or a step, inside the transaction that
// decides, and records what counts towards their limits.
//
// What has to be evaluated outside the writer is in decide.go: policyEvaluation.

// policies returns the workspace's compiled policies: nil when it has none, and
// a *policyEvaluation when they are not compiled.
func (w *cachedWorkspace) policies(tx *Tx) (*policySet, error) {
	if w.policiesVersion == 0 {
		return nil, nil
	}
	if w.policySet == nil {
		set, ok := tx.cache.policySets.Get(policySetKey{w.key, w.policiesVersion})
		if !ok {
			return nil, &policyEvaluation{ws: w.key}
		}
		w.policySet = set
	}
	if w.policySet.Len() == 0 {
		return nil, nil
	}
	return w.policySet, nil
}

// policyCall is the evaluation of a workspace's policies for one start or step.
type policyCall struct {
	ws         *cachedWorkspace
	set        *policySet
	facts      policies.Facts
	runID      int64 // 0 for a start
	userID     int64
	hash       [sha256.Size]byte // of the action, to find repeats and grants
	asked      []askedPolicy     // the policies that match
	states     []guard.Policy    // their states, in the same order
	grants     []int64           // by policy, a grant that replaces its review; 0 for none
	evaluation *policyEvaluation
	waits      bool // the step waits for a review
}

// askedPolicy is a policy that matches the call.
type askedPolicy struct {
	rule    *policies.Rule
	counter limitKey     // of its limit; zero without one
	cached  *cachedLimit // the counter; nil without one, and for a rolling window
	first   int64        // oldest bucket that counts, in milliseconds
}

// actionHash hashes type, tool, model and input, each prefixed with its length.
func actionHash(in NewStep) [sha256.Size]byte {
	h := sha256.New()
	write := func(text []byte) {
		var size [8]byte
		binary.BigEndian.PutUint64(size[:], uint64(len(text)))
		h.Write(size[:])
		h.Write(text)
	}
	write([]byte(in.Type.String()))
	for _, text := range []*string{in.ToolName, in.Model} {
		if text == nil {
			h.Write([]byte{0})
			continue
		}
		write([]byte(*text))
	}
	write(in.InputData)
	return [sha256.Size]byte(h.Sum(nil))
}

// ask evaluates the policies that match the call, and completes the decision. It is called only if
// no rule has objected. It fails with a *policyEvaluation if conditions are still to be evaluated.
func (p *policyCall) ask(tx *Tx, d guard.Decision) (guard.Decision, error) {
	// An index finds them: a workspace with a thousand policies costs hardly more than one with
	// ten.
	rules := p.set.Matching(&p.facts)
	if len(rules) == 0 {
		return d, nil
	}
	holds, err := p.conditions(tx.ctx, rules)
	if err != nil {
		return d, err
	}
	p.states, p.asked = make([]guard.Policy, len(rules)), make([]askedPolicy, len(rules))
	calendar, err := p.ws.calendar()
	if err != nil {
		return d, err
	}
	for i, rule := range rules {
		p.asked[i].rule = rule
		p.states[i] = guard.Policy{
			ID: rule.ID, Version: rule.Version, Name: rule.Name, Message: rule.Message,
			Effect: guard.Effect(rule.Effect), Holds: holds(rule),
		}
		if rule.Limit != nil {
			if err := p.limit(tx, calendar, &p.asked[i], &p.states[i]); err != nil {
				return d, err
			}
		}
	}
	if err := p.findGrants(tx); err != nil {
		return d, err
	}
	return guard.DecidePolicies(d, p.states), nil
}

// conditions returns a function that reports whether a rule's condition holds. If conditions are
// still to be evaluated, it fails with a *policyEvaluation.
func (p *policyCall) conditions(ctx context.Context, rules []*policies.Rule) (func(*policies.Rule) bool, error) {
	var needed []*policies.Rule
	for _, rule := range rules {
		if rule.HasWhen() {
			needed = append(needed, rule)
		}
	}
	always := func(*policies.Rule) bool { return true }
	if len(needed) == 0 {
		return always, nil
	}
	e := p.evaluation
	if !e.answers(p.set, &p.facts) {
		again := &policyEvaluation{ws: p.ws.key, set: p.set, facts: p.facts, rules: needed}
		if e != nil {
			again.attempts = e.attempts
		}
		if again.attempts < maxEvaluations && !again.isQuick() {
			return nil, again
		}
		again.evaluate(ctx)
		e = again
	}
	return func(rule *policies.Rule) bool { return !rule.HasWhen() || e.holds[rule.ID] }, nil
}

// limit reads what is used of a policy's limit.
func (p *policyCall) limit(tx *Tx, c calendar, asked *askedPolicy, state *guard.Policy) (err error) {
	l := asked.rule.Limit
	state.HasLimit, state.Limit, state.Money = true, l.Amount, l.Measure == policies.MeasureUSD
	if l.Measure == policies.MeasureRepeats {
		state.Used = p.facts.Repeats
		return nil
	}
	if l.Measure == policies.MeasureCalls || l.Measure == policies.MeasureRuns {
		state.Counts = 1
	}
	first, current, next := c.buckets(l, &p.facts)
	state.ResetsAt = next
	asked.first = first.UnixMilli()
	asked.counter = limitKey{
		ws: p.ws.key, policy: asked.rule.ID, countsFrom: p.set.countsFrom[asked.rule.ID],
		scope: p.scope(l), bucket: current.UnixMilli(),
	}
	if l.Rolling {
		state.Used, err = usedSince(tx, asked.counter, asked.first)
		return err
	}
	if asked.cached, err = tx.cache.limit(tx, asked.counter); err == nil {
		state.Used = asked.cached.used
	}
	return err
}

// scope returns the value that a limit counts by. A user is its internal id, so that erasing the
// user leaves no name behind.
func (p *policyCall) scope(l *policies.Limit) string {
	scope := l.Scope(&p.facts)
	if l.Per == "user" {
		scope = strconv.FormatInt(p.userID, 10)
	}
	if l.Window == policies.WindowRun && l.Per != "run" {
		scope = p.facts.Run + " " + scope
	}
	return scope
}

// record counts what the policies said of the call, also on those of their limits that count it
// (unless it is denied), and returns it for the call's own row. Cached counters change in book,
// after the last statement that can fail.
func (p *policyCall) record(tx *Tx, d guard.Decision) (said string, err error) {
	if p == nil || len(p.asked) == 0 {
		return "", nil
	}
	all := make([]outcomes.Outcome, len(p.asked))
	for i := range p.asked {
		asked, o := &p.asked[i], &all[i]
		o.Policy, o.Outcome = asked.rule.ID, p.outcome(i, d)
		if l := asked.rule.Limit; p.counts(l, d) {
			k := asked.counter
			o.Measure, o.CountsFrom, o.Scope, o.Bucket = int64(l.Measure), k.countsFrom, k.scope, k.bucket
			if err := p.count(tx, asked, &p.states[i]); err != nil {
				return "", err
			}
		} else {
			asked.cached = nil
		}
		if o.Outcome != outcomePassed {
			if err := countHit(tx, p.ws.key, o.Policy, o.Outcome); err != nil {
				return "", err
			}
		}
	}
	return outcomes.Encode(all), nil
}

// counts reports whether a limit counts the call.
func (p *policyCall) counts(l *policies.Limit, d guard.Decision) bool {
	return !d.Denied() && l != nil && l.Measure != policies.MeasureRepeats && (l.Measure == policies.MeasureRuns) == p.facts.Start
}

// book moves the counters that are cached.
func (p *policyCall) book(tx *Tx) {
	for i := range p.asked {
		if l := p.asked[i].cached; l != nil && p.states[i].Counts > 0 {
			l.used += p.states[i].Counts
			tx.cache.markDirty(l)
		}
	}
	if p.waits {
		p.ws.pendingReviews++
		tx.cache.markDirty(p.ws)
	}
}

// What a policy has said of a call. The values are stored: never renumber.
const (
	// outcomePassed: it matched, and did not object.
	outcomePassed = 1
	// outcomeLogged: it objected, and only logs.
	outcomeLogged = 2
	// outcomeReview: it asked a person.
	outcomeReview = 3
	// outcomeDenied: it objected, whether or not it was the one that decided.
	outcomeDenied = 4
	// outcomeGranted: a grant stood in for a person.
	outcomeGranted = 5
)

// outcome returns what is stored about a policy's part in the decision. A policy that objects may
// still only be logged, or be met by a grant.
func (p *policyCall) outcome(i int, d guard.Decision) int64 {
	state := &p.states[i]
	switch {
	case !state.Objects():
		return outcomePassed
	case state.Effect == guard.LogOnly:
		return outcomeLogged
	case state.Granted:
		return outcomeGranted
	case state.Effect == guard.AskPerson:
		return outcomeReview
	default:
		return outcomeDenied
	}
}

// decidePoliciesForStep asks the policies about a step that no rule objects to; call is
// nil when the workspace has none.
func decidePoliciesForStep(
	tx *Tx, ws *cachedWorkspace, r *cachedRun, run uuid.UUID, in NewStep, e *policyEvaluation, d guard.Decision,
) (call *policyCall, asked guard.Decision, err error) {
	if call, err = newStepCall(tx, ws, r, run, in, e); call == nil {
		return nil, d, err
	}
	if d, err = call.ask(tx, d); d.Review && !in.Waits && !ws.reviewsForAll {
		d.Review, d.Reason = false, guard.ReviewNotSupported
	}
	return call, d, err
}

// decidePoliciesForStart asks the policies about a run's start.
func decidePoliciesForStart(
	tx *Tx, ws *cachedWorkspace, userID int64, in NewRun, e *policyEvaluation, d guard.Decision,
) (call *policyCall, asked guard.Decision, err error) {
	if call, err = newStartCall(tx, ws, userID, in, e); call == nil {
		return nil, d, err
	}
	d, err = call.ask(tx, d)
	return call, d, err
}

// rule is one of those that were asked.
func (p *policyCall) rule(id int64) *policies.Rule {
	for _, asked := range p.asked {
		if asked.rule.ID == id {
			return asked.rule
		}
	}
	return nil
}

// followStep does what follows for a step that was just inserted: loops are told of, a review is
// created if a policy requires it, and grants are used up.
func (p *policyCall) followStep(tx *Tx, r *cachedRun, row stepRow) (review uuid.UUID, err error) {
	if err := p.notifyLoops(tx, r, row); err != nil {
		return review, err
	}
	switch {
	case row.Decision.Review:
		p.waits = true
		return requestReview(tx, p.ws, r, row, p)
	case row.Decision.Allowed():
		return review, p.useGrants(tx, row.ID)
	default:
		return review, nil
	}
}

// notifyLoops notifies the workspace's endpoints that the run repeats itself: once when the limit
// is reached, not again for each further repeat.
func (p *policyCall) notifyLoops(tx *Tx, r *cachedRun, row stepRow) error {
	for i := range p.states {
		l := p.asked[i].rule.Limit
		if l == nil || l.Measure != policies.MeasureRepeats || !p.states[i].Holds || p.facts.Repeats != l.Amount {
			continue
		}
		err := tx.notify(p.ws.key, notification{kind: LoopDetected, user: r.userID, data: attributes{
			"run_id": p.facts.Run, "step_id": row.ID, "user_id": p.facts.User, "policy_name": p.asked[i].rule.Name,
			"tool_name": row.ToolName, "model": row.Model, "repeats": p.facts.Repeats,
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

// newStepCall collects the facts about a step. It returns nil if the workspace has no policies.
func newStepCall(tx *Tx, ws *cachedWorkspace, r *cachedRun, run uuid.UUID, in NewStep, e *policyEvaluation) (*policyCall, error) {
	set, err := ws.policies(tx)
	if set == nil || err != nil {
		return nil, err
	}
	p := &policyCall{ws: ws, set: set, runID: r.id, userID: r.userID, hash: actionHash(in), evaluation: e}
	p.facts = policies.Facts{
		Type: in.Type.String(), Run: run.String(), Input: in.InputData,
		Steps: r.stepCount, Spent: plans.Money(r.spend), StartedAt: idTime(run), Now: tx.now,
	}
	if in.ToolName != nil {
		p.facts.Tool = *in.ToolName
	}
	if in.Model != nil {
		p.facts.Model = *in.Model
	}
	if err := r.loadFacts(tx, set); err != nil {
		return nil, err
	}
	p.facts.User, p.facts.Tags, p.facts.Metadata = r.facts.user, r.facts.tags, r.facts.metadata
	if set.NeedsRepeats() {
		p.facts.Repeats = policies.Repeats(r.facts.history, shortHash(p.hash))
	}
	return p, nil
}

// newStartCall collects the facts about a run's start. It returns nil if there are no policies.
func newStartCall(tx *Tx, ws *cachedWorkspace, userID int64, in NewRun, e *policyEvaluation) (*policyCall, error) {
	set, err := ws.policies(tx)
	if set == nil || err != nil {
		return nil, err
	}
	p := &policyCall{ws: ws, set: set, userID: userID, evaluation: e}
	p.facts = policies.Facts{Start: true, User: in.UserID, Metadata: in.Metadata, StartedAt: tx.now, Now: tx.now}
	if set.NeedsTags() {
		p.facts.Tags, _ = policies.TagsOf(in.Metadata)
	}
	return p, nil
}

// runFacts is what policies need to know of a run and the rules of package guard do not.
type runFacts struct {
	user     string
	tags     map[string]string
	metadata []byte // where an expression reads it
	history  []uint64
	set      *policySet // for which it was read
}

// loadFacts reads what the policies need to know of the run, once.
func (r *cachedRun) loadFacts(tx *Tx, set *policySet) error {
	if r.facts != nil && r.facts.set == set {
		return nil
	}
	f := &runFacts{set: set}
	var metadata sql.NullString
	var history []byte
	err := tx.get(`SELECT u.external_id, m.metadata, a.history FROM runs r JOIN users u ON u.id = r.user_id
		LEFT JOIN run_metadata m ON m.run_id = r.id LEFT JOIN run_actions a ON a.run_id = r.id WHERE r.id = $1`,
		[]any{r.id}, &f.user, &metadata, &history)
	if err != nil {
		return err
	}
	if set.NeedsTags() {
		f.tags, _ = policies.TagsOf([]byte(metadata.String))
	}
	if set.NeedsMetadata() && metadata.Valid {
		f.metadata = []byte(metadata.String)
	}
	for ; len(history) >= 8; history = history[8:] {
		f.history = append(f.history, binary.BigEndian.Uint64(history))
	}
	if r.facts != nil && r.historyChanged {
		f.history = r.facts.history // not written yet
	}
	if len(f.metadata) > maxOpenPayload {
		f.set = nil // there may be many runs: it is read again when it is next needed
	}
	r.facts = f
	return nil
}

// remember appends the action to the run's history, in which repeats are found.
func (r *cachedRun) remember(p *policyCall) {
	if p == nil || !p.set.NeedsRepeats() {
		return
	}
	h := append(r.facts.history, shortHash(p.hash))
	r.facts.history, r.historyChanged = h[max(0, len(h)-policies.History):], true
}

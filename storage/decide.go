package storage

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

// Decider decides, inside the transaction that records the decision. It is
// guard.Decide; a test may pass any other.
type Decider func(guard.Request, guard.State) guard.Decision

// decisionState is the cached rows that a decision depends on.
type decisionState struct {
	ws      *cachedWorkspace
	day     *cachedDay     // of the workspace, today
	user    *cachedUser    // nil when the workspace has never seen the user
	userDay *cachedUserDay // nil with user
	starts  [2]startDay    // that a start is counted on: today, and its date in the workspace's zone
}

// loadState loads what a decision depends on; userID is 0 for a user never seen.
func loadState(tx *Tx, ws *cachedWorkspace, userID int64) (state decisionState, err error) {
	today := dayKey{ws.key, dayOf(tx.now)}
	state.ws = ws
	if state.day, err = tx.cache.days.get(tx, today); err != nil || userID == 0 {
		return state, err
	}
	if state.user, err = tx.cache.users.get(tx, idKey{ws.key, userID}); err != nil {
		return state, err
	}
	state.userDay, err = tx.cache.userDays.get(tx, partKey{today, userID})
	return state, err
}

// guardState converts what was loaded to the engine's state: plain values, which it cannot change.
func (d decisionState) guardState() guard.State {
	s := guard.State{
		Plan: d.ws.plan, KillSwitch: d.ws.killSwitch,
		DailyBudget: d.ws.dailyBudget, SpentToday: plans.Money(d.day.spend),
		UserDailyBudget: d.ws.userDailyBudget,
		RunsThisMonth:   d.day.earlierRuns + d.day.runs,
		RunningRuns:     d.ws.runningRuns, MaxConcurrentRuns: d.ws.maxConcurrentRuns,
	}
	if d.user != nil {
		s.UserBlocked, s.UserSpentToday = d.user.blocked, plans.Money(d.userDay.spend)
	}
	return s
}

// loadRunState loads a run, and what the decision on its next call depends on.
func loadRunState(tx *Tx, c Caller, id uuid.UUID) (ws *cachedWorkspace, r *cachedRun, state guard.State, err error) {
	if ws, err = authorize(tx, c); err != nil {
		return nil, nil, state, err
	}
	if r, err = tx.cache.runs.get(tx, runKey{ws.key, id}); err != nil {
		return nil, nil, state, err
	}
	loaded, err := loadState(tx, ws, r.userID)
	if err != nil {
		return nil, nil, state, err
	}
	state = loaded.guardState()
	state.RunEnded = r.status != RunRunning
	return ws, r, state, nil
}

// recordDenial inserts the row of denials that keeps the objecting rule's limit, usage and reset
// time, and counts the denial on the day. step is nil for a run's start. The denied step itself is
// inserted by insertStep. A step that a review denies later gets its row from denyReviewed.
func recordDenial(tx *Tx, ws WorkspaceKey, runID int64, step []byte, d guard.Decision) error {
	if err := countDenial(tx, ws, dayOf(tx.now), d.Reason); err != nil {
		return err
	}
	if step == nil {
		step = []byte{}
	}
	if d.Policy != nil {
		err := tx.queue(`INSERT INTO denials (run_id, step_uuid, reason, limit_value, used_value, resets_at, policy_id, policy_version)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`, runID, step, int64(d.Reason), d.Limit, d.Used, nullMillis(d.ResetsAt),
			d.Policy.ID, d.Policy.Version)
		return err
	}
	err := tx.queue(`INSERT INTO denials (run_id, step_uuid, reason, limit_value, used_value, resets_at)
		VALUES ($1, $2, $3, $4, $5, $6)`,
		runID, step, int64(d.Reason), d.Limit, d.Used, nullMillis(d.ResetsAt))
	return err
}

// recordedDecision rebuilds a decision from its denial, if there is one.
func recordedDecision(kind guard.Kind, reason, limit, used, resets sql.NullInt64) guard.Decision {
	d := guard.Decision{Reason: guard.Reason(reason.Int64), Limit: limit.Int64, Used: used.Int64, ResetsAt: timeOf(resets)}
	d.Evaluated = guard.Evaluated(kind, d.Reason)
	return d
}

// Answer is what a decision on a start or a step answers.
type Answer struct {
	ID       uuid.UUID
	Status   string
	Decision guard.Decision
	Review   uuid.UUID // that the step waits for; uuid.Nil for none
	// Replay is the body of the first answer when an idempotency key was
	// repeated; everything else is then zero.
	Replay []byte
}

// Idempotency lets a repeated call find its first answer. The zero value asks for nothing.
type Idempotency struct {
	Key         string
	Fingerprint [32]byte            // SHA-256 of the request's body; only with a key
	Encode      func(Answer) []byte // the body to keep
}

// idempotencyTTL is how long a repeated call gets its first answer. Expire deletes older keys.
const idempotencyTTL = 24 * time.Hour

// replay finds the first answer given under the key, if it is not a day old.
func replay(tx *Tx, ws WorkspaceKey, runID int64, in Idempotency) ([]byte, error) {
	if in.Key == "" {
		return nil, nil
	}
	var fingerprint, answer []byte
	err := tx.get(`SELECT fingerprint, answer FROM idempotency_keys
		WHERE workspace_id = $1 AND run_id = $2 AND key = $3 AND created_at > $4`,
		[]any{ws, runID, in.Key, tx.now.Add(-idempotencyTTL).UnixMilli()}, &fingerprint, &answer)
	switch {
	case err != nil:
		return nil, ignoreNotFound(err)
	case string(fingerprint) != string(in.Fingerprint[:]):
		return nil, ErrKeyReused
	default:
		return answer, nil
	}
}

// saveAnswer stores an answer under its key, in place of one that has expired.
func saveAnswer(tx *Tx, ws WorkspaceKey, runID int64, in Idempotency, a Answer) error {
	if in.Key == "" {
		return nil
	}
	err := tx.queue(`INSERT INTO idempotency_keys (workspace_id, run_id, key, fingerprint, answer, created_at)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace_id, run_id, key) DO UPDATE
		SET fingerprint = excluded.fingerprint, answer = excluded.answer, created_at = excluded.created_at`,
		ws, runID, in.Key, in.Fingerprint[:], in.Encode(a), tx.now.UnixMilli())
	return err
}

// countDenial books a denial on the day.
func countDenial(tx *Tx, ws WorkspaceKey, day int64, reason guard.Reason) error {
	err := tx.queue(`INSERT INTO denial_days (workspace_id, day, reason, denial_count) VALUES ($1, $2, $3, 1)
		ON CONFLICT (workspace_id, day, reason) DO UPDATE SET denial_count = denial_days.denial_count + 1`,
		ws, day, int64(reason))
	return err
}

// ReasonUsage is how often a rule objected.
type ReasonUsage struct {
	Reason                       guard.Reason
	Today, Last7Days, Last30Days int64
}

// reasonUsage lists the rules that objected in the last 30 days, the most
// frequent first.
func reasonUsage(tx *Tx, ws WorkspaceKey, today int64) (usage []ReasonUsage, err error) {
	err = tx.each(`SELECT reason, sum(CASE WHEN day = $2 THEN denial_count ELSE 0 END),
			sum(CASE WHEN day > $2 - 7 THEN denial_count ELSE 0 END), sum(denial_count) AS count_30
		FROM denial_days WHERE workspace_id = $1 AND day >= $3 AND day <= $2
		GROUP BY reason ORDER BY count_30 DESC, reason`, []any{ws, today, today - usageDays + 1}, func(rows scanner) error {
		var r ReasonUsage
		err := rows.Scan(&r.Reason, &r.Today, &r.Last7Days, &r.Last30Days)
		usage = append(usage, r)
		return err
	})
	return usage, err
}

// limitKey names the counter of a limit: one policy, one scope, one bucket of its window.
type limitKey struct {
	ws                 WorkspaceKey
	policy, countsFrom int64
	scope              string
	bucket             int64 // milliseconds
}

// workspace makes limitKey a rowKey.
func (k limitKey) workspace() WorkspaceKey { return k.ws }

// cachedLimit is what was used of a limit in a window that is not rolling.
type cachedLimit struct {
	cached
	limitKey
	used int64
}

// loadLimit reads a counter, zero if it has no row.
func loadLimit(tx *Tx, key limitKey) (*cachedLimit, error) {
	l := &cachedLimit{limitKey: key}
	err := tx.get(`SELECT used FROM policy_counters
		WHERE workspace_id = $1 AND policy_id = $2 AND counts_from = $3 AND scope = $4 AND slice = $5`,
		[]any{key.ws, key.policy, key.countsFrom, key.scope, key.bucket}, &l.used)
	return l, ignoreNotFound(err)
}

// save writes what is used. The column slice holds the bucket's start.
func (l *cachedLimit) save(tx *Tx) error {
	err := tx.queue(`INSERT INTO policy_counters (workspace_id, policy_id, counts_from, scope, slice, used)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace_id, policy_id, counts_from, scope, slice) DO UPDATE SET used = excluded.used`,
		l.ws, l.policy, l.countsFrom, l.scope, l.bucket, l.used)
	return err
}

// usedSince sums up the buckets of a rolling window.
func usedSince(tx *Tx, k limitKey, first int64) (used int64, err error) {
	err = tx.get(`SELECT coalesce(sum(used), 0) FROM policy_counters
		WHERE workspace_id = $1 AND policy_id = $2 AND counts_from = $3 AND scope = $4 AND slice >= $5 AND slice <= $6`,
		[]any{k.ws, k.policy, k.countsFrom, k.scope, first, k.bucket}, &used)
	return used, err
}

// addUsage adds to a counter that is not cached.
func addUsage(tx *Tx, k limitKey, n int64) error {
	err := tx.queue(`INSERT INTO policy_counters (workspace_id, policy_id, counts_from, scope, slice, used)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace_id, policy_id, counts_from, scope, slice) DO UPDATE SET used = policy_counters.used + excluded.used`,
		k.ws, k.policy, k.countsFrom, k.scope, k.bucket, n)
	return err
}

// maxLimitReads is how many limit counters the jobs of a batch may read before the cache is
// flushed, so that no changed counter is evicted unwritten.
const maxLimitReads = 2 * MinCacheSize

// limit reads a counter of a window that is not rolling.
func (c *cache) limit(tx *Tx, k limitKey) (*cachedLimit, error) {
	c.limitReads++
	return c.limits.get(tx, k)
}

// PolicyUse is how much of a policy's limit is used now by one value of its scope.
type PolicyUse struct {
	Scope    string // "" for the workspace; of a user the name
	Used     int64
	ResetsAt time.Time // zero when the window does not end by itself
	user     int64     // whose name Scope is; 0 for another scope
}

// maxUses is how many scope values are listed, the heaviest users first.
const maxUses = 5

// policyUse lists what is used of a policy's limit in the window that is now.
func policyUse(tx *Tx, ws WorkspaceKey, c calendar, p StoredPolicy) (list []PolicyUse, err error) {
	l := p.Limit
	if l == nil || l.Measure == policies.MeasureRepeats || l.Window == policies.WindowRun {
		return nil, nil
	}
	first, current, next := c.buckets(l, &policies.Facts{Now: tx.now})
	err = tx.each(`SELECT scope, sum(used) AS total FROM policy_counters
		WHERE policy_id = $1 AND slice >= $2 AND slice <= $3 AND counts_from = $4 AND workspace_id = $5
		GROUP BY scope ORDER BY total DESC, scope LIMIT $6`,
		[]any{p.ID, first.UnixMilli(), current.UnixMilli(), p.countsFrom, ws, int64(maxUses)},
		func(rows scanner) error {
			u := PolicyUse{ResetsAt: next}
			err := rows.Scan(&u.Scope, &u.Used)
			list = append(list, u)
			return err
		})
	for i := range list {
		if err == nil && l.Per == "user" {
			err = list[i].nameUser(tx, ws)
		}
	}
	return list, err
}

// nameUser replaces the internal id of a user by the name.
func (u *PolicyUse) nameUser(tx *Tx, ws WorkspaceKey) error {
	id, err := strconv.ParseInt(u.Scope, 10, 64)
	if err != nil {
		return err
	}
	u.user = id
	err = tx.get(`SELECT external_id FROM users WHERE id = $1 AND workspace_id = $2`, []any{id, ws}, &u.Scope)
	return ignoreNotFound(err)
}

// policiesOfUser lists the enabled policies that name a user or count by user,
// with what is used of their limits: of those that count by user, by this one.
func policiesOfUser(tx *Tx, ws WorkspaceKey, user string, id int64) (of []StoredPolicy, err error) {
	list, err := readPolicies(tx, ws, "")
	if err != nil || len(list) == 0 {
		return nil, err
	}
	calendar, err := readCalendar(tx, ws)
	if err != nil {
		return nil, err
	}
	for _, p := range list {
		byUser, named := p.Limit != nil && p.Limit.Per == "user", p.Match.NamesUser(user)
		if !p.Enabled || !named && (len(p.Match.Users) > 0 || !byUser) {
			continue
		}
		if !byUser {
			p.Use, err = policyUse(tx, ws, calendar, p)
		} else if p.Limit.Measure != policies.MeasureRepeats && p.Limit.Window != policies.WindowRun {
			first, current, next := calendar.buckets(p.Limit, &policies.Facts{Now: tx.now})
			u := PolicyUse{Scope: user, ResetsAt: next}
			err = tx.get(`SELECT coalesce(sum(used), 0) FROM policy_counters
				WHERE workspace_id = $1 AND policy_id = $2 AND counts_from = $3 AND scope = $4 AND slice >= $5 AND slice <= $6`,
				[]any{ws, p.ID, p.countsFrom, strconv.FormatInt(id, 10), first.UnixMilli(), current.UnixMilli()}, &u.Used)
			p.Use = []PolicyUse{u}
		}
		if err != nil {
			return nil, err
		}
		of = append(of, p)
	}
	return of, nil
}

// limitDays is for how many days after its beginning a window's counter is kept:
// longer than any window but "total", and than any plan keeps runs.
const limitDays = 400

// oldestLimit is when the oldest window begins whose counter is kept.
func oldestLimit(tx *Tx) int64 { return tx.now.AddDate(0, 0, -limitDays).UnixMilli() }

// expireLimits deletes counters of windows that are long over.
func (s *Store) expireLimits(ctx context.Context) error {
	var all []idKey
	err := s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT workspace_id, id FROM policies p
			WHERE EXISTS (SELECT 1 FROM policy_counters c WHERE c.policy_id = p.id AND c.slice > 0 AND c.slice < $1)`,
			[]any{oldestLimit(tx)}, func(rows scanner) error {
				var p idKey
				err := rows.Scan(&p.ws, &p.id)
				all = append(all, p)
				return err
			})
	})
	for len(all) > 0 && err == nil {
		var n int64
		err = s.runUpkeep(ctx, all[0].ws, modeSQL, func(tx *Tx) (more bool, err error) {
			n, err = tx.exec(`DELETE FROM policy_counters WHERE (workspace_id, policy_id, counts_from, scope, slice) IN
				(SELECT workspace_id, policy_id, counts_from, scope, slice FROM policy_counters
				WHERE policy_id = $1 AND slice > 0 AND slice < $2 LIMIT $3)`,
				all[0].id, oldestLimit(tx), upkeepChunk)
			return n == upkeepChunk, err
		})
		if n < upkeepChunk {
			all = all[1:]
		}
	}
	return err
}

// countingPolicy returns the policy that a counter is of: nil where it is off or gone, or counts
// anew.
func (w *cachedWorkspace) countingPolicy(tx *Tx, k limitKey) (*policies.Policy, error) {
	set, err := w.policies(tx)
	var needed *policyEvaluation
	switch {
	case errors.As(err, &needed): // nothing was decided yet by the policies as they are
		name, err := policyName(tx, w.key, k.policy)
		if err != nil {
			return nil, err
		}
		list, err := readPolicies(tx, w.key, name)
		if err != nil || len(list) == 0 || !list[0].Enabled || list[0].countsFrom != k.countsFrom {
			return nil, err
		}
		return &list[0].Policy, nil
	case err != nil || set == nil || set.countsFrom[k.policy] != k.countsFrom || set.rules[k.policy] == nil:
		return nil, err
	}
	return &set.rules[k.policy].Policy, nil
}

// Conditions (CEL) may take milliseconds, so those that are not simple are evaluated outside the
// writer. A job that needs them fails with a *policyEvaluation. decideWithPolicies evaluates it and
// runs the job again, which checks that the results still apply.

// policyEvaluation is what a decision needs from outside of the writer: compiled
// policies, or whether the conditions of some hold.
type policyEvaluation struct {
	ws       WorkspaceKey
	set      *policySet // nil: to be compiled first
	facts    policies.Facts
	rules    []*policies.Rule // to be evaluated
	holds    map[int64]bool   // by policy; what was evaluated
	usesRun  bool
	attempts int
}

// Error makes a policyEvaluation an error, so that it rolls the job back like any other. No caller
// of Store ever sees it.
func (*policyEvaluation) Error() string { return "a policy is to be evaluated" }

// What the writer evaluates at once: it takes no longer than running the job again would.
const (
	maxQuickRules   = 50
	maxQuickPayload = 4 << 10
)

// isQuick reports whether the writer may evaluate the rules by itself.
func (e *policyEvaluation) isQuick() bool {
	return len(e.rules) <= maxQuickRules && len(e.facts.Input)+len(e.facts.Metadata) <= maxQuickPayload &&
		!slices.ContainsFunc(e.rules, func(r *policies.Rule) bool { return !r.Simple() })
}

// maxEvaluations is how often a decision is put off because the run has moved on
// meanwhile. After that the writer evaluates by itself.
const maxEvaluations = 3

// decideWithPolicies runs a job that decides, as often as it needs something from outside.
func (s *Store) decideWithPolicies(ctx context.Context, c knownCall, job func(*Tx, *policyEvaluation) error) error {
	var e *policyEvaluation
	for {
		err := s.writeCall(ctx, c, func(tx *Tx) error { return job(tx, e) })
		if err == nil {
			return nil
		}
		var needed *policyEvaluation
		if !errors.As(err, &needed) {
			return err
		}
		if needed.set == nil {
			if err := s.compile(ctx, needed.ws); err != nil {
				return err
			}
			continue
		}
		needed.evaluate(ctx)
		e = needed
	}
}

// evaluate works out which of the rules hold. One that cannot be evaluated
// holds: it objects with its own effect.
func (e *policyEvaluation) evaluate(ctx context.Context) {
	e.holds = make(map[int64]bool, len(e.rules))
	for _, rule := range e.rules {
		holds, err := rule.Holds(ctx, &e.facts)
		e.holds[rule.ID] = holds || err != nil
		e.usesRun = e.usesRun || rule.UsesRun()
	}
	e.attempts++
}

// answers reports whether an evaluation still applies: the policies are the same, and so are the
// run's steps and spend if a condition reads them.
func (e *policyEvaluation) answers(set *policySet, facts *policies.Facts) bool {
	return e != nil && e.set == set &&
		(!e.usesRun || e.facts.Steps == facts.Steps && e.facts.Spent == facts.Spent)
}

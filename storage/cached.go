package storage

import (
	"bytes"
	"database/sql"
	"errors"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
)

// The kinds of rows in the cache. A row has the columns that decisions need.
// Columns that change are kept as absolute values, so that writing a row twice
// does no harm.

// nameKey is a name within a workspace: a user's external id or a model's name.
type nameKey struct {
	ws   WorkspaceKey
	text string
}

// workspace makes nameKey a rowKey; so do the methods of this name below.
func (n nameKey) workspace() WorkspaceKey { return n.ws }

// workspace makes WorkspaceKey the key of the workspaces themselves.
func (ws WorkspaceKey) workspace() WorkspaceKey { return ws }

// idKey is the internal id of a user, a model or an API key.
type idKey struct {
	ws WorkspaceKey
	id int64
}

// workspace makes idKey a rowKey.
func (k idKey) workspace() WorkspaceKey { return k.ws }

// cachedID is the id that a name stands for.
type cachedID struct {
	cached
	id int64
}

// save has nothing to write: an id never changes.
func (c *cachedID) save(*Tx) error { return nil }

// loadUserID finds the internal id of the caller's user: ErrNotFound if the workspace has not seen
// it.
func loadUserID(tx *Tx, n nameKey) (*cachedID, error) {
	return loadID(tx, `SELECT id FROM users WHERE workspace_id = $1 AND external_id = $2`, n)
}

// loadModelID finds the internal id of a model. Tools are models whose names begin with toolPrefix.
func loadModelID(tx *Tx, n nameKey) (*cachedID, error) {
	return loadID(tx, `SELECT id FROM models WHERE workspace_id = $1 AND name = $2`, n)
}

// loadID runs a query that finds an internal id by name.
func loadID(tx *Tx, query string, n nameKey) (*cachedID, error) {
	c := &cachedID{}
	return c, tx.get(query, []any{n.ws, n.text}, &c.id)
}

// cachedWorkspace is a workspace's rules, and the counter of its running runs.
type cachedWorkspace struct {
	cached
	key               WorkspaceKey
	plan              plans.Plan
	killSwitch        bool
	dailyBudget       plans.Budget
	userDailyBudget   plans.Budget
	maxConcurrentRuns int64
	priceCatalogue    bool
	trustsReports     bool // a cost that a provider reports is booked where no price is known
	refusesUnpriced   bool
	hasToolPrices     bool
	reviewsForAll     bool // also of clients that do not say that they can wait
	idleTimeout       time.Duration
	runningRuns       int64
	pendingReviews    int64
	policiesVersion   int64 // 0 when there never was a policy
	policySet         *policySet
	timezone          string
	weekStart         int64
	dates             calendar // of the two; see calendar
	subscribed        Events   // to events, by any of its endpoints
	minutesFrom       int64    // minute from which spend_minutes is kept
	spendFrom         int64    // and from which spend_quarter_hours is
	localFrom         int64    // UTC day from which dates of the zone are counted too; 0 for never
	lastBlock         int64    // of payloads
}

// loadWorkspace reads the settings and counters that a decision needs. The EXISTS tells whether any
// tool has a price, which spares a look-up for every tool call of the many workspaces that price
// none.
func loadWorkspace(tx *Tx, ws WorkspaceKey) (*cachedWorkspace, error) {
	w := &cachedWorkspace{key: ws}
	var planID plans.ID
	var daily, userDaily sql.NullInt64
	var idleSeconds int64
	err := tx.get(`SELECT plan, kill_switch, daily_budget_nanos, user_daily_budget_nanos,
			max_concurrent_runs, price_catalogue, trust_reported_cost, refuse_unpriced, running_runs, run_idle_timeout_seconds,
			minutes_from, spend_from, local_from, pending_reviews, policies_version, reviews_for_all, timezone, week_start,
			EXISTS (SELECT 1 FROM models WHERE workspace_id = $1 AND name >= 'tool:' AND name < 'tool;' AND is_active = 1),
			(SELECT coalesce(max(number), 0) FROM payload_blocks WHERE workspace_id = $1)
		FROM workspaces WHERE id = $1`, []any{ws},
		&planID, &w.killSwitch, &daily, &userDaily, &w.maxConcurrentRuns, &w.priceCatalogue, &w.trustsReports, &w.refusesUnpriced,
		&w.runningRuns, &idleSeconds, &w.minutesFrom, &w.spendFrom, &w.localFrom, &w.pendingReviews, &w.policiesVersion, &w.reviewsForAll,
		&w.timezone, &w.weekStart, &w.hasToolPrices, &w.lastBlock)
	if errors.Is(err, ErrNotFound) {
		err = missingRow("a workspace that there is a key or a run of")
	}
	if err != nil {
		return w, err
	}
	w.idleTimeout = time.Duration(idleSeconds) * time.Second
	w.dailyBudget, w.userDailyBudget = budgetOf(daily), budgetOf(userDaily)
	if w.subscribed, err = wantedEvents(tx, ws); err != nil {
		return w, err
	}
	w.plan, err = plans.ByID(planID)
	return w, err
}

// save writes the two counters that decisions change. The settings are changed by SQL, which then
// invalidates the row.
func (w *cachedWorkspace) save(tx *Tx) error {
	return tx.queueOne(`UPDATE workspaces SET running_runs = $2, pending_reviews = $3 WHERE id = $1`,
		w.key, w.runningRuns, w.pendingReviews)
}

// cachedKey is an API key, and when it ends.
type cachedKey struct {
	cached
	end keyEnd
}

// loadKey reads until when an API key is good. The hash is not needed here: the server has compared
// it, and the writer only checks that the key has not ended since.
func loadKey(tx *Tx, key idKey) (*cachedKey, error) {
	k := &cachedKey{}
	return k, tx.get(`SELECT revoked_at, expires_at FROM api_keys WHERE id = $1 AND workspace_id = $2`,
		[]any{key.id, key.ws}, &k.end.revokedAt, &k.end.expiresAt)
}

// save has nothing to write: keys are changed by SQL.
func (k *cachedKey) save(*Tx) error { return nil }

// cachedUser is an end user: whether blocked, and when and how often seen.
type cachedUser struct {
	cached
	id         int64
	blocked    bool
	runCount   int64
	lastSeenAt sql.NullInt64
}

// loadUser reads a user's block and counters.
func loadUser(tx *Tx, key idKey) (*cachedUser, error) {
	u := &cachedUser{id: key.id}
	err := tx.get(`SELECT blocked_at IS NOT NULL, run_count, last_seen_at FROM users WHERE id = $1 AND workspace_id = $2`,
		[]any{key.id, key.ws}, &u.blocked, &u.runCount, &u.lastSeenAt)
	return u, err
}

// save writes the user's counters. Blocking is done by SQL.
func (u *cachedUser) save(tx *Tx) error {
	return tx.queueOne(`UPDATE users SET run_count = $2, last_seen_at = $3 WHERE id = $1`, u.id, u.runCount, u.lastSeenAt)
}

// markSeen moves a user's last-seen time to now, and adds allowed runs.
func (u *cachedUser) markSeen(tx *Tx, runs int64) {
	u.runCount += runs
	u.lastSeenAt = sql.NullInt64{Int64: tx.now.UnixMilli(), Valid: true}
	tx.cache.markDirty(u)
}

// runKey names a run by the id that callers know.
type runKey struct {
	ws WorkspaceKey
	id uuid.UUID
}

// workspace makes runKey a rowKey: a run of another workspace is not found.
func (k runKey) workspace() WorkspaceKey { return k.ws }

// cachedRun is a run as its next call sees it.
type cachedRun struct {
	cached
	id, userID                     int64
	keyID                          KeyID // that started it; 0 when none did
	status                         RunStatus
	denyReason                     guard.Reason
	endedAt                        int64 // milliseconds; 0 while RUNNING
	endedBy                        EndedBy
	lastCallAt                     int64 // milliseconds
	stepCount, blockedStepCount    int64
	promptTokens, completionTokens int64
	spend                          int64 // nano-USD
	unpricedTokens                 int64
	callsWithoutUsage              int64
	burn                           burn
	statusChanged                  bool  // status or deny_reason, which are indexed
	gapsChanged                    bool  // unpricedTokens or callsWithoutUsage, which few runs have
	segment                        int64 // the latest in which it is listed; 0 when unknown
	openSteps                      []stepRow
	erased                         bool // its user is erased: no text is kept
	tags                           []Tag
	answered                       []int64 // models other than those asked for, some of them
	facts                          *runFacts
	historyChanged                 bool // facts.history
}

// Most steps are reported once, soon after they were allowed. So a run caches
// its latest steps, as they are stored, for that report. They are few and
// small, because there may be many runs.
const (
	maxOpenSteps   = 2
	maxOpenPayload = 512 // bytes
)

// cacheStep keeps an allowed step, but for an input that is large.
func (r *cachedRun) cacheStep(s stepRow) {
	if len(s.InputData) > maxOpenPayload {
		s.InputData = nil
	}
	s.InputData = bytes.Clone(s.InputData) // it may be a part of a request's body
	if len(r.openSteps) == maxOpenSteps {
		r.openSteps = append(r.openSteps[:0], r.openSteps[1:]...)
	}
	r.openSteps = append(r.openSteps, s)
}

// step finds a step of the run as it is stored, for a report.
func (r *cachedRun) step(tx *Tx, ws WorkspaceKey, id uuid.UUID, find segmentFinder) (stepRow, error) {
	for _, s := range r.openSteps {
		if s.ID == id {
			if s.InputData != nil {
				return s, nil
			}
			err := s.payloads.readToReport(tx, ws, &s.Step)
			return s, err
		}
	}
	segment, err := find(tx, r.id, id)
	if err != nil {
		return stepRow{}, err
	}
	s, err := readStep(tx, segment, r.id, id)
	if err == nil {
		err = s.payloads.readToReport(tx, ws, &s.Step)
	}
	return s, err
}

// rememberAnswer keeps that a step was answered by another model than it was
// asked of, so that the run is marked for the index once and not at each step.
func (r *cachedRun) rememberAnswer(model int64) {
	const most = 8
	if len(r.answered) < most && !slices.Contains(r.answered, model) {
		r.answered = append(r.answered, model)
	}
}

// evictStep drops a step, whose stored row has changed.
func (r *cachedRun) evictStep(id uuid.UUID) {
	r.openSteps = slices.DeleteFunc(r.openSteps, func(s stepRow) bool { return s.ID == id })
}

// loadRun reads a run with its counters. Whether its user was erased decides if texts may be
// stored; its tags are loaded with it because each booking posts to their days.
func loadRun(tx *Tx, key runKey) (*cachedRun, error) {
	r := &cachedRun{}
	var tagged bool
	err := tx.get(`SELECT id, user_id, coalesce(key_id, 0), status, coalesce(deny_reason, 0), coalesce(ended_at, 0), coalesce(ended_by, 0), last_call_at,
			step_count, blocked_step_count, prompt_tokens, completion_tokens, spend_nanos, unpriced_tokens, calls_without_usage,
			burn_minute, burn_nanos, burn_before_nanos,
			EXISTS (SELECT 1 FROM users u WHERE u.id = r.user_id AND u.erased_at IS NOT NULL),
			EXISTS (SELECT 1 FROM run_tags t WHERE t.run_id = r.id)
		FROM runs r WHERE workspace_id = $1 AND uuid = $2`, []any{key.ws, key.id[:]},
		&r.id, &r.userID, &r.keyID, &r.status, &r.denyReason, &r.endedAt, &r.endedBy, &r.lastCallAt,
		&r.stepCount, &r.blockedStepCount, &r.promptTokens, &r.completionTokens, &r.spend,
		&r.unpricedTokens, &r.callsWithoutUsage, &r.burn.minute, &r.burn.spend, &r.burn.before, &r.erased, &tagged)
	if err == nil && tagged {
		r.tags, err = loadTags(tx, r.id)
	}
	return r, err
}

// save leaves the indexed columns alone when they are as they were: naming
// them costs a page of each index.
func (r *cachedRun) save(tx *Tx) error {
	if r.statusChanged {
		r.statusChanged = false
		err := tx.queueOne(`UPDATE runs SET status = $2, deny_reason = $3, ended_at = $4, ended_by = $5 WHERE id = $1`, r.id,
			int64(r.status), nullZero(int64(r.denyReason)), nullZero(r.endedAt), nullZero(int64(r.endedBy)))
		if err != nil {
			return err
		}
	}
	if r.historyChanged {
		r.historyChanged = false
		if err := r.saveHistory(tx); err != nil {
			return err
		}
	}
	if r.gapsChanged {
		r.gapsChanged = false
		err := tx.queueOne(`UPDATE runs SET unpriced_tokens = $2, calls_without_usage = $3 WHERE id = $1`,
			r.id, r.unpricedTokens, r.callsWithoutUsage)
		if err != nil {
			return err
		}
	}
	return tx.queueOne(`UPDATE runs SET last_call_at = $2, step_count = $3, blocked_step_count = $4,
			prompt_tokens = $5, completion_tokens = $6, spend_nanos = $7,
			burn_minute = $8, burn_nanos = $9, burn_before_nanos = $10 WHERE id = $1`,
		r.id, r.lastCallAt, r.stepCount, r.blockedStepCount, r.promptTokens, r.completionTokens, r.spend,
		r.burn.minute, r.burn.spend, r.burn.before)
}

// dayKey names a UTC day of a workspace, counted from 1970-01-01.
type dayKey struct {
	ws  WorkspaceKey
	day int64
}

// workspace makes dayKey a rowKey, and with it the keys that embed it.
func (k dayKey) workspace() WorkspaceKey { return k.ws }

// cachedDay is what a workspace used on a day.
type cachedDay struct {
	cached
	dayKey
	spend, prompt, completion     int64
	unpricedTokens, unpricedSteps int64
	callsWithoutUsage             int64
	runs, blockedRuns             int64
	earlierRuns                   int64 // of the month, before this day; not a column
}

// loadDay reads a workspace's day, zero if it has no row yet, and sums up the month's earlier days
// for the monthly limit. That sum stays right while the day is cached only because no booking adds
// runs to an earlier day.
func loadDay(tx *Tx, key dayKey) (*cachedDay, error) {
	d := &cachedDay{dayKey: key}
	err := tx.get(`SELECT spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count,
			unpriced_tokens, unpriced_steps, calls_without_usage
		FROM workspace_days WHERE workspace_id = $1 AND day = $2`, []any{key.ws, key.day},
		&d.spend, &d.prompt, &d.completion, &d.runs, &d.blockedRuns,
		&d.unpricedTokens, &d.unpricedSteps, &d.callsWithoutUsage)
	if ignoreNotFound(err) != nil {
		return d, err
	}
	err = tx.get(`SELECT coalesce(sum(run_count), 0) FROM workspace_days
		WHERE workspace_id = $1 AND day >= $2 AND day < $3`, []any{key.ws, firstOfMonth(dayStart(key.day)), key.day}, &d.earlierRuns)
	return d, err
}

// save writes the whole row: the counters are those in the cache, not increments.
func (d *cachedDay) save(tx *Tx) error {
	return tx.queueOne(`INSERT INTO workspace_days
			(workspace_id, day, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count,
			unpriced_tokens, unpriced_steps, calls_without_usage)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
		ON CONFLICT (workspace_id, day) DO UPDATE SET spend_nanos = excluded.spend_nanos,
			prompt_tokens = excluded.prompt_tokens, completion_tokens = excluded.completion_tokens,
			run_count = excluded.run_count, blocked_run_count = excluded.blocked_run_count,
			unpriced_tokens = excluded.unpriced_tokens, unpriced_steps = excluded.unpriced_steps,
			calls_without_usage = excluded.calls_without_usage`,
		d.ws, d.day, d.spend, d.prompt, d.completion, d.runs, d.blockedRuns,
		d.unpricedTokens, d.unpricedSteps, d.callsWithoutUsage)
}

// partKey is a user's or a model's part of a workspace's day.
type partKey struct {
	dayKey
	id int64
}

// cachedUserDay is what a user's runs used on a day.
type cachedUserDay struct {
	cached
	partKey
	spend, runs int64
	unpriced    int64 // tokens
}

// loadUserDay reads a user's day, zero if it has no row.
func loadUserDay(tx *Tx, key partKey) (*cachedUserDay, error) {
	d := &cachedUserDay{partKey: key}
	err := tx.get(`SELECT spend_nanos, run_count, unpriced_tokens
		FROM user_days WHERE workspace_id = $1 AND day = $2 AND user_id = $3`,
		[]any{key.ws, key.day, key.id}, &d.spend, &d.runs, &d.unpriced)
	return d, ignoreNotFound(err)
}

// save writes the whole row.
func (d *cachedUserDay) save(tx *Tx) error {
	return tx.queueOne(`INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count, unpriced_tokens)
		VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace_id, day, user_id) DO UPDATE SET spend_nanos = excluded.spend_nanos,
			run_count = excluded.run_count, unpriced_tokens = excluded.unpriced_tokens`,
		d.ws, d.day, d.id, d.spend, d.runs, d.unpriced)
}

// cachedModelDay is what a model's calls used on a day.
type cachedModelDay struct {
	cached
	partKey
	spend, prompt, completion int64
	unpriced, unpricedSteps   int64 // tokens, and steps that used them
	callsWithoutUsage         int64
}

// loadModelDay reads a model's day, zero if it has no row.
func loadModelDay(tx *Tx, key partKey) (*cachedModelDay, error) {
	d := &cachedModelDay{partKey: key}
	err := tx.get(`SELECT spend_nanos, prompt_tokens, completion_tokens, unpriced_tokens, unpriced_steps, calls_without_usage
		FROM model_days WHERE workspace_id = $1 AND day = $2 AND model_id = $3`, []any{key.ws, key.day, key.id},
		&d.spend, &d.prompt, &d.completion, &d.unpriced, &d.unpricedSteps, &d.callsWithoutUsage)
	return d, ignoreNotFound(err)
}

// save writes the whole row.
func (d *cachedModelDay) save(tx *Tx) error {
	return tx.queueOne(`INSERT INTO model_days
			(workspace_id, day, model_id, spend_nanos, prompt_tokens, completion_tokens,
			unpriced_tokens, unpriced_steps, calls_without_usage)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (workspace_id, day, model_id)
		DO UPDATE SET spend_nanos = excluded.spend_nanos, prompt_tokens = excluded.prompt_tokens,
			completion_tokens = excluded.completion_tokens, unpriced_tokens = excluded.unpriced_tokens,
			unpriced_steps = excluded.unpriced_steps, calls_without_usage = excluded.calls_without_usage`,
		d.ws, d.day, d.id, d.spend, d.prompt, d.completion, d.unpriced, d.unpricedSteps, d.callsWithoutUsage)
}

// cachedKeyDay is what the runs that a key started used on a day.
type cachedKeyDay struct {
	cached
	partKey
	spend, prompt, completion int64
	runs, blockedRuns         int64
}

// loadKeyDay reads an API key's day, zero if it has no row.
func loadKeyDay(tx *Tx, key partKey) (*cachedKeyDay, error) {
	d := &cachedKeyDay{partKey: key}
	err := tx.get(`SELECT spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count
		FROM key_days WHERE workspace_id = $1 AND day = $2 AND key_id = $3`, []any{key.ws, key.day, key.id},
		&d.spend, &d.prompt, &d.completion, &d.runs, &d.blockedRuns)
	return d, ignoreNotFound(err)
}

// save writes the whole row.
func (d *cachedKeyDay) save(tx *Tx) error {
	return tx.queueOne(`INSERT INTO key_days
			(workspace_id, day, key_id, spend_nanos, prompt_tokens, completion_tokens, run_count, blocked_run_count)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (workspace_id, day, key_id)
		DO UPDATE SET spend_nanos = excluded.spend_nanos, prompt_tokens = excluded.prompt_tokens,
			completion_tokens = excluded.completion_tokens, run_count = excluded.run_count,
			blocked_run_count = excluded.blocked_run_count`,
		d.ws, d.day, d.id, d.spend, d.prompt, d.completion, d.runs, d.blockedRuns)
}

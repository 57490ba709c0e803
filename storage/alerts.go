package storage

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
)

// An alert is a notice of something that lasts: it is told once, and its end
// once. What crosses a limit is told in the transaction that crosses it; the
// rest CheckAlerts finds, once a minute.

// threshold is a limit of which more has just been used.
type threshold struct {
	subject       string // the alert's: '' for the workspace's daily budget
	window        int64  // number of the day, or of another window, in which it is told once
	amount        int64  // the limit
	before, after int64  // what was used of it
	user          int64  // whom data names, as in a notice
	// data names the limit; asked when there is something to tell.
	data func() (attributes, error)
}

// levelOf is the highest percentage that is told of which at least so much is used; 0 for none.
func levelOf(used, amount int64) int64 {
	for _, percent := range [...]int64{100, 80, 50} {
		part := amount/100*percent + (amount%100*percent+99)/100 // rounded up, and never too large
		if amount > 0 && used >= part {
			return percent
		}
	}
	return 0
}

// notifyThreshold tells that half, most or all of a limit is used, once each in
// a window. It is called before counters move, as notify is.
func (tx *Tx) notifyThreshold(ws *cachedWorkspace, t threshold) error {
	level := levelOf(t.after, t.amount)
	if level <= levelOf(t.before, t.amount) || !ws.subscribesTo(BudgetThreshold) {
		return nil
	}
	told, err := readAlert(tx, ws.key, BudgetThreshold, t.subject)
	if err != nil || told.day == t.window && told.amount == t.amount && told.level >= level {
		return err
	}
	data, err := t.data()
	if err != nil {
		return err
	}
	data["status"], data["percent"] = statusFiring, level
	err = saveAlert(tx, ws.key, BudgetThreshold, t.subject, alert{day: t.window, level: level, amount: t.amount})
	if err != nil {
		return err
	}
	return tx.notify(ws.key, notification{kind: BudgetThreshold, user: t.user, data: data})
}

// What notices of something that lasts say of it.
const (
	statusFiring   = "firing"
	statusResolved = "resolved"
)

// notifyUpdate tells what a step's update brings about: a budget of today that
// is used, a model without a price. It is called before the counters move.
func (tx *Tx) notifyUpdate(ws *cachedWorkspace, r *cachedRun, row stepRow, posts postings) error {
	if ws.subscribed == 0 {
		return nil
	}
	if posts.firstUnpriced() {
		if err := tx.notifyUnpriced(ws, row); err != nil {
			return err
		}
	}
	if !ws.subscribesTo(BudgetThreshold) {
		return nil
	}
	var more int64
	var of posting
	for _, p := range posts.list[:posts.n] {
		if p.day.day == dayOf(tx.now) {
			more, of = more+p.spend, p
		}
	}
	if more <= 0 {
		return nil
	}
	if err := tx.notifyWorkspaceBudget(ws, of.day.spend, of.day.spend+more); err != nil {
		return err
	}
	return tx.notifyUserBudget(ws, r.userID, of.userDay.spend, of.userDay.spend+more)
}

// notifyUserBudget tells of a user's daily budget what has been spent of it today.
func (tx *Tx) notifyUserBudget(ws *cachedWorkspace, user, before, after int64) error {
	budget := ws.userDailyBudget
	if !budget.Set {
		return nil
	}
	return tx.notifyThreshold(ws, threshold{
		subject: userSubject(user), window: dayOf(tx.now), user: user, amount: int64(budget.Limit), before: before, after: after,
		data: func() (attributes, error) { return userBudgetAttributes(tx, ws.key, user, budget.Limit, after) },
	})
}

// notifyWorkspaceBudget tells of a workspace's daily budget what has been spent of it today.
func (tx *Tx) notifyWorkspaceBudget(ws *cachedWorkspace, before, after int64) error {
	if !ws.dailyBudget.Set {
		return nil
	}
	return tx.notifyThreshold(ws, threshold{
		window: dayOf(tx.now), amount: int64(ws.dailyBudget.Limit), before: before, after: after,
		data: func() (attributes, error) { return budgetAttributes(tx, ws.dailyBudget.Limit, after), nil },
	})
}

// budgetAttributes are what notices say of a workspace's daily budget.
func budgetAttributes(tx *Tx, limit plans.Money, spent int64) attributes {
	return attributes{
		"budget": "daily_budget_usd", "limit_usd": limit, "spent_usd": plans.Money(spent),
		"resets_at": shownTime(dayStart(dayOf(tx.now) + 1)),
	}
}

// userBudgetAttributes are the same for a user's.
func userBudgetAttributes(tx *Tx, ws WorkspaceKey, user int64, limit plans.Money, spent int64) (attributes, error) {
	data := budgetAttributes(tx, limit, spent)
	var name string
	err := tx.get(`SELECT external_id FROM users WHERE workspace_id = $1 AND id = $2`, []any{ws, user}, &name)
	data["budget"], data["user_id"] = "user_daily_budget_usd", name
	return data, err
}

// maxUnpricedNotices is how many models without a price are told of in an hour:
// an agent may make up names.
const maxUnpricedNotices = 10

// notifyUnpriced queues a notification that a model without a price was used. An agent that tries
// one model after another gets a few of them an hour, not one for each.
func (tx *Tx) notifyUnpriced(ws *cachedWorkspace, row stepRow) error {
	if !ws.subscribesTo(UnpricedModelUsed) {
		return nil
	}
	n, err := tx.countRecentDeliveries(ws.key, UnpricedModelUsed, time.Hour)
	if err != nil || n >= maxUnpricedNotices {
		return err
	}
	return tx.notify(ws.key, notification{kind: UnpricedModelUsed, data: attributes{"model": row.Model, "tokens": row.used.tokens()}})
}

// rates are how fast a workspace spends.
type rates struct {
	hour  int64        // nano-USD in the last 60 minutes
	usual *plans.Money // a minute, at this hour; nil while that is not known
}

// perMinute is the average of the last hour.
func (r rates) perMinute() int64 { return r.hour / minutesPerHour }

// readRates reads rollups alone.
func (s *Store) readRates(ctx context.Context, ws WorkspaceKey) (r rates, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		minutes, err := lastMinutes(tx, ws)
		if err != nil {
			return err
		}
		r = rates{}
		for _, m := range minutes {
			r.hour += int64(m.Spend)
		}
		var b Burn
		err = b.compare(tx, ws)
		r.usual = b.Usual
		return err
	})
	return r, err
}

// CheckAlerts tells of budgets that will be spent today at the rate of the last
// hour, of spending that is far above the usual, of limits that were lowered
// below what is spent, and of the end of what was told. It is to be called once
// a minute.
func (s *Store) CheckAlerts(ctx context.Context) error {
	workspaces, err := s.alertedWorkspaces(ctx)
	if err != nil {
		return fmt.Errorf("find what to watch: %w", err)
	}
	for _, key := range workspaces {
		r, err := s.readRates(ctx, key)
		if err == nil {
			err = s.runUpkeep(ctx, key, modeCached, func(tx *Tx) (bool, error) { return false, checkAlerts(tx, key, r) })
		}
		if err == nil {
			err = s.checkUserBudgets(ctx, key)
		}
		if err == nil {
			err = s.checkLimits(ctx, key)
		}
		if err != nil {
			return fmt.Errorf("check the alerts of a workspace: %w", err)
		}
	}
	return nil
}

// checkUserBudgets is checkWorkspaceBudget for those of users.
func (s *Store) checkUserBudgets(ctx context.Context, ws WorkspaceKey) error {
	users, err := s.overForUsers(ctx, ws)
	if err != nil {
		return err
	}
	of := func(int64) WorkspaceKey { return ws }
	return runUpkeepEach(ctx, s, modeCached, users, of, func(tx *Tx, user int64) error { return tx.checkUserBudget(ws, user) })
}

// alertedWorkspaces lists those with an endpoint or an alert.
func (s *Store) alertedWorkspaces(ctx context.Context) (all []WorkspaceKey, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT workspace_id FROM endpoints WHERE off_at IS NULL UNION SELECT workspace_id FROM alerts`, nil,
			func(rows scanner) error {
				var ws WorkspaceKey
				err := rows.Scan(&ws)
				all = append(all, ws)
				return err
			})
	})
	return all, err
}

// checkAlerts compares a workspace's spend with its budget, its forecast and its usual hours. It
// runs once a minute in the background: a decision must not wait for it.
func checkAlerts(tx *Tx, key WorkspaceKey, r rates) error {
	ws, err := tx.cache.workspaces.get(tx, key)
	if err != nil {
		return err
	}
	day, err := tx.cache.days.get(tx, dayKey{key, dayOf(tx.now)})
	if err != nil {
		return err
	}
	return errors.Join(tx.checkWorkspaceBudget(ws), tx.checkForecast(ws, day, r), tx.checkSpike(ws, r))
}

// checkForecast tells once a day of a budget that will be spent before its end,
// and once that it will not after all.
func (tx *Tx) checkForecast(ws *cachedWorkspace, day *cachedDay, r rates) error {
	told, err := readAlert(tx, ws.key, BudgetForecast, "")
	if err != nil {
		return err
	}
	if told.day != 0 && told.day < day.day {
		return deleteAlert(tx, ws.key, BudgetForecast, "")
	}
	rate, limit := r.perMinute(), int64(ws.dailyBudget.Limit)
	if !ws.dailyBudget.Set || day.spend >= limit {
		return nil
	}
	left := int64(dayStart(day.day+1).Sub(tx.now) / time.Minute)
	data := budgetAttributes(tx, ws.dailyBudget.Limit, day.spend)
	data["usd_per_minute"] = plans.Money(rate)
	switch {
	case told.amount != limit && rate > 0 && (limit-day.spend)/rate < left && ws.subscribesTo(BudgetForecast):
		reached := tx.now.Add(time.Duration((limit-day.spend)/rate) * time.Minute)
		data["status"], data["reached_at"] = statusFiring, shownTime(reached)
		err = saveAlert(tx, ws.key, BudgetForecast, "", alert{day: day.day, level: 1, amount: limit})
	case told.level == 1 && (rate == 0 || (limit-day.spend)/rate > left+left/4):
		data["status"] = statusResolved
		err = saveAlert(tx, ws.key, BudgetForecast, "", alert{day: day.day, amount: told.amount})
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return tx.notify(ws.key, notification{kind: BudgetForecast, data: data})
}

// A spike is spikeFactor times the usual, and at least spikeFloor in an hour. It
// is over at half of that.
const (
	spikeFactor = 5
	spikeFloor  = int64(plans.USD)
)

// checkSpike tells of an hour's spending that is far above what is usual at this hour.
func (tx *Tx) checkSpike(ws *cachedWorkspace, r rates) error {
	told, err := readAlert(tx, ws.key, SpendSpike, "")
	if err != nil || r.usual == nil {
		return err
	}
	usual := int64(*r.usual) * minutesPerHour
	data := attributes{"usd_per_hour": plans.Money(r.hour), "usual_usd_per_hour": plans.Money(usual)}
	switch {
	case told.day == 0 && r.hour >= spikeFloor && r.hour/spikeFactor >= usual && ws.subscribesTo(SpendSpike):
		data["status"] = statusFiring
		if usual > 0 {
			data["factor"] = r.hour / usual
		}
		err = saveAlert(tx, ws.key, SpendSpike, "", alert{day: dayOf(tx.now)})
	case told.day != 0 && (r.hour < spikeFloor/2 || r.hour/spikeFactor < usual/2):
		data["status"] = statusResolved
		err = deleteAlert(tx, ws.key, SpendSpike, "")
	default:
		return nil
	}
	if err != nil {
		return err
	}
	return tx.notify(ws.key, notification{kind: SpendSpike, data: data})
}

// checkWorkspaceBudget compares what was told of the workspace's daily budget
// with what holds now: the day may be over, or the budget another one.
func (tx *Tx) checkWorkspaceBudget(ws *cachedWorkspace) error {
	day, err := tx.cache.days.get(tx, dayKey{ws.key, dayOf(tx.now)})
	if err != nil {
		return err
	}
	if err := tx.resolveThreshold(ws, "", ws.dailyBudget, day.spend, 0); err != nil {
		return err
	}
	return tx.notifyWorkspaceBudget(ws, 0, day.spend)
}

// overForUsers lists the users of whose daily budget something was told that may no longer hold.
func (s *Store) overForUsers(ctx context.Context, ws WorkspaceKey) (users []int64, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		w, err := workspace(tx, ws)
		if err != nil {
			return err
		}
		return tx.each(`SELECT subject FROM alerts WHERE workspace_id = $1 AND event = $2 AND subject LIKE 'user:%'
			AND (day < $3 OR amount <> $4)`,
			[]any{ws, int64(BudgetThreshold), dayOf(tx.now), int64(w.UserDailyBudget.Limit)}, func(rows scanner) error {
				var subject string
				if err := rows.Scan(&subject); err != nil {
					return err
				}
				id, err := strconv.ParseInt(strings.TrimPrefix(subject, "user:"), 10, 64)
				users = append(users, id)
				return err
			})
	})
	return users, err
}

// checkUserBudget is called when a user's spend has moved. It resolves a threshold that no longer
// holds, after a higher budget for instance, before it looks for one that is newly reached.
func (tx *Tx) checkUserBudget(key WorkspaceKey, user int64) error {
	ws, err := tx.cache.workspaces.get(tx, key)
	if err != nil {
		return err
	}
	day, err := tx.cache.userDays.get(tx, partKey{dayKey{key, dayOf(tx.now)}, user})
	if err != nil {
		return err
	}
	if err := tx.resolveThreshold(ws, userSubject(user), ws.userDailyBudget, day.spend, user); err != nil {
		return err
	}
	return tx.notifyUserBudget(ws, user, 0, day.spend)
}

// resolveThreshold tells that less of a daily budget is used now than was told, if
// so: the day is over, or there is more room.
func (tx *Tx) resolveThreshold(ws *cachedWorkspace, subject string, budget plans.Budget, spent, user int64) error {
	a, err := readAlert(tx, ws.key, BudgetThreshold, subject)
	if err != nil || a.day == 0 {
		return err
	}
	today, reason := dayOf(tx.now), "limit_changed"
	level := int64(0)
	if budget.Set {
		level = levelOf(spent, int64(budget.Limit))
	}
	switch {
	case a.day < today:
		reason = "window_over"
	case level >= a.level:
		return nil
	case budget.Set && a.amount == int64(budget.Limit):
		reason = "spend_corrected"
	}
	data := budgetAttributes(tx, budget.Limit, spent)
	if user != 0 {
		if data, err = userBudgetAttributes(tx, ws.key, user, budget.Limit, spent); err != nil {
			return err
		}
	}
	if !budget.Set {
		data["limit_usd"] = nil
	}
	data["status"], data["percent"], data["reason"] = statusResolved, a.level, reason
	if a.day == today && level > 0 { // what is left of it was told as well
		err = saveAlert(tx, ws.key, BudgetThreshold, subject, alert{day: today, level: level, amount: int64(budget.Limit)})
	} else {
		err = deleteAlert(tx, ws.key, BudgetThreshold, subject)
	}
	if err != nil {
		return err
	}
	return tx.notify(ws.key, notification{kind: BudgetThreshold, user: user, data: data})
}

// endlessWindow is the alert's window of a limit that never ends or rolls.
const endlessWindow = 1

// windowNumber is the alert's window of a limit.
func windowNumber(l *policies.Limit, resetsAt time.Time) int64 {
	if l.Rolling || resetsAt.IsZero() {
		return endlessWindow
	}
	return resetsAt.UnixMilli()
}

// notifyLimit tells that half, most or all of a policy's limit is used by one value of its scope,
// in the transaction in which it is. A limit of a run is told of when it is reached: each run
// begins a window of its own.
func (tx *Tx) notifyLimit(ws *cachedWorkspace, p *policies.Policy, k limitKey, resetsAt time.Time, before, after int64) error {
	if ws.subscribed == 0 || p.Limit.Window == policies.WindowRun && after < p.Limit.Amount {
		return nil
	}
	return tx.notifyThreshold(ws, threshold{
		subject: limitSubject(k), window: windowNumber(p.Limit, resetsAt), user: limitUser(p.Limit, k.scope),
		amount: p.Limit.Amount, before: before, after: after,
		data: func() (attributes, error) { return limitAttributes(tx, ws.key, p, k.scope, after, resetsAt) },
	})
}

// limitUser is the internal id of the user that a limit counts for; 0 where it counts by something
// else.
func limitUser(l *policies.Limit, scope string) int64 {
	if l.Per != "user" || l.Window == policies.WindowRun {
		return 0
	}
	id, err := strconv.ParseInt(scope, 10, 64)
	if err != nil {
		return 0 // another policy's, from before it was changed
	}
	return id
}

// limitSubject is the subject of the alerts of a limit. A user is in it by the internal id.
func limitSubject(k limitKey) string {
	return fmt.Sprintf("limit:%d:%d:%s", k.policy, k.countsFrom, k.scope)
}

// limitAttributes are what notices say of a policy's limit.
func limitAttributes(tx *Tx, ws WorkspaceKey, p *policies.Policy, scope string, used int64, resetsAt time.Time) (attributes, error) {
	u := PolicyUse{Scope: scope}
	if limitUser(p.Limit, scope) != 0 {
		if err := u.nameUser(tx, ws); err != nil {
			return nil, err
		}
	}
	data := attributes{"policy_name": p.Name, "measure": p.Limit.Measure.String(), "scope": u.Scope}
	if p.Limit.Measure == policies.MeasureUSD {
		data["limit_usd"], data["spent_usd"] = plans.Money(p.Limit.Amount), plans.Money(used)
	} else {
		data["limit"], data["used"] = p.Limit.Amount, used
	}
	if !p.Limit.Rolling && !resetsAt.IsZero() {
		data["resets_at"] = shownTime(resetsAt)
	}
	return data, nil
}

// alert is what was told of something that lasts.
type alert struct{ day, level, amount int64 }

// readAlert reads what was told; zero for nothing.
func readAlert(tx *Tx, ws WorkspaceKey, kind EventKind, subject string) (a alert, err error) {
	err = tx.get(`SELECT day, level, amount FROM alerts WHERE workspace_id = $1 AND event = $2 AND subject = $3`,
		[]any{ws, int64(kind), subject}, &a.day, &a.level, &a.amount)
	return a, ignoreNotFound(err)
}

// saveAlert remembers what the workspace was last notified of, so that a threshold is reported once
// a day and not with every step beyond it.
func saveAlert(tx *Tx, ws WorkspaceKey, kind EventKind, subject string, a alert) error {
	_, err := tx.exec(`INSERT INTO alerts (workspace_id, event, subject, day, level, amount) VALUES ($1, $2, $3, $4, $5, $6)
		ON CONFLICT (workspace_id, event, subject)
		DO UPDATE SET day = excluded.day, level = excluded.level, amount = excluded.amount`,
		ws, int64(kind), subject, a.day, a.level, a.amount)
	return err
}

package storage

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/policies"
)

// MaxPolicies is how many policies a workspace may have.
const MaxPolicies = 1000

// ErrTooManyPolicies says that a workspace has MaxPolicies already.
var ErrTooManyPolicies = errors.New("too many policies")

// policySet is the policies of a workspace, compiled.
type policySet struct {
	*policies.Set
	countsFrom map[int64]int64          // by policy: the version from which its limit counts
	rules      map[int64]*policies.Rule // by policy
}

// policySets holds compiled policies by workspace and version. A version never
// changes what it says, so an entry is right for ever. They are compiled outside
// of the writer; see policyEvaluation.
type policySets = lru.Cache[policySetKey, *policySet]

// policySetKey names a state of a workspace's policies. A change makes a new version, so a set in
// the cache is never outdated, only unused.
type policySetKey struct {
	ws      WorkspaceKey
	version int64
}

// policySetsKept is for how many workspaces compiled policies are kept.
const policySetsKept = 1024

// newPolicySets returns an empty cache of compiled policies, which readers share with the writer.
func newPolicySets() *policySets {
	sets, err := lru.New[policySetKey, *policySet](policySetsKept)
	if err != nil {
		panic(err) // the size is positive
	}
	return sets
}

// compile reads and compiles the policies of a workspace as they are.
func (s *Store) compile(ctx context.Context, ws WorkspaceKey) error {
	var version int64
	set := &policySet{countsFrom: make(map[int64]int64)}
	var list []StoredPolicy
	err := s.read(ctx, func(tx *Tx) (err error) {
		if err := tx.get(`SELECT policies_version FROM workspaces WHERE id = $1`, []any{ws}, &version); err != nil {
			return err
		}
		list, err = readPolicies(tx, ws, "")
		return err
	})
	if err != nil {
		return err
	}
	all := make([]policies.Policy, len(list))
	for i, p := range list {
		all[i], set.countsFrom[p.ID] = p.Policy, p.countsFrom
	}
	if set.Set, err = policies.Compile(all); err != nil {
		return fmt.Errorf("compile the policies: %v", err) // not %w: they were checked when they were saved
	}
	set.rules = make(map[int64]*policies.Rule, set.Len())
	for _, rule := range set.Rules() {
		set.rules[rule.ID] = rule
	}
	s.policySets.Add(policySetKey{ws, version}, set)
	return nil
}

// StoredPolicy is a policy, and when and by whom it was last changed.
type StoredPolicy struct {
	policies.Policy
	ChangedAt  time.Time
	ChangedBy  string // "" for nobody with a name
	Use        []PolicyUse
	Hits       PolicyHits
	Reviewed   ReviewStats // zero where nobody has been asked
	countsFrom int64
}

// PolicyHits is how often a policy has objected in the last week, by what came of it.
type PolicyHits struct {
	Logged, Reviewed, Denied, Granted int64
}

// ReviewStats is how people have answered what a policy has asked of late.
type ReviewStats struct {
	Ended, Approved, Expired int64
	Verdict                  time.Duration // how long half of the verdicts have taken at most
	// HastyApprovals is how many there are where the latest verdicts are nothing
	// else, given to the policy as it is; 0 otherwise.
	HastyApprovals int64
}

// PolicyVersion is what a policy said in one of its versions.
type PolicyVersion struct {
	Version    int64
	Definition []byte // JSON; nil where the version is its deletion
	ChangedAt  time.Time
	ChangedBy  string
}

// readPolicies reads the policies of a workspace, or the one of a name.
func readPolicies(tx *Tx, ws WorkspaceKey, only string) (list []StoredPolicy, err error) {
	query, args := `SELECT p.id, p.name, p.version, p.counts_from, v.definition, v.changed_at, coalesce(v.changed_by, '')
		FROM policies p JOIN policy_versions v ON v.policy_id = p.id AND v.version = p.version
		WHERE p.workspace_id = $1 AND p.is_deleted = 0`, []any{ws}
	if only != "" {
		query, args = query+` AND p.name = $2`, append(args, only)
	}
	err = tx.each(query+` ORDER BY p.name`, args, func(rows scanner) error {
		var p StoredPolicy
		var id, version, changed int64
		var name, definition string
		if err := rows.Scan(&id, &name, &version, &p.countsFrom, &definition, &changed, &p.ChangedBy); err != nil {
			return err
		}
		if p.Policy, err = parsePolicy(name, definition); err != nil {
			return err
		}
		p.ID, p.Version, p.ChangedAt = id, version, time.UnixMilli(changed).UTC()
		list = append(list, p)
		return nil
	})
	slices.SortStableFunc(list, func(a, b StoredPolicy) int { return int(a.Priority - b.Priority) })
	return list, err
}

// Policies lists a workspace's policies in the order in which they are asked,
// each with what is used of its limit now, and what it has done of late.
func (s *Store) Policies(ctx context.Context, ws WorkspaceKey) (list []StoredPolicy, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		if list, err = readPolicies(tx, ws, ""); err != nil || len(list) == 0 {
			return err
		}
		return addFigures(tx, ws, list)
	})
	return list, err
}

// Policy reads one policy. ErrNotFound when there is none of the name.
func (s *Store) Policy(ctx context.Context, ws WorkspaceKey, name string) (p StoredPolicy, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		list, err := readPolicies(tx, ws, name)
		if err == nil && len(list) == 0 {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		err = addFigures(tx, ws, list)
		p = list[0]
		return err
	})
	return p, err
}

// addPolicyUse adds to policies what is used of their limits now.
func addPolicyUse(tx *Tx, ws WorkspaceKey, list []StoredPolicy) error {
	calendar, err := readCalendar(tx, ws)
	for i := range list {
		if err == nil {
			list[i].Use, err = policyUse(tx, ws, calendar, list[i])
		}
	}
	return err
}

// addFigures adds to policies what is used of their limits, and what they have done of late.
func addFigures(tx *Tx, ws WorkspaceKey, list []StoredPolicy) error {
	if err := addPolicyUse(tx, ws, list); err != nil {
		return err
	}
	hits, err := policyHits(tx, ws)
	for i := range list {
		p := &list[i]
		p.Hits = hits[p.ID]
		if err == nil {
			p.Reviewed, err = reviewStats(tx, ws, p.ID, p.Version)
		}
	}
	return err
}

// countHit counts that a policy has objected.
func countHit(tx *Tx, ws WorkspaceKey, policy, outcome int64) error {
	err := tx.queue(`INSERT INTO policy_days (workspace_id, day, policy_id, outcome, hit_count) VALUES ($1, $2, $3, $4, 1)
		ON CONFLICT (workspace_id, day, policy_id, outcome) DO UPDATE SET hit_count = policy_days.hit_count + 1`,
		ws, dayOf(tx.now), policy, outcome)
	return err
}

// hitDays is over how many days, of which today is the last, hits are added up.
const hitDays = 7

// policyHits adds up how often the policies of a workspace have objected of late.
func policyHits(tx *Tx, ws WorkspaceKey) (map[int64]PolicyHits, error) {
	all := make(map[int64]PolicyHits)
	err := tx.each(`SELECT policy_id, outcome, hit_count FROM policy_days WHERE workspace_id = $1 AND day > $2`,
		[]any{ws, dayOf(tx.now) - hitDays}, func(rows scanner) error {
			var policy, outcome, n int64
			err := rows.Scan(&policy, &outcome, &n)
			h := all[policy]
			switch outcome {
			case outcomeLogged:
				h.Logged += n
			case outcomeReview:
				h.Reviewed += n
			case outcomeDenied:
				h.Denied += n
			case outcomeGranted:
				h.Granted += n
			}
			all[policy] = h
			return err
		})
	return all, err
}

// PolicyVersions lists what a policy has said, the newest version first.
// ErrNotFound when there never was one of the name.
func (s *Store) PolicyVersions(ctx context.Context, ws WorkspaceKey, name string) (list []PolicyVersion, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		p, err := findPolicy(tx, ws, name)
		if err != nil {
			return err
		}
		return tx.each(`SELECT version, definition, changed_at, coalesce(changed_by, '') FROM policy_versions
			WHERE policy_id = $1 ORDER BY version DESC`, []any{p.id}, func(rows scanner) error {
			var v PolicyVersion
			var definition sql.NullString
			var changed int64
			err := rows.Scan(&v.Version, &definition, &changed, &v.ChangedBy)
			v.Definition, v.ChangedAt = jsonOf(definition), time.UnixMilli(changed).UTC()
			list = append(list, v)
			return err
		})
	})
	return list, err
}

// policyRow is a policy as it is stored, deleted or not.
type policyRow struct {
	id, version, countsFrom int64
	definition              []byte // nil when it is deleted
}

// findPolicy reads a policy's current version by its name. A deleted one is found too, with a nil
// definition: its name may be used again, and its versions go on.
func findPolicy(tx *Tx, ws WorkspaceKey, name string) (p policyRow, err error) {
	var definition sql.NullString
	err = tx.get(`SELECT p.id, p.version, p.counts_from, v.definition
		FROM policies p JOIN policy_versions v ON v.policy_id = p.id AND v.version = p.version
		WHERE p.workspace_id = $1 AND p.name = $2`, []any{ws, name}, &p.id, &p.version, &p.countsFrom, &definition)
	p.definition = jsonOf(definition)
	return p, err
}

// SavePolicy makes or replaces a policy, in force for the very next decision.
// Its limit goes on counting where it counts the same things as before, and
// else begins anew. Reviews that wait because of what it said are superseded.
func (s *Store) SavePolicy(ctx context.Context, ws WorkspaceKey, p policies.Policy) (StoredPolicy, error) {
	definition, err := json.Marshal(p)
	if err != nil {
		return StoredPolicy{}, fmt.Errorf("write policy %q: %w", p.Name, err)
	}
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionSetPolicy, target: p.Name}
		row, err := findPolicy(tx, ws, p.Name)
		if ignoreNotFound(err) != nil {
			return event, err
		}
		if row.definition == nil {
			if err := roomForPolicy(tx, ws); err != nil {
				return event, err
			}
		} else if event.before, err = policyAttributes(row.definition); err != nil {
			return event, err
		}
		if event.after, err = policyAttributes(definition); err != nil || bytes.Equal(row.definition, definition) {
			return event, err
		}
		same := false
		if row.definition != nil {
			was, err := parsePolicy(p.Name, string(row.definition))
			if err != nil {
				return event, err
			}
			same = countsSame(was, p)
		}
		if row.version++; !same {
			row.countsFrom = row.version
		}
		return event, saveVersion(tx, ws, p.Name, row, definition, actorOf(ctx))
	})
	if err != nil {
		return StoredPolicy{}, err
	}
	return s.Policy(ctx, ws, p.Name)
}

// DeletePolicy ends a policy; its versions and denials stay. ErrNotFound when there is none.
func (s *Store) DeletePolicy(ctx context.Context, ws WorkspaceKey, name string) error {
	return s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionDeletePolicy, target: name}
		row, err := findPolicy(tx, ws, name)
		if err == nil && row.definition == nil {
			err = ErrNotFound
		}
		if err != nil {
			return event, err
		}
		if event.before, err = policyAttributes(row.definition); err != nil {
			return event, err
		}
		row.version++
		return event, saveVersion(tx, ws, name, row, nil, actorOf(ctx))
	})
}

// roomForPolicy returns ErrTooManyPolicies if the workspace has as many as it may.
func roomForPolicy(tx *Tx, ws WorkspaceKey) error {
	var n int64
	err := tx.get(`SELECT count(*) FROM policies WHERE workspace_id = $1 AND is_deleted = 0`, []any{ws}, &n)
	if err == nil && n >= MaxPolicies {
		err = ErrTooManyPolicies
	}
	return err
}

// countsSame reports whether two versions of a policy count the same things in
// the same windows, so that what was used of the one is used of the other.
func countsSame(a, b policies.Policy) bool {
	if a.Limit == nil || b.Limit == nil {
		return a.Limit == b.Limit
	}
	a.Limit, b.Limit = new(*a.Limit), new(*b.Limit)
	a.Limit.Amount, b.Limit.Amount = 0, 0
	for _, p := range []*policies.Policy{&a, &b} {
		*p = policies.Policy{Name: p.Name, Match: p.Match, When: p.When, Limit: p.Limit, Effect: policies.Deny}
	}
	left, leftErr := json.Marshal(a)
	right, rightErr := json.Marshal(b)
	return leftErr == nil && rightErr == nil && bytes.Equal(left, right)
}

// saveVersion writes a policy's newest version, of which no definition is its deletion.
func saveVersion(tx *Tx, ws WorkspaceKey, name string, row policyRow, definition []byte, actor Actor) error {
	err := tx.get(`INSERT INTO policies (workspace_id, name, version, counts_from, is_deleted) VALUES ($1, $2, $3, $4, $5)
		ON CONFLICT (workspace_id, name) DO UPDATE SET version = excluded.version, counts_from = excluded.counts_from,
			is_deleted = excluded.is_deleted RETURNING id`,
		[]any{ws, name, row.version, row.countsFrom, boolInt(definition == nil)}, &row.id)
	if err != nil {
		return err
	}
	if err := actor.lookUpName(tx); err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO policy_versions (policy_id, version, definition, changed_at, changed_by) VALUES ($1, $2, $3, $4, $5)`,
		row.id, row.version, nullJSON(definition), tx.now.UnixMilli(), nullString(actor.Name))
	if err != nil {
		return err
	}
	if err := tx.execOne(`UPDATE workspaces SET policies_version = policies_version + 1 WHERE id = $1`, ws); err != nil {
		return err
	}
	tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartPolicies})
	closing, err := closeReviews(tx, ws, Superseded, `v.policy_id = $2`, row.id)
	closing.apply(tx)
	return err
}

// policyAttributes is what the audit log says of a policy.
func policyAttributes(definition []byte) (a attributes, err error) {
	if err := json.Unmarshal(definition, &a); err != nil {
		return nil, fmt.Errorf("read a policy for the audit log: %w", err)
	}
	return a, nil
}

// parsePolicy reads a definition that was checked when it was saved.
func parsePolicy(name, definition string) (policies.Policy, error) {
	p, err := policies.ParseStored(name, []byte(definition))
	if err != nil {
		err = fmt.Errorf("read policy %q: %v", name, err) // not %w: it is no caller's mistake
	}
	return p, err
}

// policyMessage is the message of a definition; "" of a policy that is gone.
func policyMessage(name string, definition sql.NullString) (string, error) {
	if !definition.Valid {
		return "", nil
	}
	p, err := parsePolicy(name, definition.String)
	return p.Message, err
}

// readPolicy names the policy of a recorded decision, where it has one.
func readPolicy(tx *Tx, runID int64, step []byte, d *guard.Decision) error {
	if !d.Reason.IsPolicy() {
		return nil
	}
	var name string
	var version int64
	var definition sql.NullString
	err := tx.get(`SELECT p.name, d.policy_version, v.definition FROM denials d JOIN policies p ON p.id = d.policy_id
		LEFT JOIN policy_versions v ON v.policy_id = d.policy_id AND v.version = d.policy_version
		WHERE d.run_id = $1 AND d.step_uuid = $2`, []any{runID, step}, &name, &version, &definition)
	if err != nil {
		return err
	}
	d.Policy = &guard.Policy{Name: name, Version: version}
	if !definition.Valid {
		return nil
	}
	p, err := parsePolicy(name, definition.String)
	if err != nil {
		return err
	}
	d.Policy.Message = p.Message
	d.Policy.Money = d.Reason == guard.PolicyLimitExceeded && p.Limit != nil && p.Limit.Measure == policies.MeasureUSD
	return nil
}

// notifyUsed is notifyLimit for what a step uses of a limit that counts it, if its window is the
// one that is now.
func (tx *Tx) notifyUsed(ws *cachedWorkspace, l stepLimit, n int64) error {
	if n <= 0 || tx.reader || !ws.subscribesTo(BudgetThreshold) {
		return nil
	}
	p, err := ws.countingPolicy(tx, l.limitKey)
	if p == nil || err != nil {
		return err
	}
	c, err := ws.calendar()
	if err != nil {
		return err
	}
	first, current, next := c.buckets(p.Limit, &policies.Facts{Now: tx.now, StartedAt: time.UnixMilli(l.bucket)})
	k, used := l.limitKey, int64(0)
	if k.bucket = current.UnixMilli(); l.bucket < first.UnixMilli() || l.bucket > k.bucket {
		return nil
	}
	if p.Limit.Rolling {
		used, err = usedSince(tx, k, first.UnixMilli())
	} else {
		var counter *cachedLimit
		if counter, err = tx.cache.limit(tx, k); err == nil {
			used = counter.used
		}
	}
	if err != nil {
		return err
	}
	return tx.notifyLimit(ws, p, k, next, used, used+n)
}

// count has the limit of a policy count the call itself, where it counts calls. A cached counter
// moves in book.
func (p *policyCall) count(tx *Tx, asked *askedPolicy, state *guard.Policy) error {
	if state.Counts == 0 {
		return nil
	}
	err := tx.notifyLimit(p.ws, &asked.rule.Policy, asked.counter, state.ResetsAt, state.Used, state.Used+state.Counts)
	if err == nil && asked.cached == nil {
		err = addUsage(tx, asked.counter, state.Counts)
	}
	return err
}

// toldLimits lists the alerts of policies' limits by their subject.
func toldLimits(tx *Tx, ws WorkspaceKey) (told map[string]alert, err error) {
	told = make(map[string]alert)
	err = tx.each(`SELECT subject, day, level, amount FROM alerts WHERE workspace_id = $1 AND event = $2 AND subject LIKE 'limit:%'`,
		[]any{ws, int64(BudgetThreshold)}, func(rows scanner) error {
			var subject string
			var a alert
			err := rows.Scan(&subject, &a.day, &a.level, &a.amount)
			told[subject] = a
			return err
		})
	return told, err
}

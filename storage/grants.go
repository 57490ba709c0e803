package storage

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/outcomes"
)

// GrantScope is what a grant allows. The values are stored: never renumber.
type GrantScope uint8

// The scopes of grants.
const (
	GrantRun        GrantScope = 1 // whatever the policy asks about in the run
	GrantSameAction GrantScope = 2 // the same action, in any run
	GrantTool       GrantScope = 3 // any call of the tool, in any run
)

// GrantScopes lists the words of GrantScope, in the order of their values from 1.
func GrantScopes() []string { return []string{"run", "same_action", "tool"} }

// String is the word that the API uses.
func (g GrantScope) String() string { return enumName("grant scope", int(g), GrantScopes()...) }

// ParseGrantScope is the reverse of String; 0 for any other word.
func ParseGrantScope(s string) GrantScope { return GrantScope(enumValue(s, GrantScopes()...)) }

// NewGrant is what a reviewer allows beside the step itself.
type NewGrant struct {
	Scope   GrantScope
	Seconds int64
	Uses    int64
}

// Grant is what a reviewer has allowed in advance.
type Grant struct {
	ID         uuid.UUID
	PolicyName string
	Scope      GrantScope
	Run        uuid.UUID // of GrantRun; uuid.Nil otherwise
	ToolName   string    // of GrantTool
	// Uses bounds how often it stands in for a person, Used counts.
	Uses, Used int64
	GrantedBy  string
	ExpiresAt  time.Time
	RevokedAt  time.Time // zero while nobody has revoked it
}

// insertGrant lets later calls pass without a review: those of the run, those of the tool, or
// repetitions of this very action, by its hash.
func insertGrant(tx *Tx, ws WorkspaceKey, p pendingReview, g NewGrant, by string) error {
	id := newID(tx.now)
	var runID sql.NullInt64
	var tool sql.NullString
	var hash []byte
	err := tx.get(`SELECT v.action_hash, s.tool_name FROM reviews v
			JOIN steps s ON s.segment = v.segment AND s.run_id = v.run_id AND s.uuid = v.step_uuid WHERE v.id = $1`,
		[]any{p.id}, &hash, &tool)
	if err != nil {
		return err
	}
	switch g.Scope {
	case GrantRun:
		runID, tool, hash = sql.NullInt64{Int64: p.runID, Valid: true}, sql.NullString{}, nil
	case GrantSameAction:
		tool = sql.NullString{}
	case GrantTool:
		hash = nil
	}
	var grantID int64
	err = tx.get(`INSERT INTO grants (uuid, workspace_id, policy_id, policy_version, scope, run_id, action_hash, tool_name,
			uses, used, granted_by, expires_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, $10, $11) RETURNING id`,
		[]any{
			id[:], ws, p.policyID, p.version, int64(g.Scope), runID, hash, tool, g.Uses, nullString(by),
			tx.now.UnixMilli() + g.Seconds*1000,
		}, &grantID)
	if err != nil {
		return err
	}
	// The review keeps which grant came of it, so that people can find and revoke it.
	return tx.execOne(`UPDATE reviews SET grant_id = $2 WHERE id = $1`, p.id, grantID)
}

// findGrants looks for a grant wherever a person would be asked.
func (p *policyCall) findGrants(tx *Tx) error {
	for i := range p.states {
		state := &p.states[i]
		// A grant stands in for a person. What a policy denies it does not allow.
		if state.Effect != guard.AskPerson || !state.Objects() {
			continue
		}
		var id int64
		err := tx.get(`SELECT id FROM grants WHERE workspace_id = $1 AND policy_id = $2 AND policy_version = $3
				AND expires_at > $4 AND revoked_at IS NULL AND used < uses
				AND (scope = 1 AND run_id = $5 OR scope = 2 AND action_hash = $6 OR scope = 3 AND tool_name = $7)
			ORDER BY expires_at LIMIT 1`,
			[]any{p.ws.key, state.ID, state.Version, tx.now.UnixMilli(), p.runID, p.hash[:], p.facts.Tool}, &id)
		if ignoreNotFound(err) != nil {
			return err
		}
		if err == nil {
			state.Granted = true
			p.grants = append(p.grants, id)
		}
	}
	return nil
}

// useGrants counts the grants that have let a step pass, and names them on it.
func (p *policyCall) useGrants(tx *Tx, step uuid.UUID) error {
	for _, id := range p.grants {
		if err := tx.execOne(`UPDATE grants SET used = used + 1 WHERE id = $1`, id); err != nil {
			return err
		}
		_, err := tx.exec(`INSERT INTO step_grants (run_id, step_uuid, grant_id) VALUES ($1, $2, $3)`, p.runID, step[:], id)
		if err != nil {
			return err
		}
	}
	return nil
}

// Grants lists a workspace's grants that can still be used, those first that end first.
func (s *Store) Grants(ctx context.Context, ws WorkspaceKey) (list []Grant, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		return tx.each(`SELECT g.uuid, p.name, g.scope, r.uuid, coalesce(g.tool_name, ''), g.uses, g.used,
				coalesce(g.granted_by, ''), g.expires_at, coalesce(g.revoked_at, 0)
			FROM grants g JOIN policies p ON p.id = g.policy_id LEFT JOIN runs r ON r.id = g.run_id
			WHERE g.workspace_id = $1 AND g.expires_at > $2 AND g.revoked_at IS NULL AND g.used < g.uses
				AND g.policy_version = p.version ORDER BY g.expires_at`,
			[]any{ws, tx.now.UnixMilli()}, func(rows scanner) error {
				var g Grant
				var run []byte
				var expires, revoked int64
				err := rows.Scan(&g.ID, &g.PolicyName, &g.Scope, &run, &g.ToolName, &g.Uses, &g.Used, &g.GrantedBy, &expires, &revoked)
				copy(g.Run[:], run)
				g.ExpiresAt = time.UnixMilli(expires).UTC()
				list = append(list, g)
				return err
			})
	})
	return list, err
}

// GrantUse is a step that a grant has let pass.
type GrantUse struct {
	Run, Step       uuid.UUID
	UserID          string
	Type            StepType
	Status          StepStatus
	ToolName, Model *string
}

// At is when the step was asked for.
func (u GrantUse) At() time.Time { return idTime(u.Step) }

// GrantUses lists the steps that a grant has let pass, the newest first, and the
// cursor of the next page. ErrNotFound when there is no such grant.
func (s *Store) GrantUses(
	ctx context.Context, ws WorkspaceKey, id uuid.UUID, limit int64, after string,
) (list []GrantUse, next string, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		list, next = nil, ""
		var grant int64
		if err := tx.get(`SELECT id FROM grants WHERE workspace_id = $1 AND uuid = $2`, []any{ws, id[:]}, &grant); err != nil {
			return err
		}
		before, _, err := idBounds(listGrantUses, WorkspaceKey(grant), time.Time{}, time.Time{}, after)
		if err != nil {
			return err
		}
		return tx.each(`SELECT r.uuid, g.step_uuid, u.external_id, s.type, s.status, s.tool_name, m.name, r.status
			FROM step_grants g JOIN runs r ON r.id = g.run_id JOIN users u ON u.id = r.user_id
			JOIN run_segments l ON l.run_id = g.run_id
			JOIN steps s ON s.segment = l.segment AND s.run_id = g.run_id AND s.uuid = g.step_uuid
			LEFT JOIN models m ON m.id = s.model_id
			WHERE g.grant_id = $1 AND r.workspace_id = $2 AND g.step_uuid < $3 ORDER BY g.step_uuid DESC LIMIT $4`,
			[]any{grant, ws, before[:], limit + 1}, func(rows scanner) error {
				// One row more was read than asked for: it proves that there is another page.
				if int64(len(list)) == limit {
					last := list[len(list)-1].Step
					next = cursor(listGrantUses, grant, last[:])
					return nil
				}
				var u GrantUse
				var row stepRow
				var run RunStatus
				err := rows.Scan(&u.Run, &u.Step, &u.UserID, &u.Type, &row.status, &u.ToolName, &u.Model, &run)
				u.Status = row.shown(run).Status
				list = append(list, u)
				return err
			})
	})
	return list, next, err
}

// addPolicies adds to a page of a run's steps which policies were asked of them, who has reviewed
// them and what has let them pass. said is what the policies said of each.
func addPolicies(tx *Tx, runID int64, steps []Step, said []string) error {
	byID, names := make(map[uuid.UUID]*Step, len(steps)), make(map[int64]string)
	var reviewed, granted bool
	for i := range steps {
		s := &steps[i]
		byID[s.ID] = s
		all, err := outcomes.Decode(said[i])
		if err != nil {
			continue // verify says so; the page shows the rest
		}
		for _, o := range all {
			name, known := names[o.Policy]
			if !known {
				if err := tx.get(`SELECT name FROM policies WHERE id = $1`, []any{o.Policy}, &name); err != nil {
					return err
				}
				names[o.Policy] = name
			}
			s.Decision.Policies = append(s.Decision.Policies, name)
			reviewed = reviewed || o.Outcome == outcomeReview
			granted = granted || o.Outcome == outcomeGranted
		}
		slices.Sort(s.Decision.Policies)
	}
	if reviewed {
		if err := addReviews(tx, runID, byID); err != nil {
			return err
		}
	}
	if granted {
		return addGrants(tx, runID, byID)
	}
	return nil
}

func addReviews(tx *Tx, runID int64, steps map[uuid.UUID]*Step) error {
	return tx.each(`SELECT v.step_uuid, v.uuid, p.name, v.resolution, coalesce(v.decided_by, ''), coalesce(v.decided_at, 0),
			v.expires_at, v.note
		FROM reviews v JOIN policies p ON p.id = v.policy_id WHERE v.run_id = $1`, []any{runID}, func(rows scanner) error {
		var id uuid.UUID
		var r StepReview
		var decided, expires int64
		err := rows.Scan(&id, &r.ID, &r.PolicyName, &r.Resolution, &r.DecidedBy, &decided, &expires, &r.Note)
		if decided != 0 {
			r.DecidedAt = time.UnixMilli(decided).UTC()
		}
		r.ExpiresAt = time.UnixMilli(expires).UTC()
		if s := steps[id]; s != nil {
			s.Review = &r
			if s.Decision.Review {
				s.Decision.Policy = &guard.Policy{Name: r.PolicyName}
			}
		}
		return err
	})
}

func addGrants(tx *Tx, runID int64, steps map[uuid.UUID]*Step) error {
	return tx.each(`SELECT l.step_uuid, g.uuid, p.name, coalesce(g.granted_by, '')
		FROM step_grants l JOIN grants g ON g.id = l.grant_id JOIN policies p ON p.id = g.policy_id
		WHERE l.run_id = $1`, []any{runID}, func(rows scanner) error {
		var id uuid.UUID
		var g StepGrant
		err := rows.Scan(&id, &g.ID, &g.PolicyName, &g.GrantedBy)
		if s := steps[id]; s != nil {
			s.Grants = append(s.Grants, g)
			slices.SortFunc(s.Grants, func(a, b StepGrant) int { return strings.Compare(a.PolicyName, b.PolicyName) })
		}
		return err
	})
}

// policyName is the name of a policy, also of one that is deleted.
func policyName(tx *Tx, ws WorkspaceKey, id int64) (name string, err error) {
	err = tx.get(`SELECT name FROM policies WHERE id = $1 AND workspace_id = $2`, []any{id, ws}, &name)
	return name, err
}

// RevokeGrant ends a grant. Revoking it again changes nothing. ErrNotFound when there is none.
func (s *Store) RevokeGrant(ctx context.Context, ws WorkspaceKey, id uuid.UUID) error {
	return s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionRevokeGrant, target: id.String(), before: attributes{"revoked": false}}
		var revoked sql.NullInt64
		err := tx.get(`SELECT revoked_at FROM grants WHERE workspace_id = $1 AND uuid = $2`, []any{ws, id[:]}, &revoked)
		if err != nil || revoked.Valid {
			event.before = nil
			return event, err
		}
		event.after = attributes{"revoked": true}
		tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartPolicies})
		return event, tx.execOne(`UPDATE grants SET revoked_at = $3 WHERE workspace_id = $1 AND uuid = $2`,
			ws, id[:], tx.now.UnixMilli())
	})
}

// Review is a step that waits, or waited, for a person.
type Review struct {
	ID, Run, Step uuid.UUID
	UserID        string
	PolicyName    string
	// The version that asked; the policy may have changed since.
	PolicyVersion   int64
	Message         string // of the policy: why a person is asked
	Resolution      Resolution
	Type            StepType
	ToolName, Model *string
	InputData       []byte // JSON, or nil
	// By the hash a grant recognizes the same action.
	ActionHash [sha256.Size]byte
	ExpiresAt  time.Time
	DecidedAt  time.Time // zero while pending
	DecidedBy  string    // "" where nobody did
	Note       *string
	LastPollAt time.Time // zero when nobody has polled
	Grant      uuid.UUID // that the approval gave; uuid.Nil for none
	RunTitle   string
	RunSteps   int64 // that the run has taken until now, with the one that waits
	RunSpend   plans.Money

	payload payloadPlace // of InputData
}

// selectReview reads what scanReview scans. Its joins find rows by their keys, and so cost the same
// however many runs there are.
const selectReview = `SELECT v.uuid, r.uuid, v.step_uuid, u.external_id, p.name, v.policy_version, pv.definition, v.resolution,
		s.type, s.tool_name, m.name, y.input_data, v.action_hash, v.expires_at, coalesce(v.decided_at, 0),
		coalesce(v.decided_by, ''), v.note, coalesce(v.last_poll_at, 0), g.uuid, coalesce(r.title, ''), r.step_count, r.spend_nanos, s.input_payload
	FROM reviews v JOIN runs r ON r.id = v.run_id JOIN users u ON u.id = r.user_id JOIN policies p ON p.id = v.policy_id
	LEFT JOIN policy_versions pv ON pv.policy_id = v.policy_id AND pv.version = v.policy_version
	JOIN steps s ON s.segment = v.segment AND s.run_id = v.run_id AND s.uuid = v.step_uuid
	LEFT JOIN models m ON m.id = s.model_id
	LEFT JOIN step_payloads y ON y.run_id = v.run_id AND y.step_uuid = v.step_uuid
	LEFT JOIN grants g ON g.id = v.grant_id
	WHERE v.workspace_id = $1`

// scanReview scans a review as it is listed and answered.
func scanReview(rows scanner) (v Review, err error) {
	var expires, decided, polled int64
	var definition, input sql.NullString
	var hash, grant []byte
	err = rows.Scan(&v.ID, &v.Run, &v.Step, &v.UserID, &v.PolicyName, &v.PolicyVersion, &definition, &v.Resolution,
		&v.Type, &v.ToolName, &v.Model, &input, &hash, &expires, &decided,
		&v.DecidedBy, &v.Note, &polled, &grant, &v.RunTitle, &v.RunSteps, &v.RunSpend, &v.payload)
	v.InputData = jsonOf(input)
	copy(v.ActionHash[:], hash)
	copy(v.Grant[:], grant)
	v.ExpiresAt = time.UnixMilli(expires).UTC()
	if decided != 0 {
		v.DecidedAt = time.UnixMilli(decided).UTC()
	}
	if polled != 0 {
		v.LastPollAt = time.UnixMilli(polled).UTC()
	}
	if err == nil {
		v.Message, err = policyMessage(v.PolicyName, definition)
	}
	return v, err
}

// Review reads one review. ErrNotFound when there is none.
func (s *Store) Review(ctx context.Context, ws WorkspaceKey, id uuid.UUID) (v Review, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		found := false
		err := tx.each(selectReview+` AND v.uuid = $2`, []any{ws, id[:]}, func(rows scanner) (err error) {
			found = true
			v, err = scanReview(rows)
			return err
		})
		if err == nil && !found {
			err = ErrNotFound
		}
		if err != nil {
			return err
		}
		return v.readInput(tx, ws)
	})
	return v, err
}

// ReviewFilter narrows a list of reviews; zero values ask for all.
type ReviewFilter struct {
	Status string // pending, approved or denied
	Policy string
	UserID string
	Run    uuid.UUID
	Limit  int64
	Cursor string
}

// Reviews lists a workspace's reviews, the newest first, and the cursor of the
// next page ("" at the end).
func (s *Store) Reviews(ctx context.Context, ws WorkspaceKey, f ReviewFilter) (list []Review, next string, err error) {
	before, _, err := idBounds(listReviews, ws, time.Time{}, time.Time{}, f.Cursor)
	if err != nil {
		return nil, "", err
	}
	query, args := selectReview+` AND v.uuid < $2`, []any{ws, before[:], f.Limit + 1}
	with := func(condition string, arg any) {
		args = append(args, arg)
		query += ` AND ` + condition + "$" + strconv.Itoa(len(args))
	}
	switch f.Status {
	case "pending":
		with(`v.resolution = `, int64(0))
	case "approved":
		with(`v.resolution = `, int64(Approved))
	case "denied":
		with(`v.resolution > `, int64(Approved))
	}
	if f.Policy != "" {
		with(`p.name = `, f.Policy)
	}
	if f.UserID != "" {
		with(`u.external_id = `, f.UserID)
	}
	if f.Run != uuid.Nil {
		with(`r.uuid = `, f.Run[:])
	}
	err = s.read(ctx, func(tx *Tx) error {
		list, next = nil, ""
		err := tx.each(query+` ORDER BY v.uuid DESC LIMIT $3`, args, func(rows scanner) error {
			if int64(len(list)) == f.Limit {
				last := list[len(list)-1].ID
				next = cursor(listReviews, int64(ws), last[:])
				return nil
			}
			v, err := scanReview(rows)
			list = append(list, v)
			return err
		})
		tx.expectPayloads(ws, len(list), func(i int) payloadPlace { return list[i].payload })
		for i := range list {
			err = errors.Join(err, list[i].readInput(tx, ws))
		}
		return err
	})
	return list, next, err
}

// What ReviewStats looks at.
const (
	latestReviews = 100
	hastyReviews  = 50 // that say something about how a policy is reviewed
	hastyVerdict  = 3 * time.Second
)

// reviewStats looks at the latest reviews of a policy that have ended.
func reviewStats(tx *Tx, ws WorkspaceKey, policy, version int64) (r ReviewStats, err error) {
	var took []time.Duration // until the verdict, the newest first
	hasty := 0
	err = tx.each(`SELECT uuid, policy_version, resolution, decided_at FROM reviews
		WHERE policy_id = $1 AND resolution <> 0 AND workspace_id = $2 ORDER BY uuid DESC LIMIT $3`,
		[]any{policy, ws, int64(latestReviews)}, func(rows scanner) error {
			var id uuid.UUID
			var of, decided int64
			var as Resolution
			if err := rows.Scan(&id, &of, &as, &decided); err != nil {
				return err
			}
			r.Ended++
			switch as {
			case Approved:
				r.Approved++
			case Refused:
			case Expired:
				r.Expired++
				return nil
			default:
				return nil
			}
			// Hasty are approvals in an unbroken row, the newest first: somebody who began to read
			// stops counting as hasty.
			t := time.Duration(decided-idMillis(id)) * time.Millisecond
			if len(took) == hasty && as == Approved && of == version && t < hastyVerdict {
				hasty++
			}
			took = append(took, t)
			return nil
		})
	if len(took) > 0 {
		slices.Sort(took)
		r.Verdict = took[(len(took)-1)/2]
	}
	if hasty >= hastyReviews {
		r.HastyApprovals = int64(hasty)
	}
	return r, err
}

package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// policyJSON is a policy with what only the server knows: its version, author and usage.
type policyJSON storage.StoredPolicy

// MarshalJSON appends the server's fields to the policy's own JSON.
func (p policyJSON) MarshalJSON() ([]byte, error) {
	definition, err := json.Marshal(p.Policy)
	if err != nil {
		return nil, err
	}
	more := wire.MustEncode(struct {
		Version   int64           `json:"version"`
		ChangedAt wire.Time       `json:"changed_at"`
		ChangedBy wire.NullString `json:"changed_by"`
		Use       []policyUseJSON `json:"use"`
		Hits      policyHitsJSON  `json:"hits"`
		Reviews   reviewStatsJSON `json:"reviews"`
	}{
		p.Version, wire.Time(p.ChangedAt), wire.NullString(p.ChangedBy), policyUses(storage.StoredPolicy(p)),
		policyHitsJSON(p.Hits), reviewStatsOf(p.Reviewed),
	})
	// One object out of two: without the last brace of the one and the first of the other.
	return append(append(definition[:len(definition)-1], ','), more[1:]...), nil
}

// policyUseJSON is how much of a limit one scope value has used, such as one user.
type policyUseJSON struct {
	Scope    wire.NullString `json:"scope"` // null for the workspace
	Used     json.RawMessage `json:"used"`  // USD or a count, as the limit's amount
	ResetsAt wire.Time       `json:"resets_at"`
}

// policyHitsJSON is how often a policy has objected in the last seven days.
type policyHitsJSON struct {
	Logged   int64 `json:"logged"`
	Reviewed int64 `json:"reviewed"`
	Denied   int64 `json:"denied"`
	Granted  int64 `json:"granted"`
}

// reviewStatsJSON is how people have answered what a policy has asked of late.
type reviewStatsJSON struct {
	Count         int64           `json:"count"`
	ApprovedShare *float64        `json:"approved_share"` // null where there is none
	ExpiredShare  *float64        `json:"expired_share"`
	MedianSeconds *float64        `json:"median_seconds"` // null where nobody has said anything
	Hint          wire.NullString `json:"hint"`
}

// reviewStatsOf tells how a policy's reviews went in the last weeks. The hint is for policies whose
// reviews are approved without being read.
func reviewStatsOf(r storage.ReviewStats) reviewStatsJSON {
	out := reviewStatsJSON{Count: r.Ended}
	if r.Ended > 0 {
		out.ApprovedShare = new(float64(r.Approved) / float64(r.Ended))
		out.ExpiredShare = new(float64(r.Expired) / float64(r.Ended))
	}
	if r.Verdict > 0 {
		out.MedianSeconds = new(r.Verdict.Seconds())
	}
	if n := r.HastyApprovals; n > 0 {
		out.Hint = wire.NullString(fmt.Sprintf("Approved %d of %d in under 3 s: make it a log, or narrow it.", n, n))
	}
	return out
}

// policyUses lists what is used of a policy's limit. The unit depends on what the limit measures.
func policyUses(p storage.StoredPolicy) []policyUseJSON {
	return wire.Map(p.Use, func(u storage.PolicyUse) policyUseJSON {
		used := wire.MustEncode(u.Used)
		if p.Limit.Measure == policies.MeasureUSD {
			used = wire.MustEncode(plans.Money(u.Used))
		}
		return policyUseJSON{wire.NullString(u.Scope), used, wire.Time(u.ResetsAt)}
	})
}

// listPolicies answers GET /v1/policies/, sorted by name.
func (s *Server) listPolicies(c *call) error {
	list, err := s.store.Policies(c.ctx(), c.who.workspace)
	return c.ok(map[string]any{"items": wire.Map(list, func(p storage.StoredPolicy) policyJSON { return policyJSON(p) })}, err)
}

// savePolicy answers PUT /v1/policies/{name}: it makes or replaces a policy. The body is parsed by
// package policies, as files are, so both have the same problems.
func (s *Server) savePolicy(c *call) error {
	name, pathErr := request.PathText(c.params.ByName("name"), "name", policies.MaxName)
	o, err := s.object(c)
	if err = request.Join(pathErr, err); err != nil {
		return err
	}
	p, err := policies.Parse(name, o.Raw())
	if err != nil {
		return invalidPolicy(err, o.Raw(), "body")
	}
	stored, err := s.store.SavePolicy(c.ctx(), c.who.workspace, p)
	if errors.Is(err, storage.ErrTooManyPolicies) {
		err = badRequest("A workspace has at most 1,000 policies. Delete one that is no longer needed.")
	}
	return c.ok(policyJSON(stored), err)
}

// invalidPolicy converts the problems of a policy to a 422. form is the policy's JSON, and loc its
// place in the request.
func invalidPolicy(err error, form []byte, loc ...any) error {
	var invalid *policies.Invalid
	if !errors.As(err, &invalid) {
		return err
	}
	var all []error
	for _, p := range invalid.Problems {
		place, input := append([]any{}, loc...), form
		if p.Field != "" {
			for _, part := range strings.Split(p.Field, ".") {
				place, input = append(place, part), member(input, part)
			}
		}
		v := &request.ValidationError{}
		if problem := request.Invalid(place, p.Message, json.RawMessage(input)); errors.As(problem, &v) && p.Type != "" {
			v.Problems[0].Type, v.Problems[0].Msg = p.Type, p.Message
			if p.Type == "extra_forbidden" {
				v.Problems[0].Msg = "Extra inputs are not permitted"
			}
			if p.Column != 0 {
				v.Problems[0].Ctx = map[string]any{"line": p.Line, "column": p.Column}
			}
		}
		all = append(all, v)
	}
	return request.Join(all...)
}

// member returns a member of a JSON object or an item of a JSON list; null if it does not exist.
func member(form []byte, name string) []byte {
	var object map[string]json.RawMessage
	if json.Unmarshal(form, &object) == nil && object[name] != nil {
		return object[name]
	}
	var list []json.RawMessage
	if i, err := strconv.Atoi(name); err == nil && json.Unmarshal(form, &list) == nil && i < len(list) {
		return list[i]
	}
	return []byte("null")
}

// deletePolicy answers DELETE /v1/policies/{name}. Its versions stay readable.
func (s *Server) deletePolicy(c *call) error {
	name, err := request.PathText(c.params.ByName("name"), "name", policies.MaxName)
	if err != nil {
		return err
	}
	if err := s.store.DeletePolicy(c.ctx(), c.who.workspace, name); err != nil {
		return orNotFound(err, "Policy not found")
	}
	c.json(http.StatusOK, map[string]string{"name": name, "status": "deleted"})
	return nil
}

// policyVersionJSON is a policy as it was from a moment on.
type policyVersionJSON struct {
	Version   int64           `json:"version"`
	Policy    json.RawMessage `json:"policy"` // null where the version is its deletion
	ChangedAt wire.Time       `json:"changed_at"`
	ChangedBy wire.NullString `json:"changed_by"`
}

// listPolicyVersions answers GET /v1/policies/{name}/versions, the newest first.
func (s *Server) listPolicyVersions(c *call) error {
	name, err := request.PathText(c.params.ByName("name"), "name", policies.MaxName)
	if err != nil {
		return err
	}
	list, err := s.store.PolicyVersions(c.ctx(), c.who.workspace, name)
	return c.ok(map[string]any{"items": wire.Map(list, func(v storage.PolicyVersion) policyVersionJSON {
		return policyVersionJSON{v.Version, v.Definition, wire.Time(v.ChangedAt), wire.NullString(v.ChangedBy)}
	})}, orNotFound(err, "Policy not found"))
}

// grantJSON is a grant that still lets calls pass without a review.
type grantJSON struct {
	ID         uuid.UUID       `json:"id"`
	PolicyName string          `json:"policy_name"`
	Scope      string          `json:"scope"`
	Run        *uuid.UUID      `json:"run_id"`
	ToolName   wire.NullString `json:"tool_name"`
	Uses       int64           `json:"uses"`
	Used       int64           `json:"used"`
	GrantedBy  wire.NullString `json:"granted_by"`
	ExpiresAt  wire.Time       `json:"expires_at"`
}

// listGrants answers GET /v1/grants/.
func (s *Server) listGrants(c *call) error {
	list, err := s.store.Grants(c.ctx(), c.who.workspace)
	return c.ok(map[string]any{"items": wire.Map(list, func(g storage.Grant) grantJSON {
		out := grantJSON{
			ID: g.ID, PolicyName: g.PolicyName, Scope: g.Scope.String(), ToolName: wire.NullString(g.ToolName),
			Uses: g.Uses, Used: g.Used, GrantedBy: wire.NullString(g.GrantedBy), ExpiresAt: wire.Time(g.ExpiresAt),
		}
		if g.Run != uuid.Nil {
			out.Run = &g.Run
		}
		return out
	})}, err)
}

// grantUseJSON is a step that a grant has let pass.
type grantUseJSON struct {
	Run       uuid.UUID `json:"run_id"`
	Step      uuid.UUID `json:"step_id"`
	UserID    string    `json:"user_id"`
	Type      string    `json:"type"`
	Status    string    `json:"status"`
	ToolName  *string   `json:"tool_name"`
	Model     *string   `json:"model"`
	CreatedAt wire.Time `json:"created_at"`
}

// listGrantUses lists what a grant has let pass, also when it has ended.
func (s *Server) listGrantUses(c *call) error {
	id, err := c.pathID("grant_id")
	q := request.ReadQuery(c.r)
	limit, cursor := q.Int("limit", pageLength, 1, maxPage), q.String("cursor", maxCursor)
	if err := request.Join(err, q.Err()); err != nil {
		return err
	}
	list, next, err := s.store.GrantUses(c.ctx(), c.who.workspace, id, limit, cursor)
	if err != nil {
		return badCursor(orNotFound(err, "Grant not found"), "cursor", cursor)
	}
	return c.ok(page{wire.Map(list, func(u storage.GrantUse) grantUseJSON {
		return grantUseJSON{
			u.Run, u.Step, u.UserID, u.Type.String(), u.Status.String(), u.ToolName, u.Model, wire.Time(u.At()),
		}
	}), wire.NullString(next)}, nil)
}

// revokeGrant answers DELETE /v1/grants/{id}: the next such call is reviewed again.
func (s *Server) revokeGrant(c *call) error {
	id, err := c.pathID("grant_id")
	if err != nil {
		return err
	}
	if err := s.store.RevokeGrant(c.ctx(), c.who.workspace, id); err != nil {
		return orNotFound(err, "Grant not found")
	}
	c.json(http.StatusOK, map[string]any{"id": id, "status": "revoked"})
	return nil
}

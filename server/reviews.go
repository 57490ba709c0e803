package server

import (
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	reviewPath = "/v1/reviews/:review_id"

	maxNote       = 2000 // characters
	maxReviewWait = 25   // seconds
	maxVerdicts   = 100  // in one call
	maxGrantUses  = 10_000
	maxGrantTime  = 7 * 24 * 60 * 60 // seconds
	lookEverySoon = 5 * time.Second  // at a review that may be decided by another process
	lookElsewhere = time.Second      // or on another node
)

// waitsForReviews reports whether the client says that it waits where a person
// is asked: it names "review" among what it can do, after its name and version.
func waitsForReviews(c *call) bool {
	_, can, _ := strings.Cut(c.r.Header.Get("Pikarc-Client"), ";")
	for _, word := range strings.FieldsFunc(can, func(r rune) bool { return r == ';' || r == ',' || r == ' ' }) {
		if word == "review" {
			return true
		}
	}
	return false
}

type reviewJSON struct {
	ID            uuid.UUID       `json:"id"`
	Run           uuid.UUID       `json:"run_id"`
	Step          uuid.UUID       `json:"step_id"`
	UserID        string          `json:"user_id"`
	PolicyName    string          `json:"policy_name"`
	PolicyVersion int64           `json:"policy_version"`
	Status        string          `json:"status"`
	Resolution    wire.NullString `json:"resolution"`
	Reason        wire.NullString `json:"reason"` // what the policy says
	Action        actionJSON      `json:"action"`
	ActionHash    string          `json:"action_hash"`
	RequestedAt   wire.Time       `json:"requested_at"`
	ExpiresAt     wire.Time       `json:"expires_at"`
	SecondsLeft   int64           `json:"seconds_left"` // for a verdict; 0 when it has ended
	DecidedAt     wire.Time       `json:"decided_at"`
	DecidedBy     *deciderJSON    `json:"decided_by"`
	Note          *string         `json:"note"`
	Waiter        waiterJSON      `json:"waiter"`
	Grant         *uuid.UUID      `json:"grant_id"`
	SoFar         soFarJSON       `json:"run"`
}

// soFarJSON is what the run has done until now.
type soFarJSON struct {
	Title     wire.NullString `json:"title"`
	StartedAt wire.Time       `json:"started_at"`
	Steps     int64           `json:"steps"`
	Spent     plans.Money     `json:"spent_usd"`
}

type actionJSON struct {
	Type      string          `json:"type"`
	ToolName  *string         `json:"tool_name"`
	Model     *string         `json:"model"`
	InputData json.RawMessage `json:"input_data"`
}

type deciderJSON struct {
	Account wire.NullString `json:"account"`
	Channel wire.NullString `json:"channel"`
}

type waiterJSON struct {
	LastPollAt wire.Time `json:"last_poll_at"`
	Alive      bool      `json:"alive"`
}

// channelPrefix begins the name of a channel, which no email begins with.
const channelPrefix = "channel:"

func (s *Server) reviewOf(v storage.Review) reviewJSON {
	out := reviewJSON{
		ID: v.ID, Run: v.Run, Step: v.Step, UserID: v.UserID,
		PolicyName: v.PolicyName, PolicyVersion: v.PolicyVersion,
		Status: v.Resolution.Status(), Resolution: wire.NullString(v.Resolution.String()),
		Reason:      wire.NullString(v.Message),
		Action:      actionJSON{v.Type.String(), v.ToolName, v.Model, v.InputData},
		ActionHash:  hex.EncodeToString(v.ActionHash[:]),
		RequestedAt: wire.Time(v.RequestedAt()), ExpiresAt: wire.Time(v.ExpiresAt), DecidedAt: wire.Time(v.DecidedAt),
		Note: v.Note, Waiter: waiterJSON{wire.Time(v.LastPollAt), v.Waits(s.Now())},
		SoFar: soFarJSON{wire.NullString(v.RunTitle), wire.Time(v.RunStartedAt()), v.RunSteps, v.RunSpend},
	}
	if left := v.ExpiresAt.Sub(s.Now()); v.Resolution == 0 && left > 0 {
		out.SecondsLeft = int64(left / time.Second)
	}
	if channel, ok := strings.CutPrefix(v.DecidedBy, channelPrefix); ok {
		out.DecidedBy = &deciderJSON{Channel: wire.NullString(channel)}
	} else if v.DecidedBy != "" {
		out.DecidedBy = &deciderJSON{Account: wire.NullString(v.DecidedBy)}
	}
	if v.Grant != uuid.Nil {
		out.Grant = &v.Grant
	}
	return out
}

// readReview answers an agent that waits, at once or when the review is decided,
// or a person, who shows no sign of life of the run.
func (s *Server) readReview(c *call) error {
	id, pathErr := c.pathID("review_id")
	q := request.ReadQuery(c.r)
	wait := q.Int("wait", 0, 0, maxReviewWait)
	if err := request.Join(pathErr, q.Err()); err != nil {
		return err
	}
	read := s.store.Review
	if c.who.key != 0 {
		read = s.store.PollReview
	}
	deadline := time.Now().Add(time.Duration(wait) * time.Second)
	for {
		decided := s.store.ReviewsDecided()
		v, err := read(c.ctx(), c.who.workspace, id)
		left := time.Until(deadline)
		if err != nil || v.Resolution != 0 || left <= 0 {
			return c.ok(s.reviewOf(v), orNotFound(err, "Review not found"))
		}
		again := lookEverySoon
		if s.store.Shared() {
			again = lookElsewhere
		}
		look := time.NewTimer(min(left, max(v.ExpiresAt.Sub(s.Now()), time.Millisecond), again))
		select {
		case <-decided:
		case <-look.C:
		case <-c.ctx().Done():
		case <-s.ending:
			deadline = time.Time{}
		}
		look.Stop()
		if err := c.ctx().Err(); err != nil {
			return err
		}
	}
}

func (s *Server) listReviews(c *call) error {
	q := request.ReadQuery(c.r)
	f := storage.ReviewFilter{
		Status: q.Literal("status", "pending", "approved", "denied"),
		Policy: q.String("policy", policies.MaxName), UserID: q.String("user_id", maxUserID),
		Run: q.UUID("run_id"), Cursor: q.String("cursor", maxCursor),
		Limit: q.Int("limit", pageLength, 1, maxPage),
	}
	if err := q.Err(); err != nil {
		return err
	}
	list, next, err := s.store.Reviews(c.ctx(), c.who.workspace, f)
	return c.ok(page{wire.Map(list, s.reviewOf), wire.NullString(next)}, badCursor(err, "cursor", f.Cursor))
}

func (s *Server) approveReview(c *call) error { return s.decideReview(c, true) }

func (s *Server) denyReview(c *call) error { return s.decideReview(c, false) }

func (s *Server) decideReview(c *call, approve bool) error {
	id, pathErr := c.pathID("review_id")
	o, err := s.optionalObject(c)
	if err != nil {
		return request.Join(pathErr, err)
	}
	v := readVerdict(o, approve)
	o.RefuseUnknown()
	if err := request.Join(pathErr, o.Err()); err != nil {
		return err
	}
	out, err := s.store.DecideReview(c.ctx(), c.who.workspace, id, v)
	return c.ok(s.reviewOf(out), orNotFound(err, "Review not found"))
}

// readVerdict reads what a person says: with a denial why, which the agent hears.
func readVerdict(o *request.Object, approve bool) (v storage.Verdict) {
	v.Approve = approve
	if !approve {
		note := o.String("note", 1, maxNote)
		v.Note = &note
		return v
	}
	v.Note = o.OptionalString("note", 1, maxNote)
	if o.Has("grant") && !o.IsNull("grant") {
		o.Object("grant", func(g *request.Object) {
			v.Grant = &storage.NewGrant{
				Scope:   storage.ParseGrantScope(g.Literal("scope", storage.GrantScopes()...)),
				Seconds: g.Int("seconds", 1, maxGrantTime), Uses: g.Int("uses", 1, maxGrantUses),
			}
			g.RefuseUnknown()
		})
	}
	return v
}

// decideReviews gives one verdict on several reviews.
func (s *Server) decideReviews(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	ids := o.OptionalIDs("ids", maxVerdicts)
	if !o.Has("ids") || len(ids) == 0 {
		o.Refuse("ids", "must name at least one review")
	}
	v := readVerdict(o, o.Literal("verdict", "approve", "deny") == "approve")
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	for _, id := range ids { // all or nothing, as far as they exist
		if _, err := s.store.Review(c.ctx(), c.who.workspace, id); err != nil {
			return orNotFound(err, "Review not found")
		}
	}
	out := make([]reviewJSON, 0, len(ids))
	for _, id := range ids {
		decided, err := s.store.DecideReview(c.ctx(), c.who.workspace, id, v)
		if err != nil {
			return orNotFound(err, "Review not found")
		}
		out = append(out, s.reviewOf(decided))
	}
	c.json(http.StatusOK, map[string]any{"items": out})
	return nil
}

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

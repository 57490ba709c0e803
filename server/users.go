package server

import (
	"net/http"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// maxBlockReason is the length of the reason that a person writes.
const maxBlockReason = 500

// userJSON is a user that agents run for.
type userJSON struct {
	UserID        string      `json:"user_id"`
	Blocked       bool        `json:"blocked"`
	BlockedAt     wire.Time   `json:"blocked_at"`
	BlockedReason *string     `json:"blocked_reason"`
	Today         plans.Money `json:"today_usd"`
	Last30Days    plans.Money `json:"last_30_days_usd"`
	TodayUnpriced int64       `json:"today_unpriced_tokens"`
	Unpriced      int64       `json:"last_30_days_unpriced_tokens"`
	RunCount      int64       `json:"run_count"`
	LastSeenAt    wire.Time   `json:"last_seen_at"`
	ErasedAt      wire.Time   `json:"erased_at"`
}

// userOf converts a user for the API.
func userOf(u storage.User) userJSON {
	return userJSON{
		UserID: u.UserID, Blocked: u.Blocked, BlockedAt: wire.Time(u.BlockedAt),
		BlockedReason: u.BlockedReason,
		Today:         u.Today.Spend, Last30Days: u.Last30Days.Spend,
		TodayUnpriced: u.Today.UnpricedTokens, Unpriced: u.Last30Days.UnpricedTokens,
		RunCount: u.RunCount, LastSeenAt: wire.Time(u.LastSeenAt),
		ErasedAt: wire.Time(u.ErasedAt),
	}
}

// listUsers answers GET /v1/users/, the newest or the most expensive first.
func (s *Server) listUsers(c *call) error {
	q := request.ReadQuery(c.r)
	f := storage.UserFilter{
		Query:   q.String("q", maxUserID),
		Prefix:  q.String("prefix", maxUserID),
		Blocked: q.Bool("blocked"),
		BySpend: q.Literal("sort", "newest", "spend") == "spend",
		Limit:   q.Int("limit", pageLength, 1, maxPage),
		Cursor:  q.String("cursor", maxCursor),
	}
	if err := q.Err(); err != nil {
		return err
	}
	users, next, err := s.store.Users(c.ctx(), c.who.workspace, f)
	return c.ok(page{wire.Map(users, userOf), wire.NullString(next)},
		badCursor(err, "cursor", f.Cursor))
}

// blockUser answers PUT /v1/blocked-users/{user}. The user's next call is denied, in runs under way
// too.
func (s *Server) blockUser(c *call) error {
	user, pathErr := c.pathRest("user_id")
	o, err := s.optionalObject(c)
	if err != nil {
		return request.Join(pathErr, err)
	}
	reason := o.OptionalString("reason", 0, maxBlockReason)
	o.RefuseUnknown()
	if err := request.Join(pathErr, o.Err()); err != nil {
		return err
	}
	return s.block(c, user, reason)
}

// blockNamedUser is blockUser with the user in the body.
func (s *Server) blockNamedUser(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	user := o.String("user_id", 1, maxUserID)
	reason := o.OptionalString("reason", 0, maxBlockReason)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	return s.block(c, user, reason)
}

// block is shared by both forms of the call, with the user in the path or in the body.
func (s *Server) block(c *call, user string, reason *string) error {
	u, err := s.store.BlockUser(c.ctx(), c.who.workspace, user, reason)
	return c.ok(userOf(u), err)
}

// unblockUser answers DELETE /v1/blocked-users/{user}.
func (s *Server) unblockUser(c *call) error {
	user, err := c.pathRest("user_id")
	if err != nil {
		return err
	}
	return s.unblock(c, user)
}

// unblockNamedUser is unblockUser with the user in the body.
func (s *Server) unblockNamedUser(c *call) error {
	user, err := s.namedUser(c)
	if err != nil {
		return err
	}
	return s.unblock(c, user)
}

// namedUser reads a body that names a user and nothing else.
func (s *Server) namedUser(c *call) (string, error) {
	o, err := s.object(c)
	if err != nil {
		return "", err
	}
	user := o.String("user_id", 1, maxUserID)
	o.RefuseUnknown()
	return user, o.Err()
}

// unblock is shared by both forms, as block is.
func (s *Server) unblock(c *call, user string) error {
	u, err := s.store.UnblockUser(c.ctx(), c.who.workspace, user)
	return c.ok(userOf(u), orNotFound(err, "User not found"))
}

// eraseWait is how long a call waits for an erasure before a job goes on with it.
const eraseWait = 10 * time.Second

// eraseUser answers DELETE /v1/users/{user}: see docs/ops/erasing.md.
func (s *Server) eraseUser(c *call) error {
	user, err := c.pathRest("user_id")
	if err != nil {
		return err
	}
	return s.erase(c, user)
}

// eraseNamedUser is eraseUser with the user in the body.
func (s *Server) eraseNamedUser(c *call) error {
	user, err := s.namedUser(c)
	if err != nil {
		return err
	}
	return s.erase(c, user)
}

// erase answers 200 once nothing of the user is left, in the file either, and 202
// while the erasure goes on.
func (s *Server) erase(c *call, user string) error {
	e, err := s.store.EraseUser(c.ctx(), c.who.workspace, user, eraseWait)
	if err != nil {
		return orNotFound(err, "User not found")
	}
	status, word := http.StatusOK, "erased"
	if !e.Done {
		status, word = http.StatusAccepted, "erasing"
	}
	c.json(status, struct {
		UserID string `json:"user_id"`
		Status string `json:"status"`
	}{e.Pseudonym, word})
	return nil
}

// userPartJSON is what one model or tool cost a user.
type userPartJSON struct {
	Type             wire.NullString `json:"type"`
	Model            wire.NullString `json:"model"`
	ToolName         wire.NullString `json:"tool_name"`
	Steps            int64           `json:"step_count"`
	PromptTokens     int64           `json:"prompt_tokens"`
	CompletionTokens int64           `json:"completion_tokens"`
	Spend            plans.Money     `json:"total_usd"`
	Unpriced         int64           `json:"unpriced_tokens"`
}

// userTagJSON is what the runs with one tag cost.
type userTagJSON struct {
	Key   string      `json:"key"`
	Value string      `json:"value"`
	Runs  int64       `json:"run_count"`
	Spend plans.Money `json:"total_usd"`
}

// userRunsJSON sums up a user's latest runs; more tells that older ones are not in it.
type userRunsJSON struct {
	Runs    int64          `json:"run_count"`
	Blocked int64          `json:"blocked_count"`
	Denied  int64          `json:"denied_run_count"`
	Spend   plans.Money    `json:"total_usd"`
	More    bool           `json:"more"`
	Parts   []userPartJSON `json:"parts"`
	Tags    []userTagJSON  `json:"tags"`
}

// readUsageOfUser answers with whole days, as readUsageBy does. The user is
// in the query, where no proxy changes it.
func (s *Server) readUsageOfUser(c *call) error {
	q := request.ReadQuery(c.r)
	user := q.RequiredString("user_id", maxUserID)
	in, w, err := s.usageWindow(c, q)
	if err != nil {
		return err
	}
	// The page draws a column for each day.
	in.Group, in.ByDay = storage.ByUser, true
	if err := q.Err(); err != nil {
		return err
	}
	r, err := s.store.UsageOfUser(c.ctx(), c.who.workspace, user, in)
	if err != nil {
		return orNotFound(err, "User not found")
	}
	c.json(http.StatusOK, struct {
		User     userJSON       `json:"user"`
		Usage    usageOtherJSON `json:"usage"`
		Total    usageOtherJSON `json:"total"`
		Runs     userRunsJSON   `json:"runs"`
		Policies []policyJSON   `json:"policies"`
		Since    wire.Time      `json:"since"`
		Until    wire.Time      `json:"until"`
		usageZoneJSON
	}{
		userOf(r.User), usageWholeOf(r.Usage, in), usageWholeOf(r.All, in), userRunsOf(r.Runs),
		wire.Map(r.Policies, func(p storage.StoredPolicy) policyJSON { return policyJSON(p) }),
		wire.Time(in.From), wire.Time(in.To), usageZoneOf(w),
	})
	return nil
}

// userRunsOf converts the sums for the API.
func userRunsOf(r storage.RunsOfUser) userRunsJSON {
	return userRunsJSON{
		r.Runs, r.Blocked, r.Denied, r.Spend, r.More,
		wire.Map(r.Parts, func(p storage.RunPart) userPartJSON {
			return userPartJSON{
				wire.NullString(p.Type.String()), wire.NullString(p.Model), wire.NullString(p.ToolName), p.Steps,
				p.PromptTokens, p.CompletionTokens, p.Cost, p.UnpricedTokens,
			}
		}),
		wire.Map(r.Tags, func(t storage.TagPart) userTagJSON {
			return userTagJSON{t.Key, t.Value, t.Runs, t.Spend}
		}),
	}
}

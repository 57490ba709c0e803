package server

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/links"
	"github.com/pikarc/server/server/notify"
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

// reviewJSON is a review as the API shows it, to the agent that waits and to people.
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

// actionJSON is what the agent wants to do.
type actionJSON struct {
	Type      string          `json:"type"`
	ToolName  *string         `json:"tool_name"`
	Model     *string         `json:"model"`
	InputData json.RawMessage `json:"input_data"`
}

// deciderJSON has one of the two: an account's email, or the channel of a link.
type deciderJSON struct {
	Account wire.NullString `json:"account"`
	Channel wire.NullString `json:"channel"`
}

// waiterJSON says whether the agent still asks for the answer.
type waiterJSON struct {
	LastPollAt wire.Time `json:"last_poll_at"`
	Alive      bool      `json:"alive"`
}

// channelPrefix begins the name of a channel, which no email begins with.
const channelPrefix = "channel:"

// reviewOf converts a review for the API.
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
	// A key is an agent's: its reading is recorded, and shows people that somebody waits.
	if c.who.key != 0 {
		read = s.store.PollReview
	}
	deadline := time.Now().Add(time.Duration(wait) * time.Second)
	for {
		// Taken before the review is read, so that a verdict between the two is not missed.
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
		// Also when the review expires, which nobody announces.
		look := time.NewTimer(min(left, max(v.ExpiresAt.Sub(s.Now()), time.Millisecond), again))
		select {
		case <-decided:
		case <-look.C:
		case <-c.ctx().Done():
		case <-s.ending:
			// The server stops: it reads once more, and answers what it finds.
			deadline = time.Time{}
		}
		look.Stop()
		if err := c.ctx().Err(); err != nil {
			return err
		}
	}
}

// listReviews answers GET /v1/reviews/, the newest first.
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

// decideReview gives one verdict. A second one changes nothing: the answer shows the
// first.
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

// linkPath is where links in messages lead. Opened, one shows a page that asks
// again; only a POST decides, because mail scanners and chats open links by
// themselves. See ADR 0072.
const linkPath = "/decide/:link"

// reviewActions makes the links of a message: nil where there is nothing to
// decide any more.
func (s *Server) reviewActions(
	ctx context.Context, e storage.Endpoint, d storage.Delivery,
) (*notify.Actions, error) {
	if d.Event != storage.ReviewRequested {
		return nil, nil
	}
	var data struct {
		Review uuid.UUID `json:"review_id"`
	}
	if err := json.Unmarshal(d.Data, &data); err != nil {
		return nil, fmt.Errorf("read which review a message is about: %w", err)
	}
	v, err := s.store.Review(ctx, e.Workspace(), data.Review)
	if errors.Is(err, storage.ErrNotFound) || err == nil && !s.decidable(v) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	l := links.Link{
		Workspace: int64(e.Workspace()), Expires: v.ExpiresAt.UnixMilli(), Review: v.ID,
		Endpoint: e.ID, Address: links.AddressOf(e.Address),
	}
	deny, err := l.Seal(s.Secret)
	if err != nil {
		return nil, err
	}
	l.Approve = true
	approve, err := l.Seal(s.Secret)
	base := strings.TrimSuffix(s.PublicURL, "/") + strings.TrimSuffix(linkPath, ":link")
	return &notify.Actions{Approve: base + approve, Deny: base + deny}, err
}

// decidable reports whether a verdict on the review would still count.
func (s *Server) decidable(v storage.Review) bool {
	return v.Resolution == 0 && s.Now().Before(v.ExpiresAt)
}

// linkedReview is the question that a link leads to.
type linkedReview struct {
	links.Link
	channel   string // "slack: on call"
	workspace storage.Workspace
	review    storage.Review
}

// linkRefused says why a link decides nothing, for people.
type linkRefused struct {
	status      int
	title, text string
}

func (e *linkRefused) Error() string { return e.title }

// linkGone refuses a link that was good once.
func linkGone(title, text string) error {
	return &linkRefused{http.StatusGone, title, strings.TrimSpace(text + " Nothing was changed.")}
}

// readLink finds what a link asks: a *linkRefused where it cannot be answered by it.
func (s *Server) readLink(c *call) (a linkedReview, err error) {
	if a.Link, err = links.Open(s.Secret, c.params.ByName("link")); err != nil {
		return a, &linkRefused{
			http.StatusNotFound, "This is not a link of this server",
			"It may have been cut off: open it from the message again. Nothing was changed.",
		}
	}
	ws := storage.WorkspaceKey(a.Workspace)
	e, err := s.store.Endpoint(c.ctx(), ws, a.Endpoint)
	switch {
	case errors.Is(err, storage.ErrNotFound):
		return a, linkGone("This link is no longer good", "The endpoint that it was sent to has been deleted.")
	case err != nil:
		return a, err
	case !e.On():
		return a, linkGone("This link is not good now", "The endpoint that it was sent to is switched off.")
	case links.AddressOf(e.Address) != a.Address:
		return a, linkGone("This link is no longer good", "The endpoint that it was sent to has another address now.")
	}
	a.channel = string(e.Kind) + ": " + e.Label
	a.review, err = s.store.Review(c.ctx(), ws, a.Review)
	if errors.Is(err, storage.ErrNotFound) {
		return a, linkGone("This review is gone", "Its run has been deleted.")
	}
	if err != nil {
		return a, err
	}
	if a.workspace, err = s.store.Workspace(c.ctx(), ws); err != nil {
		return a, err
	}
	return a, s.refuseLink(a)
}

// refuseLink says why the review can no longer be decided by the link; nil where it can.
func (s *Server) refuseLink(a linkedReview) error {
	v := a.review
	switch {
	case v.Resolution == storage.Superseded:
		return linkGone("The policy has changed", "Nobody was asked what it says now, and the agent was refused.")
	case v.Resolution == storage.Cancelled:
		return linkGone("There is nothing left to decide", "The run has ended, its user was blocked, or all agents are stopped.")
	case v.Resolution == storage.Bypassed:
		return linkGone("The agent has not waited", "It went ahead without an answer.")
	case v.Resolution == storage.Approved:
		return linkGone("This was approved already", "By "+deciderOf(v)+" at "+clockTime(v.DecidedAt)+".")
	case v.Resolution == storage.Refused:
		return linkGone("This was denied already", "By "+deciderOf(v)+" at "+clockTime(v.DecidedAt)+".")
	case !s.decidable(v), s.Now().UnixMilli() >= a.Expires:
		return linkGone("The time is over", "Nobody has answered until "+clockTime(v.ExpiresAt)+", so the agent was refused.")
	case a.Approve && !v.Waits(s.Now()):
		return linkGone("The agent waits no longer", "It has not asked for an answer lately: approving would do nothing.")
	default:
		return nil
	}
}

func deciderOf(v storage.Review) string { return strings.TrimPrefix(v.DecidedBy, channelPrefix) }

func clockTime(t time.Time) string { return t.UTC().Format("15:04:05") + " UTC" }

// showLink asks again. It changes nothing.
func (s *Server) showLink(c *call) error {
	a, err := s.readLink(c)
	if err != nil {
		return refusePage(c, err)
	}
	return c.page(http.StatusOK, questionPage(a))
}

// followLink decides.
func (s *Server) followLink(c *call) error {
	body, err := request.ReadBody(c.w, c.r, s.configLimit(c))
	if err != nil {
		return err
	}
	note, err := request.FormText(c.r, body, "note", maxNote)
	if err != nil {
		return err
	}
	a, err := s.readLink(c)
	if err != nil {
		return refusePage(c, err)
	}
	v := storage.Verdict{Approve: a.Approve, Channel: channelPrefix + a.channel}
	if note != "" {
		v.Note = &note
	} else if !a.Approve {
		v.Note = new("A person has denied this, without saying why.")
	}
	ctx := storage.WithActor(c.ctx(), storage.Actor{Kind: storage.ActorChannel, Name: a.channel, Address: c.remote()})
	a.review, err = s.store.DecideReview(ctx, storage.WorkspaceKey(a.Workspace), a.Review, v)
	if err != nil {
		return err
	}
	title, want := "Denied", storage.Refused
	if a.Approve {
		title, want = "Approved", storage.Approved
	}
	if a.review.Resolution != want || a.review.DecidedBy != v.Channel { // somebody was faster
		return refusePage(c, s.refuseLink(a))
	}
	p := questionPage(a)
	p.Asks, p.Title, p.Text = false, title, "The agent is told. You can close this page."
	return c.page(http.StatusOK, p)
}

// questionPage shows what an agent wants to do.
func questionPage(a linkedReview) links.Page {
	v := a.review
	p := links.Page{
		Title: "Deny this?", Text: "The agent hears what you write, and does not do it.",
		Good: true, Asks: true, Approve: a.Approve, MaxNote: maxNote, Input: links.Input(v.InputData),
	}
	if a.Approve {
		p.Title, p.Text = "Approve this?", "The agent does it once, as it is here."
	}
	what := v.Type.String()
	for _, name := range []*string{v.Model, v.ToolName} {
		if name != nil {
			what = *name
		}
	}
	p.Add("Wants to", what)
	p.Add("For", v.UserID)
	p.Add("Policy", v.PolicyName)
	p.Add("It says", v.Message)
	p.Add("Run", v.RunTitle)
	p.Add("So far", fmt.Sprintf("%d steps, $%s, since %s", v.RunSteps, v.RunSpend, clockTime(v.RunStartedAt())))
	p.Add("Asked", clockTime(v.RequestedAt()))
	p.Add("Waits until", clockTime(v.ExpiresAt))
	p.Add("Workspace", a.workspace.Name)
	return p
}

// refusePage shows why a link decides nothing. Other errors are answered as everywhere.
func refusePage(c *call, err error) error {
	var refused *linkRefused
	if !errors.As(err, &refused) {
		return err
	}
	return c.page(refused.status, links.Page{Title: refused.title, Text: refused.text})
}

// page answers with a page of a link.
func (c *call) page(status int, p links.Page) error {
	html, err := p.HTML()
	if err != nil {
		return err
	}
	h := c.w.Header()
	h.Set("Content-Security-Policy", links.SecurityPolicy())
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("X-Robots-Tag", "noindex")
	h["Cache-Control"] = noStore
	c.body(status, htmlType, html)
	return nil
}

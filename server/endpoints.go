package server

import (
	"net/http"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/notify"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// SMTP is how a server sends email.
type SMTP = notify.SMTP

// SMTPModes are how a connection to an SMTP server is encrypted.
func SMTPModes() []string { return notify.SMTPModes() }

const (
	// maxEndpointURL is how long the address of an endpoint may be.
	maxEndpointURL = 2000
)

// endpointJSON is where notifications are sent to. Secrets in an address are shown in part.
type endpointJSON struct {
	ID             uuid.UUID            `json:"id"`
	Kind           storage.EndpointKind `json:"kind"`
	Label          string               `json:"label"`
	URL            wire.NullString      `json:"url"` // null when it cannot be opened
	Events         []string             `json:"events"`
	Enabled        bool                 `json:"enabled"`
	DisabledReason wire.NullString      `json:"disabled_reason"`
	DisabledAt     wire.Time            `json:"disabled_at"`
	OldSecretUntil wire.Time            `json:"old_secret_until"`
	CreatedAt      wire.Time            `json:"created_at"`
}

// newSecretJSON is an endpoint with the secret that was just made: the only time that it is shown.
type newSecretJSON struct {
	endpointJSON
	Secret wire.NullString `json:"secret"`
}

// endpointOf converts an endpoint for the API.
func endpointOf(e storage.Endpoint) endpointJSON {
	return endpointJSON{
		e.ID, e.Kind, e.Label, wire.NullString(shownAddress(e)), e.Events.Names(), e.On(),
		wire.NullString(e.OffReason), wire.Time(e.OffAt), wire.Time(e.OldSecretUntil), wire.Time(e.CreatedAt),
	}
}

// shownAddress hides most of the URLs of chats: whoever knows one can write there.
func shownAddress(e storage.Endpoint) string {
	const shown = 4
	u, err := url.Parse(e.Address)
	switch e.Kind {
	case storage.Slack, storage.Discord, storage.Teams:
		if err != nil || len(u.Path) < 2*shown {
			return "…"
		}
		return u.Scheme + "://" + u.Host + "/…" + u.Path[len(u.Path)-shown:]
	default:
		return e.Address
	}
}

// deliveryJSON is a notification to an endpoint with its latest attempt.
type deliveryJSON struct {
	ID             uuid.UUID       `json:"id"`
	Event          string          `json:"event"`
	Status         string          `json:"status"`
	CreatedAt      wire.Time       `json:"created_at"`
	Attempts       int64           `json:"attempts"`
	NextAttemptAt  wire.Time       `json:"next_attempt_at"`
	AttemptedAt    wire.Time       `json:"attempted_at"`
	DurationMillis *int64          `json:"duration_ms"`
	Sent           wire.NullString `json:"sent"`
	ResponseStatus *int64          `json:"response_status"`
	ResponseBody   wire.NullString `json:"response_body"`
	Error          wire.NullString `json:"error"`
}

// deliveryOf converts a delivery for the API; what was never attempted is null.
func deliveryOf(d storage.Delivery) deliveryJSON {
	out := deliveryJSON{
		ID: d.ID, Event: d.Event.String(), Status: d.State.String(), CreatedAt: wire.Time(d.At()), Attempts: d.Attempts,
		NextAttemptAt: wire.Time(d.DueAt), AttemptedAt: wire.Time(d.AttemptedAt), Sent: wire.NullString(d.Sent),
		ResponseBody: wire.NullString(d.Answer), Error: wire.NullString(d.Problem),
	}
	if !d.AttemptedAt.IsZero() {
		out.DurationMillis = new(d.Took.Milliseconds())
	}
	if d.Status != 0 {
		out.ResponseStatus = &d.Status
	}
	return out
}

// listEndpoints answers GET /v1/endpoints/. A workspace has few, so there are no pages.
func (s *Server) listEndpoints(c *call) error {
	all, err := s.store.Endpoints(c.ctx(), c.who.workspace)
	return c.ok(page{wire.Map(all, endpointOf), ""}, err)
}

// readEndpoint answers GET /v1/endpoints/{id}.
func (s *Server) readEndpoint(c *call) error {
	id, err := c.pathID("endpoint_id")
	if err != nil {
		return err
	}
	e, err := s.store.Endpoint(c.ctx(), c.who.workspace, id)
	return answerEndpoint(c, e, err)
}

// answerEndpoint answers an endpoint, or 404.
func answerEndpoint(c *call, e storage.Endpoint, err error) error {
	return c.ok(endpointOf(e), orNotFound(err, "Endpoint not found"))
}

// createEndpoint answers POST /v1/endpoints/. It checks the address before it stores anything, and
// answers the secret that signs webhooks, which is shown only when it is made or rolled.
func (s *Server) createEndpoint(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	in := storage.NewEndpoint{
		Kind:    storage.EndpointKind(o.Literal("kind", storage.EndpointKinds()...)),
		Address: o.String("url", 1, maxEndpointURL),
		Events:  eventsOf(o.Literals("events", eventWords()...)),
	}
	// Without a label an endpoint is named by its kind.
	in.Label = string(in.Kind)
	if label := o.OptionalString("label", 1, MaxName); label != nil {
		in.Label = *label
	}
	o.RefuseUnknown()
	// Else one of them was refused already, and the address cannot be checked.
	if in.Kind != "" && in.Address != "" {
		s.checkAddress(o, in.Kind, in.Address)
	}
	if err := o.Err(); err != nil {
		return err
	}
	if in.Kind == storage.Email && s.SMTP == nil {
		return &apiError{status: http.StatusBadRequest, detail: "This server sends no email: its operator has set no SMTP server"}
	}
	e, secret, err := s.store.CreateEndpoint(c.ctx(), c.who.workspace, in)
	if err != nil {
		return err
	}
	c.json(http.StatusCreated, newSecretJSON{endpointOf(e), wire.NullString(secret)})
	return nil
}

// eventWords are what an endpoint can ask for.
func eventWords() []string { return append([]string{"*"}, storage.EventNames()...) }

// eventsOf parses the names of events; * is all of them.
func eventsOf(words []string) (all storage.Events) {
	for _, word := range words {
		if word == "*" {
			return storage.AllEvents
		}
		all |= storage.EventsOf(storage.ParseEvent(word))
	}
	return all
}

// checkAddress refuses what no message can be sent to.
func (s *Server) checkAddress(o *request.Object, kind storage.EndpointKind, address string) {
	if kind == storage.Email {
		if CheckEmail(address) != nil {
			o.Refuse("url", "not a valid email address")
		}
		return
	}
	if err := notify.CheckURL(address, kind, s.WebhookPrivate); err != nil {
		o.Refuse("url", err.Error())
	}
}

// updateEndpoint answers PATCH /v1/endpoints/{id}. Fields that are left out stay. Enabling an
// endpoint that was switched off after failures lets it begin anew.
func (s *Server) updateEndpoint(c *call) error {
	id, idErr := c.pathID("endpoint_id")
	o, err := s.object(c)
	if err != nil {
		return request.Join(idErr, err)
	}
	in := storage.EndpointChange{
		Label: o.PresentString("label", 1, MaxName), Address: o.PresentString("url", 1, maxEndpointURL),
		On: o.PresentBool("enabled"),
	}
	if o.Has("events") {
		in.Events = new(eventsOf(o.Literals("events", eventWords()...)))
	}
	o.RefuseUnknown()
	// Which addresses are good depends on the kind, which cannot be changed.
	if in.Address != nil && idErr == nil {
		e, err := s.store.Endpoint(c.ctx(), c.who.workspace, id)
		if err != nil {
			return orNotFound(err, "Endpoint not found")
		}
		s.checkAddress(o, e.Kind, *in.Address)
	}
	if err := request.Join(idErr, o.Err()); err != nil {
		return err
	}
	e, err := s.store.UpdateEndpoint(c.ctx(), c.who.workspace, id, in)
	return answerEndpoint(c, e, err)
}

// deleteEndpoint answers DELETE /v1/endpoints/{id}, with what was deleted.
func (s *Server) deleteEndpoint(c *call) error {
	id, err := c.pathID("endpoint_id")
	if err != nil {
		return err
	}
	e, err := s.store.DeleteEndpoint(c.ctx(), c.who.workspace, id)
	return answerEndpoint(c, e, err)
}

// rollEndpointSecret lets the old secret sign for a day, unless it is told otherwise.
func (s *Server) rollEndpointSecret(c *call) error {
	id, idErr := c.pathID("endpoint_id")
	o, err := s.optionalObject(c)
	if err != nil {
		return request.Join(idErr, err)
	}
	overlap := o.OptionalInt("overlap_seconds", 0, int64(storage.MaxSecretOverlap/time.Second))
	o.RefuseUnknown()
	if err := request.Join(idErr, o.Err()); err != nil {
		return err
	}
	if overlap == nil {
		overlap = new(int64(day / time.Second))
	}
	e, secret, err := s.store.RollEndpointSecret(c.ctx(), c.who.workspace, id, time.Duration(*overlap)*time.Second)
	return c.ok(newSecretJSON{endpointOf(e), wire.NullString(secret)}, orNotFound(err, "Endpoint not found"))
}

// testEndpoint queues a message, as all are: its delivery says how it went.
func (s *Server) testEndpoint(c *call) error {
	id, err := c.pathID("endpoint_id")
	if err != nil {
		return err
	}
	d, err := s.store.TestEndpoint(c.ctx(), c.who.workspace, id)
	return answerQueued(c, d, err, "Endpoint not found")
}

// resendDelivery answers POST …/deliveries/{id}/resend: the delivery is queued once more, under its
// old id, so that receivers can recognize it.
func (s *Server) resendDelivery(c *call) error {
	id, err := c.pathID("endpoint_id")
	message, messageErr := c.pathID("delivery_id")
	if err := request.Join(err, messageErr); err != nil {
		return err
	}
	d, err := s.store.Resend(c.ctx(), c.who.workspace, id, message)
	return answerQueued(c, d, err, "Delivery not found")
}

// answerQueued answers 202: the delivery is queued, and its outcome not known yet.
func answerQueued(c *call, d storage.Delivery, err error, none string) error {
	if err != nil {
		return orNotFound(err, none)
	}
	c.json(http.StatusAccepted, deliveryOf(d))
	return nil
}

// listDeliveries answers GET …/deliveries, the newest first.
func (s *Server) listDeliveries(c *call) error {
	id, idErr := c.pathID("endpoint_id")
	q := request.ReadQuery(c.r)
	f := storage.DeliveryFilter{
		State:  storage.ParseDeliveryState(q.Literal("status", storage.DeliveryStates()...)),
		Limit:  q.Int("limit", pageLength, 1, maxPage),
		Cursor: q.String("cursor", maxCursor),
	}
	if err := request.Join(idErr, q.Err()); err != nil {
		return err
	}
	all, next, err := s.store.Deliveries(c.ctx(), c.who.workspace, id, f)
	return c.ok(page{wire.Map(all, deliveryOf), wire.NullString(next)},
		badCursor(orNotFound(err, "Endpoint not found"), "cursor", f.Cursor))
}

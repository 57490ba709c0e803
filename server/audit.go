package server

import (
	"encoding/json"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// actor is who makes the call, for the audit log.
func (c *call) actor() storage.Actor {
	a := storage.Actor{Kind: storage.ActorNobody, Address: c.remote()}
	switch {
	// Asked first, because the holder of a key has an account too.
	case c.who.byKey():
		a.Kind, a.Name = storage.ActorKey, c.who.prefix
	case c.who.account != uuid.Nil:
		a.Kind, a.Account = storage.ActorAccount, c.who.account
	}
	return a
}

// actorJSON is who did something: an account by its email, an API key by its prefix, or the server
// itself.
type actorJSON struct {
	Kind storage.ActorKind `json:"kind"`
	Name wire.NullString   `json:"name"`
}

// auditJSON is an entry of the audit log. Before and after hold only the attributes that differ.
type auditJSON struct {
	ID      uuid.UUID       `json:"id"`
	At      wire.Time       `json:"at"`
	Actor   actorJSON       `json:"actor"`
	Action  storage.Action  `json:"action"`
	Target  wire.NullString `json:"target"`
	Before  json.RawMessage `json:"before"` // nil is null
	After   json.RawMessage `json:"after"`
	Address wire.NullString `json:"address"`
}

// auditOf converts an entry for the API.
func auditOf(e storage.AuditEntry) auditJSON {
	return auditJSON{
		ID: e.ID, At: wire.Time(e.At), Actor: actorJSON{e.Actor.Kind,
			wire.NullString(e.Actor.Name)}, Action: e.Action,
		Target: wire.NullString(e.Target), Before: e.Before, After: e.After,
		Address: wire.NullString(e.Address),
	}
}

// listAudit answers GET /v1/audit/: a page of the log, the newest entry first.
func (s *Server) listAudit(c *call) error {
	q := request.ReadQuery(c.r)
	f := storage.AuditFilter{
		Action: storage.Action(q.Literal("action",
			wire.Map(storage.Actions(), func(a storage.Action) string { return string(a) })...)),
		Since:  q.OptionalTime("since"),
		Until:  q.OptionalTime("until"),
		Limit:  q.Int("limit", pageLength, 1, maxPage),
		Cursor: q.String("cursor", maxCursor),
	}
	if err := q.Err(); err != nil {
		return err
	}
	entries, next, err := s.store.Audit(c.ctx(), c.who.workspace, f)
	return c.ok(page{wire.Map(entries, auditOf), wire.NullString(next)},
		badCursor(err, "cursor", f.Cursor))
}

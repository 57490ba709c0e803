package server

import (
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	// maxViewName is the length of a view's name.
	maxViewName = 60
	// maxViewQuery is the length of its query string.
	maxViewQuery = 2000
)

// savedViewJSON is a filter of the list of runs, under a name. Its query is the dashboard's, which
// the server stores as it is.
type savedViewJSON struct {
	ID        uuid.UUID `json:"id"`
	Name      string    `json:"name"`
	Query     string    `json:"query"`
	CreatedAt wire.Time `json:"created_at"`
}

// savedViewOf converts a view for the API.
func savedViewOf(v storage.SavedView) savedViewJSON {
	return savedViewJSON{v.ID, v.Name, v.Query, wire.Time(v.CreatedAt.Truncate(time.Millisecond))}
}

// listSavedViews answers GET /v1/saved-views/.
func (s *Server) listSavedViews(c *call) error {
	views, err := s.store.SavedViews(c.ctx(), c.who.workspace)
	return c.ok(map[string]any{"items": wire.Map(views, savedViewOf)}, err)
}

// saveView keeps a view, in place of the one that has its name.
func (s *Server) saveView(c *call) error {
	o, err := s.object(c)
	if err != nil {
		return err
	}
	name, query := o.String("name", 1, maxViewName), o.String("query", 0, maxViewQuery)
	o.RefuseUnknown()
	if err := o.Err(); err != nil {
		return err
	}
	v, err := s.store.SaveView(c.ctx(), c.who.workspace, name, query)
	if err != nil {
		return err
	}
	c.json(http.StatusCreated, savedViewOf(v))
	return nil
}

// deleteSavedView answers DELETE /v1/saved-views/{id}.
func (s *Server) deleteSavedView(c *call) error {
	id, err := c.pathID("view_id")
	if err != nil {
		return request.Join(err)
	}
	err = s.store.DeleteView(c.ctx(), c.who.workspace, id)
	return c.ok(struct {
		ID      uuid.UUID `json:"id"`
		Deleted bool      `json:"deleted"`
	}{id, true}, orNotFound(err, "View not found"))
}

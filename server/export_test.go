package server

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

// TestRoute is a row of the route table, for tests that hold it against the OpenAPI document.
type TestRoute struct {
	Method string
	Path   string // httprouter's form
	Key    bool   // takes an API key of scope agent
	Admin  bool   // takes one of scope admin
	Token  bool   // takes an account's token
	Audit  bool   // may change the configuration
}

// TestRoutes lists the whole API.
func (s *Server) TestRoutes() []TestRoute {
	return wire.Map(s.routes(), func(r route) TestRoute {
		return TestRoute{
			Method: r.method, Path: r.path,
			Key:   r.needs != public && ofAgentKey.has(r.needs),
			Admin: r.needs != public && ofAdminKey.has(r.needs),
			Token: r.needs != public && ofSession.has(r.needs),
			Audit: r.configures(),
		}
	})
}

// SetDecider puts any verdict in the place of guard.Decide. Call it before the first request.
func (s *Server) SetDecider(d storage.Decider) { s.decide = d }

// Offer hands changes to the hub as the store's writer does.
func (s *Server) Offer(changes []storage.Change) { s.hub.Offer(changes) }

// Join opens a stream that nobody reads, past HTTP.
func (s *Server) Join(ws storage.WorkspaceKey) error {
	_, err := s.hub.Join(context.Background(), ws, func(context.Context) error { return nil },
		http.NewResponseController(nil))
	return err
}

// ReviewLinks are the paths of the links that a message about a review has for an endpoint.
func (s *Server) ReviewLinks(ctx context.Context, e storage.Endpoint, review uuid.UUID) (approve, deny string, err error) {
	data, err := json.Marshal(map[string]uuid.UUID{"review_id": review})
	if err != nil {
		return "", "", err
	}
	a, err := s.reviewActions(ctx, e, storage.Delivery{Event: storage.ReviewRequested, Data: data})
	if err != nil || a == nil {
		return "", "", err
	}
	return strings.TrimPrefix(a.Approve, s.PublicURL), strings.TrimPrefix(a.Deny, s.PublicURL), nil
}

// EndPlans is the job that ends plans which are no longer paid.
func (s *Server) EndPlans(ctx context.Context) (int, error) { return s.billing.EndPlans(ctx) }

// Reconcile is the job that compares all customers with Stripe.
func (s *Server) Reconcile(ctx context.Context) (int, error) { return s.billing.Reconcile(ctx) }

// ClientAddress is where a request comes from.
func ClientAddress(r *http.Request, proxies []netip.Prefix) netip.Addr {
	return clientAddress(r, proxies)
}

// BackupDue, Backup, VerifyDue and Verify are the jobs that otherwise wait for their hour.
func (s *Server) BackupDue(now time.Time) bool     { return s.upkeep.backupDue(now) }
func (s *Server) Backup(ctx context.Context) error { return s.upkeep.backup(ctx) }
func (s *Server) VerifyDue() func(time.Time) bool  { return s.upkeep.verifyDue() }
func (s *Server) Verify(ctx context.Context) error { return s.upkeep.verify(ctx) }

// Jobs are the labels of all jobs.
func Jobs() []string { return jobLabels() }

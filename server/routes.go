package server

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/julienschmidt/httprouter"
)

// route is one call of the API.
type route struct {
	method string
	path   string // httprouter's form; its trailing slash makes no difference
	needs  permissions
	handle func(*call) error
}

// configures reports whether the call may change the configuration or sign in,
// so that the store must know who does it: all that is not read, but what
// agents call all the time, which is in the ledger.
func (rt route) configures() bool {
	return rt.method != http.MethodGet && !rt.needs.checkedByWriter()
}

// routes is the whole API.
func (s *Server) routes() []route {
	return []route{
		{"POST", "/v1/auth/register", public, s.register},
		{"POST", "/v1/auth/login", public, s.login},
		{"GET", "/v1/auth/me", canManage, s.me},
		{"POST", "/v1/auth/change-password", canManage, s.changePassword},
		{"POST", "/v1/auth/logout", canManage, s.logout},
		{"POST", "/v1/auth/logout-everywhere", canManage, s.logoutEverywhere},
		{"POST", "/v1/auth/logout-others", canManage, s.logoutOthers},
		{"GET", "/v1/auth/sessions", canManage, s.listSessions},
		{"DELETE", "/v1/auth/sessions/:session_id", canManage, s.endSession},

		{"POST", "/v1/runs/", canDecide, s.startRun},
		{"GET", "/v1/runs/", canRead, s.listRuns},
		{"GET", "/v1/runs/:run_id", canRead, s.readRun},
		{"GET", "/v1/runs/:run_id/outline", canRead, s.outlineRun},
		{"GET", "/v1/runs/:run_id/lines", canRead, s.readLines},
		{"GET", "/v1/runs/:run_id/breakdown", canRead, s.breakDownRun},
		{"GET", "/v1/runs/:run_id/neighbours", canRead, s.readNeighbours},
		{"GET", "/v1/runs/:run_id/steps/:step_id", canRead, s.readStep},
		{"POST", "/v1/runs/:run_id/end", canEndRun, s.endRun},
		{"POST", "/v1/runs/:run_id/heartbeat", canDecide, s.heartbeatRun},
		{"POST", "/v1/runs/:run_id/steps", canDecide, s.createStep},
		{"PATCH", "/v1/runs/:run_id/steps/:step_id", canReport, s.updateStep},

		{"GET", "/v1/reviews/", canRead, s.listReviews},
		{"GET", reviewPath, canRead, s.readReview},
		{"POST", decidePath, canReview, s.decideReviews},
		{"POST", "/v1/reviews/:review_id/approve", canReview, s.approveReview},
		{"POST", "/v1/reviews/:review_id/deny", canReview, s.denyReview},
		{"GET", linkPath, public, s.showLink},
		{"POST", linkPath, public, s.followLink}, // sealed by this server
		{"GET", "/v1/grants/", canRead, s.listGrants},
		{"GET", "/v1/grants/:grant_id/steps", canRead, s.listGrantUses},
		{"DELETE", "/v1/grants/:grant_id", canConfigure, s.revokeGrant},

		{"GET", "/v1/policies/", canRead, s.listPolicies},
		{"PUT", "/v1/policies/:name", canConfigure, s.savePolicy},
		{"DELETE", "/v1/policies/:name", canConfigure, s.deletePolicy},
		{"POST", "/v1/policies/backtest", canRead, s.backtest},
		{"GET", "/v1/policies/:name/versions", canRead, s.listPolicyVersions},

		// Not below /v1/runs/, where the router wants an id
		{"POST", "/v1/end-runs", canConfigure, s.endRuns},
		{"GET", "/v1/run-totals", canRead, s.readRunTotals},
		{"GET", "/v1/run-filters", canRead, s.readRunChoices},
		{"GET", "/v1/export-runs", canRead, s.exportRuns},

		{"GET", "/v1/saved-views/", canRead, s.listSavedViews},
		{"POST", "/v1/saved-views/", canConfigure, s.saveView},
		{"DELETE", "/v1/saved-views/:view_id", canConfigure, s.deleteSavedView},

		{"GET", "/v1/workspace/", canRead, s.readWorkspace},
		{"PATCH", "/v1/workspace/", canConfigure, s.updateWorkspace},
		{"POST", "/v1/workspace/kill-switch", canConfigure, s.setKillSwitch},

		{"GET", "/v1/users/", canRead, s.listUsers},
		{"DELETE", "/v1/users/*user_id", canConfigure, s.eraseUser},
		{"POST", "/v1/users/erase", canConfigure, s.eraseNamedUser},
		{"PUT", "/v1/blocked-users/*user_id", canConfigure, s.blockUser},
		{"DELETE", "/v1/blocked-users/*user_id", canConfigure, s.unblockUser},
		// Proxies change such paths ("%2F", "//", dots): these name the user in the body.
		{"POST", "/v1/blocked-users", canConfigure, s.blockNamedUser},
		{"POST", "/v1/blocked-users/unblock", canConfigure, s.unblockNamedUser},

		{"GET", "/v1/usage/", canRead, s.readUsage},
		{"GET", "/v1/usage/now", canRead, s.readBurn},
		{"GET", "/v1/usage/daily", canRead, s.readDailyUsage},
		{"GET", "/v1/usage/by", canRead, s.readUsageBy},
		{"GET", "/v1/usage/of-user", canRead, s.readUsageOfUser},

		{"GET", "/v1/storage", canRead, s.readSpace},

		{"GET", "/v1/events", canRead, s.watchEvents},

		{"GET", "/v1/api-keys/", canRead, s.readAPIKey},
		{"POST", "/v1/api-keys/regenerate", canConfigure, s.regenerateAPIKey},
		{"GET", "/v1/api-keys/all", canRead, s.listAPIKeys},
		{"POST", "/v1/api-keys/", canConfigure, s.createAPIKey},
		{"PATCH", "/v1/api-keys/:key_id", canConfigure, s.renameAPIKey},
		{"DELETE", "/v1/api-keys/:key_id", canConfigure, s.revokeAPIKey},

		{"GET", "/v1/model-pricing/", canRead, s.listPrices},
		{"GET", "/v1/model-pricing/catalogue", canRead, s.listCatalogue},
		{"GET", "/v1/model-pricing/resolve", canRead, s.resolvePrice},
		{"POST", "/v1/model-pricing/reprice", canRewrite, s.reprice},
		{"PUT", "/v1/model-pricing/*model", canConfigure, s.setPrice},

		{"GET", "/v1/endpoints/", canInspect, s.listEndpoints},
		{"POST", "/v1/endpoints/", canConfigure, s.createEndpoint},
		{"GET", "/v1/endpoints/:endpoint_id", canInspect, s.readEndpoint},
		{"PATCH", "/v1/endpoints/:endpoint_id", canConfigure, s.updateEndpoint},
		{"DELETE", "/v1/endpoints/:endpoint_id", canConfigure, s.deleteEndpoint},
		{"POST", "/v1/endpoints/:endpoint_id/roll-secret", canConfigure, s.rollEndpointSecret},
		{"POST", "/v1/endpoints/:endpoint_id/test", canConfigure, s.testEndpoint},
		{"GET", "/v1/endpoints/:endpoint_id/deliveries", canInspect, s.listDeliveries},
		{"POST", "/v1/endpoints/:endpoint_id/deliveries/:delivery_id/resend", canConfigure, s.resendDelivery},

		{"GET", "/v1/audit/", canRead, s.listAudit},

		{"GET", "/v1/billing/", canBill, s.readBilling},
		{"POST", "/v1/billing/checkout", canBill, s.startCheckout},
		{"POST", "/v1/billing/portal", canBill, s.openPortal},
		{"POST", "/v1/billing/webhook", public, s.takeStripeEvent}, // signed by Stripe

		{"GET", "/v1/server", public, s.describe},
		{"GET", "/health", public, s.health},
		{"GET", "/health/ready", public, s.ready},
		{"GET", "/openapi.json", public, s.openAPI},
		{"GET", "/clients/", public, s.listClients},
		{"GET", "/clients/:file", public, s.readClient},
	}
}

// decidePath is a fixed path where the router has a wildcard for its last part,
// and takes no other; Handler looks for it before.
const decidePath = "/v1/reviews/decide"

// Handler routes requests: the API by its table, everything else to the
// dashboard's files. Each brings its own context.
//
//nolint:contextcheck
func (s *Server) Handler() http.Handler {
	router := httprouter.New()
	router.RedirectTrailingSlash = false // a redirect would turn a POST into a GET
	router.RedirectFixedPath = false
	router.HandleOPTIONS = false
	fixed := make(map[string]httprouter.Handle)
	for _, rt := range s.routes() {
		handle := s.answer(rt)
		for _, form := range bothForms(rt.path) {
			if rt.path == decidePath {
				fixed[rt.method+form] = handle
				continue
			}
			router.Handle(rt.method, form, handle)
			if rt.method == http.MethodGet {
				router.Handle(http.MethodHead, form, handle) // which sends no body; see call.body
			}
		}
	}
	router.NotFound = s.fallback(route{needs: public, handle: s.serveDashboard})
	router.MethodNotAllowed = s.fallback(route{needs: public, handle: s.methodNotAllowed})
	return serveBelow(s.BasePath, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if handle, ok := fixed[r.Method+r.URL.Path]; ok {
			handle(w, r, nil)
			return
		}
		if strings.Contains(r.URL.RawPath, "%2F") || strings.Contains(r.URL.RawPath, "%2f") {
			serveEscaped(router, w, r)
			return
		}
		router.ServeHTTP(w, r)
	}))
}

// serveEscaped answers a path in which a slash is escaped: it is part of a name, and ends none. The
// router knows decoded paths alone, in which /v1/runs/x%2Fend would end a run.
func serveEscaped(router *httprouter.Router, w http.ResponseWriter, r *http.Request) {
	const slash = "\xff2F\xff" // stands for an escaped one: no name that is taken has such bytes
	escaped := strings.NewReplacer("%2F", url.PathEscape(slash), "%2f", url.PathEscape(slash)).Replace(r.URL.RawPath)
	path, err := url.PathUnescape(escaped)
	if err != nil {
		path = r.URL.RawPath
	}
	handle, params, _ := router.Lookup(r.Method, path)
	if handle == nil { // the router says why
		other := r.Clone(r.Context())
		other.URL.Path = strings.ReplaceAll(path, slash, "%2F")
		router.ServeHTTP(w, other)
		return
	}
	for i := range params {
		params[i].Value = strings.ReplaceAll(params[i].Value, slash, "/")
	}
	handle(w, r, params)
}

// methodNotAllowed answers with the router's Allow header, of which OPTIONS is
// not true: the router adds it to every path.
func (s *Server) methodNotAllowed(c *call) error {
	if s.preflight(c) {
		return nil
	}
	methods := strings.Split(c.w.Header().Get("Allow"), ", ")
	methods = slices.DeleteFunc(methods, func(m string) bool { return m == http.MethodOptions })
	if strings.TrimSuffix(c.r.URL.Path, "/") == decidePath { // which the router does not know
		methods = append(methods, http.MethodPost)
	}
	c.w.Header().Set("Allow", strings.Join(methods, ", "))
	return &apiError{status: http.StatusMethodNotAllowed, detail: "Method Not Allowed"}
}

// bothForms are the paths of a route with and without its trailing slash. The
// rest-of-path parameters strip theirs themselves, and may be empty.
func bothForms(path string) []string {
	if bare, _, rest := strings.Cut(path, "/*"); rest {
		return []string{bare, path}
	}
	bare := strings.TrimSuffix(path, "/")
	return []string{bare, bare + "/"}
}

// fallback answers what no route has, with the same limits and log as a call.
func (s *Server) fallback(rt route) http.Handler {
	handle := s.answer(rt)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, nil) })
}

package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

func readDocument(t *testing.T) *openapi3.T {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

func TestEachRouteIsDocumentedWithItsCredentials(t *testing.T) {
	t.Parallel()
	doc := readDocument(t)
	documented := make(map[string]bool)
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			documented[method+" "+path] = true
		}
	}
	for _, rt := range newWorld(t).routes {
		name := rt.Method + " " + documentedPath(rt.Path)
		if !documented[name] {
			t.Errorf("%s is not documented", name)
			continue
		}
		delete(documented, name)
		op := operation(doc, rt.Method, rt.Path)
		if op.Security == nil {
			t.Errorf("%s does not say which credentials it takes", name)
			continue
		}
		var key, admin, token bool
		for _, way := range *op.Security {
			_, isKey := way["apiKey"]
			_, isAdmin := way["adminKey"]
			_, isToken := way["token"]
			key, admin, token = key || isKey, admin || isAdmin, token || isToken
		}
		if key != rt.Key || admin != (rt.Admin && !rt.Key) || token != rt.Token {
			t.Errorf("%s is documented with key %v, admin key %v, token %v; the route table has %v, %v, %v",
				name, key, admin, token, rt.Key, rt.Admin, rt.Token)
		}
	}
	for name := range documented {
		t.Errorf("%s is documented, but there is no such route", name)
	}
}

// The answers that tests of their own give, because a table cannot.
var answeredElsewhere = []string{
	"POST /v1/endpoints/:endpoint_id/roll-secret 400", "POST /v1/endpoints/:endpoint_id/test 400",
	"POST /v1/endpoints/:endpoint_id/deliveries/:delivery_id/resend 400",
	"POST /v1/api-keys/ 400", "POST /v1/api-keys/regenerate 400",
	"GET /v1/api-keys/ 404", "POST /v1/auth/register 403", "POST /v1/auth/login 429", "GET /health/ready 503",
	"POST /v1/policies/backtest 400", // TestABacktestEndsInTime
	"PUT /v1/policies/:name 400",     // storage: TestPoliciesAreCountedAndRefusedBeyondTheirNumber
	"GET /v1/events 429", "GET /v1/events 503", "POST /v1/auth/change-password 429",
	"DELETE /v1/users/*user_id 202", "POST /v1/users/erase 202",
	"GET /v1/export-runs 429", "GET /v1/export-runs 503", "POST /v1/saved-views/ 400",
	"GET /decide/:link 200", "GET /decide/:link 410", "POST /decide/:link 200", "POST /decide/:link 410", "POST /decide/:link 422", // links_test.go
	"GET /clients/:file 206", "GET /clients/:file 412", "GET /clients/:file 416",
}

func TestEachDocumentedAnswerHasATest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tested := make(map[string]bool)
	for _, name := range answeredElsewhere {
		tested[name] = true
	}
	for _, c := range append(successes(), refusals()...) {
		path, _, _ := strings.Cut(c.path, "?")
		rt, _ := findRoute(w.routes, c.method, path)
		if rt == nil {
			t.Fatalf("no route takes %s %s", c.method, c.path)
		}
		tested[fmt.Sprintf("%s %s %d", rt.Method, rt.Path, c.status)] = true
	}
	doc := readDocument(t)
	for _, rt := range w.routes {
		op := operation(doc, rt.Method, rt.Path)
		for status := range op.Responses.Map() {
			switch status {
			case "413", "503": // TestABodyOverTheLimitIsRefused, TestAFullQueueIsA503
				if op.RequestBody != nil || rt.Method != "GET" {
					continue
				}
			case "401": // TestEachProtectedCallNeedsItsCredential
				if rt.Admin || rt.Token {
					continue
				}
			case "200": // billing_test.go: it takes a Stripe
				if strings.HasPrefix(rt.Path, "/v1/billing/") && rt.Method == "POST" {
					continue
				}
			}
			if name := rt.Method + " " + rt.Path + " " + status; !tested[name] {
				t.Errorf("%s is documented, but nothing tests it", name)
			}
		}
	}
}

// samples are a well-formed call of each route.
func samples(t *testing.T, routes []server.TestRoute) []apiCase {
	t.Helper()
	cases := append(successes(), refusals()...)
	out := make([]apiCase, 0, len(routes))
	for _, rt := range routes {
		i := slices.IndexFunc(cases, func(c apiCase) bool {
			path, _, _ := strings.Cut(c.path, "?")
			return c.method == rt.Method && pathMatches(rt.Path, path) && (success(c.status) || c.want == noBilling || isLink(c))
		})
		if i < 0 {
			t.Fatalf("no case calls %s %s", rt.Method, rt.Path)
		}
		out = append(out, cases[i])
	}
	return out
}

func TestEachProtectedCallNeedsItsCredential(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	before := w.look(f.account)
	for i, c := range samples(t, w.routes) {
		rt := w.routes[i]
		call := func(credential, want string) {
			t.Helper()
			w.call(c.method, f.fill(c.path), credential, nil).wantDetail(http.StatusUnauthorized, want)
		}
		if !rt.Admin && !rt.Token {
			continue
		}
		call("", "Not authenticated")
		switch {
		case !rt.Admin:
			call(f.key, "This call needs a signed-in account, not an API key")
			call("lg_nonsense", "This call needs a signed-in account, not an API key")
		case !rt.Token:
			call(f.token, "This call needs an API key")
			call("nonsense", "This call needs an API key")
		}
		if rt.Admin {
			call("lg_nonsense", "Invalid API key")
		}
		if rt.Token {
			call("nonsense", "Invalid token")
		}
	}
	if got := changes(before, w.look(f.account)); got != "" {
		t.Errorf("calls that were refused changed %s", got)
	}
}

func TestAPathTakesOnlyItsMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range samples(t, w.routes) {
		path, _, _ := strings.Cut(c.path, "?")
		path = strings.NewReplacer("{run}", unknownID, "{step}", unknownID, "{ended}", unknownID, "{key}", unknownID,
			"{endpoint}", unknownID, "{delivery}", unknownID).Replace(path)
		_, allowed := findRoute(w.routes, "", path)
		slices.Sort(allowed)
		for _, form := range []string{path, otherForm(path)} {
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "QUERY"} {
				if slices.Contains(allowed, method) {
					continue
				}
				r := w.call(method, form, "", nil).want(http.StatusMethodNotAllowed)
				if got, want := r.header.Get("Allow"), strings.Join(allowed, ", "); got != want {
					t.Errorf("%s %s allows %q, want %q", method, form, got, want)
				}
				if want := `{"detail":"Method Not Allowed"}`; method != "HEAD" && string(r.body) != want {
					t.Errorf("%s %s answered %s", method, form, r.body)
				}
			}
		}
	}
}

// HEAD answers what GET does, without the body, wherever there is a GET.
func TestHeadAnswersAsGet(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	before := w.look(f.account)
	for _, c := range samples(t, w.routes) {
		if c.method != http.MethodGet {
			continue
		}
		for _, path := range []string{f.fill(c.path), otherForm(f.fill(c.path))} {
			get, head := w.call("GET", path, c.credential(f.account), nil), w.call("HEAD", path, c.credential(f.account), nil)
			if head.status != get.status || len(head.body) > 0 {
				t.Errorf("HEAD %s answered %d with %d bytes, GET %d", path, head.status, len(head.body), get.status)
			}
			for _, name := range []string{"Content-Type", "Content-Length", "Cache-Control"} {
				stream := get.header.Get("Content-Type") == "text/event-stream" || isExport(get.header) // which have no length
				if got, want := head.header.Get(name), get.header.Get(name); got != want && !stream {
					t.Errorf("HEAD %s says %s: %q, GET %q", path, name, got, want)
				}
			}
		}
	}
	for _, path := range []string{"/", "/overview", "/assets/ui.js"} {
		w.call("HEAD", path, "", nil).want(http.StatusOK)
	}
	if got := changes(before, w.look(f.account)); got != "" {
		t.Errorf("HEAD changed %s", got)
	}
	w.call("HEAD", "/v1/runs/", "", nil).want(http.StatusUnauthorized)
}

func TestACompressedBodyIsRefusedByItsHeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	for i, c := range samples(t, w.routes) {
		if op := operation(readDocument(t), c.method, w.routes[i].Path); op.RequestBody == nil {
			continue
		}
		r := w.call(c.method, f.fill(c.path), c.credential(f.account), "\x1f\x8b\x08", "Content-Encoding", "gzip")
		r.wantDetail(http.StatusUnsupportedMediaType, `The request has the header Content-Encoding: "gzip". Send the body without it, uncompressed`)
		if got := r.header.Get("Accept-Encoding"); got != "identity" {
			t.Errorf("Accept-Encoding is %q", got)
		}
	}
	w.call("POST", "/v1/runs/", f.key, `{"user_id":"ada"}`, "Content-Encoding", "Identity").want(http.StatusCreated)
}

func TestAnUnknownPathIs404InJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Basic)
	for _, path := range []string{
		"/v1", "/v1/", "/v2/runs/", "/v1/run", "/V1/runs/", "/v1//runs", "//v1/runs/", "/v1/runs/" + unknownID + "/step",
		"/v1/runs/" + unknownID + "/end/now", "/v1/usage/monthly", "/v1/workspace/killswitch", "/index.htm", "/assets", "/assets/",
		"/assets/none.js", "/../server.go", "/%2e%2e/server.go", "/health/live", "/openapi.yaml", "/v1/blocked-user/x", "/v1/billing/webhooks",
	} {
		for _, method := range []string{"GET", "POST", "DELETE"} {
			if _, allowed := findRoute(w.routes, method, path); len(allowed) > 0 {
				continue
			}
			w.call(method, path, a.key, nil).wantDetail(http.StatusNotFound, "Not Found")
		}
		if r := w.call("HEAD", path, "", nil).want(http.StatusNotFound); len(r.body) > 0 {
			t.Errorf("HEAD %s has a body", path)
		}
	}
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	t.Parallel()
	const limit = 1000
	w := newWorld(t, func(cfg *server.Config) { cfg.MaxBody, cfg.MaxRunBody = limit, limit })
	f := w.makeFixture(plans.Scale)
	before := w.look(f.account)
	doc := readDocument(t)
	for i, c := range samples(t, w.routes) {
		op := operation(doc, c.method, w.routes[i].Path)
		if op.RequestBody == nil {
			if op.Responses.Status(http.StatusRequestEntityTooLarge) != nil {
				t.Errorf("%s documents 413, but takes no body", op.OperationID)
			}
			continue
		}
		large := strings.Repeat(" ", limit) + "x" // one byte too many, and no JSON either
		setting := "max-body"
		if strings.HasPrefix(c.path, "/v1/runs/") {
			setting = "max-run-body"
		}
		r := w.call(c.method, f.fill(c.path), c.credential(f.account), large).want(http.StatusRequestEntityTooLarge)
		wantBody(t, r, tooLarge("1000", setting))
	}
	if got := changes(before, w.look(f.account)); got != "" {
		t.Errorf("bodies over the limit changed %s", got)
	}
	full := `{"user_id":"ada"` + strings.Repeat(" ", limit-len(`{"user_id":"ada"}`)) + `}`
	w.call("POST", "/v1/runs/", f.key, full).want(http.StatusCreated)
}

// A full queue stands for all that keeps the server from writing: the same
// error, without waiting for a lock.
func TestAFullQueueIsA503(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, storage.Options{QueueSize: 1})
	f := w.makeFixture(plans.Scale)
	before := w.look(f.account)
	inside, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	w.server.SetDecider(func(req guard.Request, st guard.State) guard.Decision {
		once.Do(func() { close(inside); <-release })
		return guard.Decide(req, st)
	})
	heartbeat := func() int {
		r, err := w.try("POST", f.fill("/v1/runs/{run}/heartbeat"), f.key, nil)
		if err != nil {
			t.Error(err)
			return 0
		}
		return r.status
	}
	statuses := make(chan int)
	go func() { statuses <- heartbeat() }()
	<-inside // the writer is busy; of two more calls, one finds the queue's only place
	for range 2 {
		go func() { statuses <- heartbeat() }()
	}
	if got := <-statuses; got != http.StatusServiceUnavailable {
		t.Fatalf("a call beyond the queue answered %d", got)
	}
	doc := readDocument(t)
	for i, c := range samples(t, w.routes) {
		var body any
		if c.body != "" {
			body = f.fill(c.body)
		}
		r := w.call(c.method, f.fill(c.path), c.credential(f.account), body)
		op := operation(doc, c.method, w.routes[i].Path)
		if (r.status == http.StatusServiceUnavailable) != (op.Responses.Status(http.StatusServiceUnavailable) != nil && c.want != noBilling && !isLink(c) && op.OperationID != "exportRuns") {
			t.Errorf("%s answered %d while the queue was full", r.what, r.status)
		}
		if r.status == http.StatusServiceUnavailable && r.header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After is %q", r.what, r.header.Get("Retry-After"))
		}
	}
	close(release)
	for range 2 {
		if got := <-statuses; got != http.StatusOK {
			t.Errorf("a call that had its place answered %d", got)
		}
	}
	if got := changes(before, w.look(f.account)); got != "" {
		t.Errorf("calls that were turned away changed %s", got)
	}
}

func TestTheDocumentIsServedAsItIs(t *testing.T) {
	t.Parallel()
	r := newWorld(t).call("GET", "/openapi.json", "", nil).want(http.StatusOK)
	var served struct {
		OpenAPI string `json:"openapi"`
		Paths   map[string]json.RawMessage
	}
	if err := json.Unmarshal(r.body, &served); err != nil {
		t.Fatal(err)
	}
	if want := readDocument(t).Paths.Len(); served.OpenAPI != "3.0.3" || len(served.Paths) != want {
		t.Errorf("served OpenAPI %s with %d paths, want %d", served.OpenAPI, len(served.Paths), want)
	}
}

// Where a call needs no body, null is none: the document says so too.
func TestNoBodyMayBeNull(t *testing.T) {
	doc := readDocument(t)
	for path, item := range doc.Paths.Map() {
		for method, op := range item.Operations() {
			if op.RequestBody == nil || op.RequestBody.Value.Required {
				continue
			}
			if body := op.RequestBody.Value.Content.Get("application/json"); body != nil && !body.Schema.Value.Nullable {
				t.Errorf("the body of %s %s may be left out, and not be null", method, path)
			}
		}
	}
}

package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/pikarc/server/server"
)

// document is openapi.json, read and checked once.
var document = sync.OnceValues(func() (*openapi3.T, error) {
	data, err := os.ReadFile("openapi.json")
	if err != nil {
		return nil, err
	}
	loader := openapi3.NewLoader()
	doc, err := loader.LoadFromData(data)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(loader.Context)
})

var pathParameter = regexp.MustCompile(`[:*](\w+)`)

// documentedPath turns httprouter's form of a path into OpenAPI's.
func documentedPath(path string) string {
	return pathParameter.ReplaceAllString(path, "{$1}")
}

// findRoute finds the route of a request, as the router should, and the
// methods that its path takes.
func findRoute(routes []server.TestRoute, method, path string) (found *server.TestRoute, allowed []string) {
	for i, rt := range routes {
		if !pathMatches(rt.Path, path) {
			continue
		}
		allowed = append(allowed, rt.Method)
		if rt.Method == http.MethodGet {
			allowed = append(allowed, http.MethodHead)
		}
		if rt.Method == method || rt.Method == http.MethodGet && method == http.MethodHead {
			found = &routes[i]
		}
	}
	return found, allowed
}

// pathMatches compares an escaped path without query with httprouter's form;
// a trailing slash makes no difference.
func pathMatches(template, path string) bool {
	if prefix, _, rest := strings.Cut(template, "*"); rest {
		return strings.HasPrefix(path+"/", prefix)
	}
	want := strings.Split(strings.TrimSuffix(template, "/"), "/")
	got := strings.Split(strings.TrimSuffix(path, "/"), "/")
	if len(want) != len(got) {
		return false
	}
	for i := range want {
		if want[i] != got[i] && !strings.HasPrefix(want[i], ":") {
			return false
		}
	}
	return true
}

// checkAnswer holds an answer against the promises that hold for every call,
// and against the OpenAPI document.
func checkAnswer(t testing.TB, routes []server.TestRoute, req *http.Request, sent []byte, r *response) {
	t.Helper()
	complain := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%s %s answered %d %s\n%s", req.Method, req.URL.EscapedPath(), r.status, shortBody(r.body), fmt.Sprintf(format, args...))
	}
	if len(r.header["X-Request-Id"]) != 1 || r.header.Get("X-Request-Id") == "" {
		complain("X-Request-Id is %q, want one", r.header["X-Request-Id"])
	}
	if r.header.Get("Content-Type") == "text/event-stream" {
		if req.Method != http.MethodHead {
			checkStream(r, complain)
		}
		return
	}
	if got := r.header.Get("Content-Length"); !isExport(r.header) && got != strconv.Itoa(len(r.body)) && req.Method != http.MethodHead && r.status != http.StatusNotModified {
		complain("Content-Length is %q for %d bytes", got, len(r.body))
	}
	rt, allowed := findRoute(routes, req.Method, req.URL.EscapedPath())
	if rt == nil && slices.Contains(fileStatuses, r.status) {
		return // a file of the dashboard
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		if rt == nil || !isDocumentedFile(rt, r.status, got) {
			complain("Content-Type is %q", got)
		}
		return
	}
	checkStatusHeaders(r, complain)
	if req.Method == http.MethodHead {
		return
	}
	v, err := decodeJSON(r.body)
	if err != nil {
		complain("not JSON: %v", err)
		return
	}
	if rt == nil || rt.Path != "/openapi.json" {
		checkForm(r.body, v, complain)
	}
	doc, err := document()
	if err != nil {
		complain("the OpenAPI document: %v", err)
		return
	}
	if rt == nil {
		want := http.StatusNotFound
		if len(allowed) > 0 {
			want = http.StatusMethodNotAllowed
		}
		if r.status != want && !documentedForAll(r) {
			complain("no such call is documented, want %d", want)
		}
		checkSchema(doc.Components.Schemas["Error"].Value, v, complain)
		return
	}
	checkOperation(doc, rt, sent, r, v, complain)
}

// fileStatuses are those of a file of the dashboard, beside 404.
var fileStatuses = []int{
	http.StatusOK, http.StatusPartialContent, http.StatusNotModified,
	http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable,
}

// isExport reports whether an answer is a stream that ends, which says no length.
func isExport(h http.Header) bool {
	return strings.HasPrefix(h.Get("Content-Disposition"), "attachment; filename=\"pikarc-runs-")
}

// isDocumentedFile reports whether an answer is documented to be no JSON, but of this type.
func isDocumentedFile(rt *server.TestRoute, status int, contentType string) bool {
	doc, err := document()
	if err != nil || status == http.StatusNotModified {
		return err == nil
	}
	op := operation(doc, rt.Method, rt.Path)
	bare, _, _ := strings.Cut(contentType, ";")
	return op != nil && op.Responses.Status(status) != nil && op.Responses.Status(status).Value.Content[bare] != nil
}

// checkStatusHeaders checks the headers that go with a status on any call.
func checkStatusHeaders(r *response, complain func(string, ...any)) {
	want := map[string]bool{
		"Www-Authenticate": r.status == http.StatusUnauthorized,
		"Retry-After":      r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable,
		"Allow":            r.status == http.StatusMethodNotAllowed,
		"Location":         false,
	}
	for name, wanted := range want {
		if (r.header.Get(name) != "") != wanted {
			complain("header %s is %q", name, r.header.Get(name))
		}
	}
}

// checkForm refuses JSON that is not compact, and numbers with an exponent
// where the server writes them: not in what it repeats of the caller's JSON.
func checkForm(body []byte, v any, complain func(string, ...any)) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, body); err != nil || !bytes.Equal(compact.Bytes(), body) {
		complain("not compact JSON (%v)", err)
	}
	checkNumbers(v, complain)
}

func checkNumbers(v any, complain func(string, ...any)) {
	switch v := v.(type) {
	case json.Number:
		if strings.ContainsAny(v.String(), "eE") {
			complain("%s is in scientific notation", v)
		}
	case []any:
		for _, item := range v {
			checkNumbers(item, complain)
		}
	case map[string]any:
		for name, member := range v {
			switch name {
			case "input", "metadata", "input_data", "output_data":
			default:
				checkNumbers(member, complain)
			}
		}
	}
}

// checkOperation checks status, headers and body as this operation documents them.
func checkOperation(doc *openapi3.T, rt *server.TestRoute, sent []byte, r *response, v any, complain func(string, ...any)) {
	op := operation(doc, rt.Method, rt.Path)
	if op == nil {
		complain("%s %s is not documented", rt.Method, rt.Path)
		return
	}
	documented := op.Responses.Status(r.status)
	if documented == nil {
		if !documentedForAll(r) {
			complain("status %d is not documented for %s", r.status, op.OperationID)
		}
		checkSchema(doc.Components.Schemas["Error"].Value, v, complain)
		return
	}
	for name, header := range documented.Value.Headers {
		checkHeader(name, header.Value, r.header, complain)
	}
	checkSchema(documented.Value.Content.Get("application/json").Schema.Value, v, complain, openapi3.VisitAsResponse())
	if r.status < 300 && len(bytes.TrimSpace(sent)) > 0 && op.RequestBody != nil {
		in, err := decodeJSON(withoutNaN(sent))
		if err != nil {
			complain("accepted a body that is not JSON: %v", err)
			return
		}
		checkSchema(op.RequestBody.Value.Content.Get("application/json").Schema.Value, in,
			func(format string, args ...any) { complain("accepted, but undocumented: "+format, args...) }, openapi3.VisitAsRequest())
	}
}

// A text is matched whole, so that nothing within it is.
var notANumber = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b`)

// withoutNaN writes null for what is no JSON, but taken in an agent's description.
func withoutNaN(sent []byte) []byte {
	return notANumber.ReplaceAllFunc(sent, func(found []byte) []byte {
		if found[0] == '"' {
			return found
		}
		return []byte("null")
	})
}

// documentedForAll reports whether the document's description allows this answer on any call.
func documentedForAll(r *response) bool {
	switch r.status {
	case http.StatusBadRequest:
		return bytes.Contains(r.body, []byte("The request body could not be read"))
	case http.StatusUnsupportedMediaType:
		return bytes.Contains(r.body, []byte("Content-Encoding"))
	case http.StatusTooManyRequests:
		return bytes.Contains(r.body, []byte("Too many requests from "))
	case http.StatusServiceUnavailable, http.StatusInternalServerError:
		return true
	default:
		return false
	}
}

func operation(doc *openapi3.T, method, path string) *openapi3.Operation {
	item := doc.Paths.Value(documentedPath(path))
	if item == nil {
		return nil
	}
	return item.GetOperation(method)
}

func checkHeader(name string, documented *openapi3.Header, got http.Header, complain func(string, ...any)) {
	value := got.Get(name)
	if value == "" {
		if documented.Required {
			complain("header %s is missing", name)
		}
		return
	}
	var v any = value
	if documented.Schema.Value.Type.Is("integer") {
		v = json.Number(value)
	}
	checkSchema(documented.Schema.Value, v, func(format string, args ...any) { complain("header "+name+": "+format, args...) })
}

func checkSchema(schema *openapi3.Schema, v any, complain func(string, ...any), opts ...openapi3.SchemaValidationOption) {
	if err := schema.VisitJSON(inFloatRange(v), append(opts, openapi3.MultiErrors())...); err != nil {
		complain("against the OpenAPI document: %v", err)
	}
}

// decodeJSON keeps numbers as they are written.
func decodeJSON(body []byte) (v any, err error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, fmt.Errorf("more than one value")
	}
	return v, nil
}

func shortBody(body []byte) string {
	const enough = 600
	if len(body) > enough {
		return string(body[:enough]) + "…"
	}
	return string(body)
}

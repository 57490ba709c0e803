package server_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
)

// collector takes spans as an OpenTelemetry collector does.
type collector struct {
	mu     sync.Mutex
	status int
	bodies []string
	header http.Header
	paths  []string
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies, c.header, c.paths = append(c.bodies, string(body)), r.Header, append(c.paths, r.URL.Path)
	w.WriteHeader(c.status)
}

// span is one as it was sent, its attributes by name.
type span struct {
	TraceID, SpanID, ParentSpanID, Name string
	Kind                                int
	StartTimeUnixNano, EndTimeUnixNano  string
	Status                              struct{ Code int }
	Attributes                          []attributeJSON
}

type attributeJSON struct {
	Key   string
	Value struct{ StringValue, IntValue string }
}

func (s span) attribute(name string) string {
	for _, a := range s.Attributes {
		if a.Key == name {
			return a.Value.StringValue + a.Value.IntValue
		}
	}
	return ""
}

// spans are all that came, and the attributes of what sent them.
func (c *collector) spans(t *testing.T) (all []span, resource span) {
	t.Helper()
	for _, body := range c.bodies {
		var sent struct {
			ResourceSpans []struct {
				Resource   span
				ScopeSpans []struct {
					Scope struct{ Name, Version string }
					Spans []span
				}
			}
		}
		if err := json.Unmarshal([]byte(body), &sent); err != nil {
			t.Fatalf("%v in %s", err, body)
		}
		resource = sent.ResourceSpans[0].Resource
		all = append(all, sent.ResourceSpans[0].ScopeSpans[0].Spans...)
	}
	return all, resource
}

// tracing asks for traces with these variables.
func tracing(t *testing.T, log *slog.Logger, variables ...string) (*server.Tracing, error) {
	t.Helper()
	set := map[string]string{}
	for _, v := range variables {
		name, value, _ := strings.Cut(v, "=")
		set[name] = value
	}
	return server.NewTracing(t.Context(), "1.2.3-test", func(name string) string { return set[name] }, log)
}

func TestEachRequestIsASpanOfTheCallersTrace(t *testing.T) {
	t.Parallel()
	c := &collector{status: http.StatusOK}
	ts := httptest.NewServer(c)
	defer ts.Close()
	traces, err := tracing(t, slog.Default(), "OTEL_EXPORTER_OTLP_ENDPOINT="+ts.URL+"/", "OTEL_EXPORTER_OTLP_HEADERS=x-token=a%20b, x-more = c")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(cfg *server.Config) { cfg.Tracing = traces })
	a := w.account(plans.Scale)
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	w.call("POST", "/v1/runs/", a.key, map[string]string{"user_id": "somebody"}, "traceparent", "00-"+trace+"-"+parent+"-01").want(http.StatusCreated)
	w.call("PUT", "/v1/blocked-users/somebody", a.token, nil).want(http.StatusOK)
	w.call("POST", "/v1/runs/", a.key, map[string]string{"user_id": "somebody"}).want(http.StatusCreated)
	w.call("GET", "/secret-path", "", nil).want(http.StatusNotFound)
	w.must(traces.Close(t.Context()))

	spans, about := c.spans(t)
	if len(spans) != 4 || about.attribute("service.name") != "pikarc" || about.attribute("service.version") != "1.2.3-test" {
		t.Fatalf("%d spans of %+v", len(spans), about)
	}
	first, denied, other := spans[0], spans[2], spans[3]
	if first.TraceID != trace || first.ParentSpanID != parent || first.Name != "POST /v1/runs/" || first.Kind != 2 ||
		first.attribute("http.route") != "/v1/runs/" || first.attribute("http.response.status_code") != "201" ||
		first.attribute("pikarc.decision.outcome") != "ALLOW" || first.attribute("pikarc.request_id") == "" ||
		first.EndTimeUnixNano < first.StartTimeUnixNano {
		t.Errorf("the first span: %+v", first)
	}
	if denied.attribute("pikarc.decision.reason") != "USER_BLOCKED" || denied.ParentSpanID != "" || denied.TraceID == trace {
		t.Errorf("the denied start: %+v", denied)
	}
	if other.Name != "GET other" || other.attribute("http.response.status_code") != "404" {
		t.Errorf("what no route serves: %+v", other)
	}
	if c.header.Get("X-Token") != "a b" || c.header.Get("X-More") != "c" || c.paths[0] != "/v1/traces" {
		t.Errorf("sent to %v with %v", c.paths, c.header)
	}
	for _, private := range []string{"somebody", "secret-path", a.key} {
		if strings.Contains(strings.Join(c.bodies, ""), private) {
			t.Errorf("the spans hold %q", private)
		}
	}
}

func TestTracesAreOffUnlessAskedFor(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for _, variables := range [][]string{
		{}, {"OTEL_SERVICE_NAME=x"}, {endpoint, "OTEL_SDK_DISABLED=true"}, {endpoint, "OTEL_TRACES_EXPORTER=none"},
	} {
		if traces, err := tracing(t, slog.Default(), variables...); traces != nil || err != nil {
			t.Errorf("%v: %v, %v", variables, traces, err)
		}
	}
	for _, variables := range [][]string{
		{endpoint}, {"OTEL_TRACES_EXPORTER=otlp"}, {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:1/x"},
		{endpoint, "OTEL_EXPORTER_OTLP_PROTOCOL=http/json", "OTEL_EXPORTER_OTLP_TIMEOUT=100"},
	} {
		traces, err := tracing(t, slog.Default(), variables...)
		if traces == nil || err != nil {
			t.Errorf("%v: %v, %v", variables, traces, err)
		}
		if err := traces.Close(t.Context()); err != nil {
			t.Errorf("%v: %v", variables, err)
		}
	}
}

func TestWrongTraceSettingsAreSaidByName(t *testing.T) {
	t.Parallel()
	const endpoint = "OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:1"
	for variable, says := range map[string]string{
		"OTEL_TRACES_EXPORTER=zipkin":                "OTEL_TRACES_EXPORTER",
		"OTEL_EXPORTER_OTLP_PROTOCOL=grpc":           "http/json",
		"OTEL_EXPORTER_OTLP_TIMEOUT=soon":            "OTEL_EXPORTER_OTLP_TIMEOUT",
		"OTEL_EXPORTER_OTLP_HEADERS=hush":            "OTEL_EXPORTER_OTLP_HEADERS",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=nowhere": "OTEL_EXPORTER_OTLP_ENDPOINT",
	} {
		_, err := tracing(t, slog.Default(), endpoint, variable)
		if err == nil || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", variable, err)
		}
	}
}

// A collector that is gone must not fill the log, and never touch a request.
func TestUnreachableCollectorIsLoggedOnce(t *testing.T) {
	t.Parallel()
	c := &collector{status: http.StatusServiceUnavailable}
	ts := httptest.NewServer(c)
	defer ts.Close()
	logs := &logBuffer{}
	log := slog.New(slog.NewTextHandler(logs, nil))
	traces, err := tracing(t, log, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="+ts.URL)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(cfg *server.Config) { cfg.Tracing = traces })
	for range 3 {
		w.call("GET", "/health", "", nil).want(http.StatusOK)
		w.must(traces.Flush(t.Context()))
	}
	c.mu.Lock()
	c.status = http.StatusOK
	c.mu.Unlock()
	w.call("GET", "/health", "", nil).want(http.StatusOK)
	w.must(traces.Close(t.Context()))
	if said := logs.String(); strings.Count(said, "cannot be sent") != 1 || strings.Count(said, "sent again") != 1 {
		t.Errorf("logged %s", said)
	}
}

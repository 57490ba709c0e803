package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// traceEndpoint is where spans go, or "" for nowhere.
func traceEndpoint(getenv func(string) string) (string, error) {
	kind := getenv("OTEL_TRACES_EXPORTER")
	base, own := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	switch {
	case strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true"), kind == "none", kind == "" &&
		base == "" && own == "":
		return "", nil
	case kind != "" && kind != "otlp":
		return "", fmt.Errorf("OTEL_TRACES_EXPORTER %q: choose otlp or none", kind)
	}
	protocol := firstSet(getenv, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL",
		"OTEL_EXPORTER_OTLP_PROTOCOL")
	if protocol != "" && protocol != "http/json" {
		return "", fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL %q: this server speaks http/json "+
			"alone, which collectors take on their HTTP port, 4318", protocol)
	}
	endpoint := own
	if endpoint == "" {
		// The specification's default, where only OTEL_TRACES_EXPORTER=otlp is set.
		if base == "" {
			base = "http://localhost:4318"
		}
		endpoint = strings.TrimSuffix(base, "/") + "/v1/traces"
	}
	if u, err := url.Parse(endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" ||
		u.Host == "" {
		return "", fmt.Errorf("OTEL_EXPORTER_OTLP_ENDPOINT must be a URL such as " +
			"http://localhost:4318")
	}
	return endpoint, nil
}

// firstSet returns the first variable that is set. OTEL_EXPORTER_OTLP_TRACES_… wins over
// OTEL_EXPORTER_OTLP_….
func firstSet(getenv func(string) string, names ...string) string {
	for _, name := range names {
		if value := getenv(name); value != "" {
			return value
		}
	}
	return ""
}

// exporter sends spans in OTLP's JSON form. The usual exporters bring gRPC with
// them, whichever protocol they speak (docs/adr/0019).
type exporter struct {
	endpoint string
	header   http.Header
	client   *http.Client
	log      *slog.Logger
	failing  atomic.Bool
}

// newExporter reads timeout and headers as the OpenTelemetry specification names them.
func newExporter(endpoint string, getenv func(string) string, log *slog.Logger) (*exporter, error) {
	e := &exporter{endpoint: endpoint, header: http.Header{},
		client: &http.Client{Timeout: 10 * time.Second}, log: log}
	if text := firstSet(getenv, "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
		"OTEL_EXPORTER_OTLP_TIMEOUT"); text != "" {
		ms, err := strconv.ParseUint(text, 10, 31)
		if err != nil || ms == 0 {
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_TIMEOUT %q: must be milliseconds", text)
		}
		e.client.Timeout = time.Duration(ms) * time.Millisecond
	}
	for pair := range strings.SplitSeq(firstSet(getenv, "OTEL_EXPORTER_OTLP_TRACES_HEADERS",
		"OTEL_EXPORTER_OTLP_HEADERS"), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, escaped, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(escaped))
		if !found || err != nil { // without the value: it may be a credential
			return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_HEADERS: must be name=value pairs with " +
				"commas between")
		}
		e.header.Add(strings.TrimSpace(name), value)
	}
	return e, nil
}

// ExportSpans sends a batch. One that cannot be sent is lost: traces are no
// ledger. The log hears of it once, and once when it works again.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	err := e.send(ctx, spans)
	if was := e.failing.Swap(err != nil); was != (err != nil) {
		if err != nil {
			e.log.Warn("traces cannot be sent", "error", err.Error())
		} else {
			e.log.Info("traces are sent again")
		}
	}
	return nil
}

// Shutdown ends the exporter.
func (e *exporter) Shutdown(context.Context) error { return nil }

// send posts spans as OTLP/HTTP in JSON, and makes one attempt.
func (e *exporter) send(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := json.Marshal(otlp(spans))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.endpoint, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = e.header.Clone()
	req.Header.Set("Content-Type", "application/json")
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	// So that the connection can be used again
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %s", resp.Status)
	}
	return nil
}

// members are those of a JSON object.
type members = map[string]any

// otlp is the JSON form of spans that all come from this process' one resource
// and scope: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding.
func otlp(spans []sdk.ReadOnlySpan) any {
	scope := spans[0].InstrumentationScope()
	all := make([]members, len(spans))
	for i, span := range spans {
		all[i] = otlpSpan(span)
	}
	return members{"resourceSpans": []any{members{
		"resource": members{"attributes": otlpAttributes(spans[0].Resource().Attributes())},
		"scopeSpans": []any{members{
			"scope": members{"name": scope.Name, "version": scope.Version},
			"spans": all,
		}},
	}}}
}

// otlpSpan converts a span as the OTLP's JSON encoding has it: ids in hexadecimal, times as text.
func otlpSpan(s sdk.ReadOnlySpan) members {
	// SPAN_KIND_SERVER: all spans of this process are requests that it answers.
	const server = 2
	o := members{
		"traceId": s.SpanContext().TraceID().String(), "spanId": s.SpanContext().SpanID().String(),
		"flags": uint32(s.SpanContext().TraceFlags()), "name": s.Name(), "kind": server,
		"startTimeUnixNano": strconv.FormatInt(s.StartTime().UnixNano(), 10),
		"endTimeUnixNano":   strconv.FormatInt(s.EndTime().UnixNano(), 10),
		"attributes":        otlpAttributes(s.Attributes()), "status": members{},
	}
	if s.Parent().SpanID().IsValid() {
		o["parentSpanId"] = s.Parent().SpanID().String()
	}
	if s.Status().Code == codes.Error {
		// STATUS_CODE_ERROR.
		const failed = 2
		o["status"] = members{"code": failed}
	}
	return o
}

// otlpAttributes converts attributes; ours are texts and integers.
func otlpAttributes(all []attribute.KeyValue) []members {
	out := make([]members, len(all))
	for i, a := range all {
		value := members{"stringValue": a.Value.String()}
		if a.Value.Type() == attribute.INT64 {
			value = members{"intValue": a.Value.String()} // 64 bits are text in OTLP's JSON
		}
		out[i] = members{"key": string(a.Key), "value": value}
	}
	return out
}

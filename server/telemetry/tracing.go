package telemetry

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/pikarc/server/guard"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Tracing sends a span of each request to an OpenTelemetry collector. A server
// without it (nil) pays nothing for it.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
}

// NewTracing reads OpenTelemetry's standard variables through getenv. It
// returns nil when they ask for no traces, which is so when none is set.
// What they say of the sampler, the batches and the resource, the SDK reads
// from the environment itself.
func NewTracing(
	ctx context.Context, version string, getenv func(string) string, log *slog.Logger,
) (*Tracing, error) {
	endpoint, err := traceEndpoint(getenv)
	if err != nil || endpoint == "" {
		return nil, err
	}
	exporter, err := newExporter(endpoint, getenv, log)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "pikarc"),
			attribute.String("service.version", version)),
		resource.WithFromEnv()) // last, so that it wins
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracing{provider: provider, tracer: provider.Tracer("github.com/pikarc/server",
		trace.WithInstrumentationVersion(version))}, nil
}

// Close sends what has not been sent. It may be called on nil.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// Flush sends what waits to be sent.
func (t *Tracing) Flush(ctx context.Context) error { return t.provider.ForceFlush(ctx) }

// Span is that of one request.
type Span struct{ span trace.Span }

// Begin starts the span of a request that a route serves ("" for none), as a part
// of the caller's trace when it has one. The request that it returns carries the
// span. Attributes name the route, never a path, a user or a tenant.
func (t *Tracing) Begin(r *http.Request, route, requestID string) (*http.Request, *Span) {
	ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	if route == "" {
		route = "other"
	}
	ctx, span := t.tracer.Start(ctx, r.Method+" "+route, trace.WithSpanKind(trace.SpanKindServer),
		trace.WithAttributes(
			attribute.String("http.request.method", r.Method), attribute.String("http.route", route),
			attribute.String("pikarc.request_id", requestID)))
	return r.WithContext(ctx), &Span{span}
}

// End finishes the span with the status that was answered and the decision that
// the request came to, nil for none.
func (s *Span) End(status int, d *guard.Decision) {
	s.span.SetAttributes(attribute.Int("http.response.status_code", status))
	if d != nil {
		if d.Denied() {
			s.span.SetAttributes(attribute.String("pikarc.decision.reason", d.Reason.String()))
		}
		s.span.SetAttributes(attribute.String("pikarc.decision.outcome", d.Outcome()))
	}
	if status >= 500 {
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}

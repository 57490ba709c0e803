package server

import (
	"context"
	"fmt"
	"log/slog"

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
func NewTracing(ctx context.Context, version string, getenv func(string) string, log *slog.Logger) (*Tracing, error) {
	endpoint, err := traceEndpoint(getenv)
	if err != nil || endpoint == "" {
		return nil, err
	}
	exporter, err := newExporter(endpoint, getenv, log)
	if err != nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "pikarc"), attribute.String("service.version", version)),
		resource.WithFromEnv()) // last, so that it wins
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracing{provider: provider, tracer: provider.Tracer("github.com/pikarc/server", trace.WithInstrumentationVersion(version))}, nil
}

// Close sends what has not been sent. It may be called on nil.
func (t *Tracing) Close(ctx context.Context) error {
	if t == nil {
		return nil
	}
	return t.provider.Shutdown(ctx)
}

// begin starts the span of a call, as a part of the caller's trace when it has
// one. Attributes name the route, never a path, a user or a tenant.
func (t *Tracing) begin(c *call) trace.Span {
	ctx := propagation.TraceContext{}.Extract(c.ctx(), propagation.HeaderCarrier(c.r.Header))
	name := c.route.path
	if name == "" {
		name = "other"
	}
	ctx, span := t.tracer.Start(ctx, c.r.Method+" "+name, trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(
		attribute.String("http.request.method", c.r.Method), attribute.String("http.route", name),
		attribute.String("pikarc.request_id", c.id)))
	c.r = c.r.WithContext(ctx)
	return span
}

// end finishes the span with what the call has come to.
func (t *Tracing) end(span trace.Span, c *call) {
	span.SetAttributes(attribute.Int("http.response.status_code", c.status))
	if c.isDecision {
		outcome := "ALLOW"
		if !c.decision.Allowed() {
			outcome = "DENY"
			span.SetAttributes(attribute.String("pikarc.decision.reason", c.decision.Reason.String()))
		}
		span.SetAttributes(attribute.String("pikarc.decision.outcome", outcome))
	}
	if c.status >= 500 {
		span.SetStatus(codes.Error, "")
	}
	span.End()
}

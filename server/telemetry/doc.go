// Package telemetry tells a server's operators what it does: metrics for Prometheus, and traces for
// an OpenTelemetry collector. Neither names a workspace, a user or a path. A new metric also needs
// a line in docs/ops/metrics.md, which a test compares.
//
//   - metrics.go: the registry, and metrics of each route
//   - store.go: what the store counts, read when Prometheus asks
//   - jobs.go: rounds of upkeep
//   - booking.go: reported usage that is incomplete
//   - outbox.go: notifications
//   - tracing.go and otlp.go: spans, and how they are sent
package telemetry

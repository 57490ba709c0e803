// Package telemetry tells a server's operators what it does: metrics for
// Prometheus, and traces for an OpenTelemetry collector. Neither names a
// workspace, a user or a path.
package telemetry

// Package server speaks HTTP: it reads and checks what callers send, asks the store, and writes the
// answers that the contract (openapi.json) promises. It also runs the jobs that keep the store
// tidy.
//
// A handler is a method of Server that takes a call and returns an error, and lies in the file of
// its resource. It never writes a status for an error: errors.go turns every error into an answer,
// in one place. An answer that says yes or no is a 200 or 201; trouble is an error.
//
// What happens to every request, in this order:
//
//   - server.go: configuration, start and shutdown
//   - connection.go and tls.go: the connection, its limits and certificate
//   - basepath.go: the path below which everything is served
//   - routes.go: the whole API, a row for each call
//   - call.go: request id, panics, the access log and metrics
//   - address.go and limits.go: who calls, and how often they may
//   - authenticate.go and permissions.go: the credential, and what it may do
//   - bodymemory.go: memory for large bodies
//   - respond.go, errors.go and headers.go: the answer
//
// The resources:
//
//   - runs.go, steps.go and timeline.go: what agents call, and a run in detail
//   - run_search.go and saved_views.go: lists of runs, exports, filters under a name
//   - policies.go, backtest.go and reviews.go: the workspace's own rules, and people's verdicts
//   - workspace.go, users.go, keys.go and endpoints.go: settings
//   - prices.go and catalogue.go: a workspace's prices, and published ones
//   - usage.go and burn.go: what was used, by days and by minutes
//   - accounts.go, sessions.go, audit.go and billing.go: sign-in, who changed what, plans
//   - events.go: the event stream
//   - service.go: health, the OpenAPI document, client libraries
//   - dashboard.go: the dashboard's files
//
// Beside the requests:
//
//   - jobs.go and backups.go: upkeep
//   - admin.go: metrics and profiles on an address of their own
package server

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/server/billing"
	"github.com/pikarc/server/server/clients"
	"github.com/pikarc/server/server/limit"
	"github.com/pikarc/server/server/live"
	"github.com/pikarc/server/server/notify"
	"github.com/pikarc/server/server/telemetry"
	"github.com/pikarc/server/storage"
)

// How many bytes may come in.
const (
	DefaultMaxBody    = 1 << 20  // in a request's body
	DefaultMaxRunBody = 16 << 20 // in that of a call of agents: runs and steps
	DefaultMaxPayload = 1 << 20  // in a run's metadata, a step's input or its output

	DefaultMaxBodyMemory = 128 << 20 // in all large bodies that are being served at once
)

// Config is what a server needs besides its store.
type Config struct {
	Version          string
	Node             string // its name, where several may share a database; "" where not
	Secret           auth.Secret
	TokenTTL         time.Duration
	OpenRegistration bool
	// Somebody on this machine may make the first account all the same
	LocalRegistration bool
	DefaultPlan       plans.Plan        // of workspaces made by registration
	MaxBody           int64             // bytes; DefaultMaxBody when 0
	MaxRunBody        int64             // bytes; DefaultMaxRunBody when 0
	MaxPayload        int64             // bytes; DefaultMaxPayload when 0
	MaxBodyMemory     int64             // bytes; DefaultMaxBodyMemory when 0; one body always fits
	Catalogue         *prices.Catalogue // of published prices; nil for none
	Dashboard         fs.FS             // index.html at its root
	Clients           fs.FS             // packages of client libraries at its root; nil for none
	// Below which a proxy shows the server (CheckBasePath); "" for the root
	BasePath       string
	Log            *slog.Logger
	Now            func() time.Time // time.Now when nil
	Timeouts       Timeouts         // zero fields have defaults
	Streams        live.Limits      // zero fields have defaults
	Stripe         *StripeConfig    // sells plans; nil when this server sells none
	TrustedProxies []netip.Prefix   // believed about whom they speak for
	CORSOrigins    []string         // whose pages may read the API's answers
	RatePerAddress int              // requests a second; 0: no limit
	RatePerKey     int              // requests a second; 0: no limit
	MaxConnections int              // open at once; 0: no limit
	// Connections of an address, but this machine and TrustedProxies; 0: no limit
	MaxPerAddress int
	TLS           *TLS // nil: plain HTTP
	Backups       Backups
	PublicURL     string // where people reach the dashboard; messages link to it
	// DecidingLinks lets messages have links that approve and deny: PublicURL is
	// known to be where people reach this server
	DecidingLinks bool
	// WebhookPrivate lets endpoints be on addresses of this network, and spoken to over plain HTTP
	WebhookPrivate bool
	SMTP           *SMTP // sends email; nil: none is sent
	// Disk measures the disk that the database is on; nil: nobody is told that it is full
	Disk        func() (free, size int64, known bool)
	VerifyEvery time.Duration // how often the books are verified; never when 0
	Tracing     *Tracing      // nil for none
}

// Timeouts bound how long a connection may take for each part of a request.
type Timeouts struct {
	Header time.Duration // reading the request's header; 10 s
	Read   time.Duration // reading all of the request; 30 s
	// PublicBody is for the body of a caller whom nobody knows; 5 s
	PublicBody time.Duration
	Write      time.Duration // from the header's end to the answer's; 60 s
	Idle       time.Duration // between requests; 2 min
	Shutdown   time.Duration // finishing open requests at the end; 2 s
	Backtest   time.Duration // waiting for others' and replaying; 25 s
}

// withDefaults returns a copy in which every duration is set.
func (t Timeouts) withDefaults() Timeouts {
	return Timeouts{
		Header:     positive(t.Header, 10*time.Second),
		Read:       positive(t.Read, 30*time.Second),
		PublicBody: positive(t.PublicBody, 5*time.Second),
		Write:      positive(t.Write, 60*time.Second),
		Idle:       positive(t.Idle, 2*time.Minute),
		Shutdown:   positive(t.Shutdown, 2*time.Second),
		Backtest:   positive(t.Backtest, 25*time.Second),
	}
}

// positive returns n, or otherwise if n is not set.
func positive[T time.Duration | int64](n, otherwise T) T {
	if n > 0 {
		return n
	}
	return otherwise
}

// DefaultPaymentGrace is how long a workspace keeps its plan after a payment failed.
const DefaultPaymentGrace = billing.DefaultGrace

// StripeConfig is what it takes to sell plans, and Hidden a secret in it.
type (
	StripeConfig = billing.Config
	Hidden       = billing.Hidden
)

// Tracing sends a span of each request to an OpenTelemetry collector.
type Tracing = telemetry.Tracing

// NewTracing reads OpenTelemetry's standard variables through getenv. It returns
// nil when they ask for no traces.
func NewTracing(
	ctx context.Context, version string, getenv func(string) string, log *slog.Logger,
) (*Tracing, error) {
	return telemetry.NewTracing(ctx, version, getenv, log)
}

// MetricsHandler serves what is counted, in Prometheus' text form, at /metrics.
func (s *Server) MetricsHandler() http.Handler { return s.metrics.Handler() }

// Server answers the API.
type Server struct {
	Config
	store *storage.Store
	// guard.Decide, which the store calls within its transactions.
	decide storage.Decider
	tokens *auth.Tokens
	hasher *auth.Hasher
	// Failed sign-ins, by account and by network.
	logins *limit.Logins
	hub    *live.Hub
	// Memory for large request bodies.
	bodies  *bodyMemory
	exports exports
	billing *billing.Service // nil when this server sells nothing
	limiters
	hintAtProxy sync.Once
	backtests   *semaphore.Weighted // one after another reads the past
	hasAccounts atomic.Bool         // once it is known

	ending    chan struct{} // closed when the server is to stop
	troubles  troubleLog
	metrics   *telemetry.Metrics
	sender    *notify.Sender
	upkeep    *upkeep
	dashboard func() (map[string]staticFile, error) // read at first use
	document  []byte                                // openapi.json
	packages  func() ([]clients.File, error)        // read at first use
}

// New makes a server on an open store.
func New(store *storage.Store, cfg Config) *Server {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.MaxBody = positive(cfg.MaxBody, DefaultMaxBody)
	cfg.MaxRunBody = positive(cfg.MaxRunBody, DefaultMaxRunBody)
	cfg.MaxPayload = positive(cfg.MaxPayload, DefaultMaxPayload)
	cfg.MaxBodyMemory = positive(cfg.MaxBodyMemory, DefaultMaxBodyMemory)
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	s := &Server{
		Config: cfg, store: store, decide: guard.Decide,
		tokens:    auth.NewTokens(cfg.Secret, cfg.TokenTTL, cfg.Now),
		hasher:    auth.NewHasher(runtime.GOMAXPROCS(0)),
		logins:    limit.NewLogins(cfg.Now),
		hub:       live.NewHub(store, cfg.Streams, cfg.Log),
		ending:    make(chan struct{}),
		backtests: semaphore.NewWeighted(1),
		bodies:    newBodyMemory(cfg.MaxBodyMemory, max(cfg.MaxBody, cfg.MaxRunBody)),
		limiters: limiters{
			addresses: limit.NewRate[netip.Prefix](cfg.RatePerAddress, cfg.Now),
			keys:      limit.NewRate[string](cfg.RatePerKey, cfg.Now),
		},
		dashboard: sync.OnceValues(func() (map[string]staticFile,
			error) {
			return loadDashboard(cfg.Dashboard, cfg.BasePath)
		}),
		document: inDocument(openAPIDocument, cfg.BasePath),
		packages: sync.OnceValues(func() ([]clients.File,
			error) {
			return clients.Read(cfg.Clients)
		}),
	}
	if cfg.Stripe != nil {
		s.billing = billing.New(store, cfg.Stripe, cfg.DefaultPlan, cfg.Log, cfg.Now)
	}
	s.metrics = telemetry.New(telemetry.Sources{
		Version: cfg.Version, Store: store, Jobs: jobLabels(),
		BodyMemory: s.bodies.held.Load, BodiesRefused: s.bodies.refused.Load,
	})
	// Links that decide need an address that people reach, so they are made only if one is set.
	sends := notify.Config{
		PublicURL: cfg.PublicURL, Private: cfg.WebhookPrivate, SMTP: cfg.SMTP, Log: cfg.Log, Now: cfg.Now,
		Attempted: func(kind storage.EndpointKind, result string) { s.metrics.Outbox.Attempted(string(kind), result) },
		Waiting:   s.metrics.Outbox.Waiting,
	}
	if cfg.DecidingLinks {
		sends.Actions = s.reviewActions
	}
	s.sender = notify.New(store, sends)
	s.upkeep = &upkeep{Config: cfg, store: store, metrics: s.metrics, billing: s.billing,
		send: s.sender.Run}
	return s
}

// Serve answers requests on a listener until the context ends, then finishes
// those that are open: it waits a moment for whom it serves, and not for who
// sends or reads nothing. The jobs of jobs.go run meanwhile, and the endpoints
// for operators answer.
func (s *Server) Serve(ctx context.Context, ln net.Listener, endpoints ...Endpoint) error {
	handler := s.Handler() // which makes the routes' metrics, so that the first scrape has them all
	defer s.serveEndpoints(ctx, endpoints)()
	conns := limit.NewConnections(s.MaxConnections, s.MaxPerAddress, s.TrustedProxies)
	hs := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: s.Timeouts.Header,
		ReadTimeout:       s.Timeouts.Read,
		WriteTimeout:      s.Timeouts.Write,
		IdleTimeout:       s.Timeouts.Idle,
		MaxHeaderBytes:    64 << 10,
		ConnContext:       limit.WithConnection,
		ConnState:         conns.TrackState,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	// Streams never finish by themselves, and long polls not soon.
	hs.RegisterOnShutdown(s.hub.Close)
	hs.RegisterOnShutdown(func() { close(s.ending) })
	jobs, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	jobsDone := s.upkeep.start(jobs)
	defer func() {
		stopJobs()
		<-jobsDone
		if _, err := s.upkeep.recordKeyUse(context.WithoutCancel(ctx)); err != nil {
			s.Log.Warn("the last minute's use of API keys is not recorded", "error", err.Error())
		}
	}()

	if s.billing != nil {
		s.Log.Info("plans are sold with Stripe", "real_money", s.Stripe.TakesRealMoney(),
			"public_url", s.Stripe.PublicURL)
	}
	served := make(chan error, 1)
	go func() {
		if s.TLS == nil {
			served <- hs.Serve(conns.Listener(ln))
			return
		}
		hs.TLSConfig = s.TLS.config
		served <- hs.ServeTLS(conns.Listener(ln), "", "")
	}()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	return s.shutDown(context.WithoutCancel(ctx), hs, conns)
}

// shutDown lets requests finish for a while, then cuts them off. Connections without a request are
// closed at once.
func (s *Server) shutDown(ctx context.Context, hs *http.Server, conns *limit.Connections) error {
	s.Log.Info("shutting down", "timeout", s.Timeouts.Shutdown.String())
	grace, cancel := context.WithTimeout(ctx, s.Timeouts.Shutdown)
	defer cancel()
	go conns.CloseIdle(grace)
	if err := hs.Shutdown(grace); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	s.Log.Warn("requests that were under way for too long were cut off")
	return hs.Close()
}

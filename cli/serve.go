package cli

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// newServe turns flags and environment into serveOptions; serve does the rest.
func newServe() *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve the API and the dashboard",
		Long: "Brings the database up to date, then serves the API and the dashboard until SIGINT or SIGTERM.\n\n" +
			"Every flag can also be given as an environment variable, PIKARC_<FLAG>, such as PIKARC_ADDR.\n" +
			"PIKARC_SECRET or PIKARC_SECRET_FILE replaces the server secret kept in the data directory.\n" +
			"Traces are sent when OpenTelemetry's variables say where, such as OTEL_EXPORTER_OTLP_ENDPOINT.\n\n" +
			stripeHelp,
		Example: `  pikarc serve                                    # for this machine alone
  pikarc serve --tls-domain agents.example.com    # on the internet, with a certificate
  pikarc serve --backup-dir /backups              # with a backup every day
  pikarc serve --base-path /pikarc --trusted-proxies 127.0.0.1    # below a path of nginx or Caddy
  PIKARC_ADDR=0.0.0.0 pikarc serve                # on all addresses of this machine`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.complete(cmd.Flags()); err != nil {
				return err
			}
			o.warnings = unknownSettings(settingNames(cmd.Root()), os.Environ())
			at, err := readLedgerLocation(cmd)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), at, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.networkOptions.flags(cmd)
	flagGroup(cmd, "Accounts and plans", o.accountFlags)
	flagGroup(cmd, "Sizes", o.bodyFlags)
	flagGroup(cmd, "Notifications", o.notify.flags)
	flagGroup(cmd, "Backups and upkeep", o.upkeepFlags)
	flagGroup(cmd, "Logs, metrics and memory", o.watchFlags)
	choices(cmd, "default-plan", planNames()...)
	choices(cmd, "smtp-tls", server.SMTPModes()...)
	choices(cmd, "log-format", "text", "json")
	choices(cmd, "log-level", "debug", "info", "warn", "error")
	return cmd
}

// complete takes what was not given from other flags.
func (o *serveOptions) complete(f *pflag.FlagSet) (err error) {
	o.networkOptions.complete(f)
	if f.Changed("held-rows") && !f.Changed("cache-rows") {
		o.cacheRows, err = f.GetInt("held-rows")
	}
	return err
}

// accountFlags say what new accounts get.
func (o *serveOptions) accountFlags(f *pflag.FlagSet) {
	f.StringVar(&o.defaultPlan, "default-plan", "",
		"plan of new workspaces: "+plans.List()+"; unless set enterprise, or basic where plans are sold")
	f.DurationVar(&o.tokenTTL, "jwt-ttl", 24*time.Hour, "how long a sign-in lasts")
	f.DurationVar(&o.paymentGrace, "payment-grace", server.DefaultPaymentGrace,
		"how long a workspace keeps its plan after a payment failed")
}

// upkeepFlags say what runs beside the requests.
func (o *serveOptions) upkeepFlags(f *pflag.FlagSet) {
	f.StringVar(&o.backups.Dir, "backup-dir", "",
		"directory for scheduled backups; none are made when empty")
	f.DurationVar(&o.backups.Every, "backup-every", 24*time.Hour, "how often to back up")
	f.IntVar(&o.backups.Keep, "backup-keep", 7, "how many scheduled backups to keep")
	f.DurationVar(&o.wait, "wait", 0,
		"how long to wait for another server on the same data directory to end, or for PostgreSQL to take writes")
	f.DurationVar(&o.databaseTimeout, "database-timeout", storage.DefaultAnswerTimeout,
		"how long PostgreSQL, or the network to it, may take for a statement; then calls get a 503")
	f.DurationVar(&o.openStepTimeout, "open-step-timeout", storage.DefaultOpenStepTimeout,
		"after how long without a call a run is idle although a step of it is open")
	f.DurationVar(&o.verifyEvery, "verify-every", 24*time.Hour,
		"how often to verify the books, at 03:00 UTC when daily; 0 for never")
}

// watchFlags say how the server is watched.
func (o *serveOptions) watchFlags(f *pflag.FlagSet) {
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	f.StringVar(&o.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&o.metricsAddr, "metrics-addr", "",
		"address that serves /metrics for Prometheus; none when empty")
	f.StringVar(&o.debugAddr, "debug-addr", "",
		"loopback address that serves /debug/pprof/; none when empty")
	f.IntVar(&o.cacheRows, "cache-rows", storage.DefaultCacheSize,
		"rows of each kind (runs, users, counters) that the writer keeps in memory")
	f.StringVar(&o.node, "node", "",
		"name of this node on PostgreSQL, which GET /v1/server tells; made up when empty")
	f.Int("held-rows", storage.DefaultCacheSize, "the old name of --cache-rows, which wins")
	f.Lookup("held-rows").Hidden = true
}

// bodyFlags bound request bodies.
func (o *serveOptions) bodyFlags(f *pflag.FlagSet) {
	f.Int64Var(&o.maxBody, "max-body", server.DefaultMaxBody,
		"largest request body, in bytes, of all calls but runs and steps")
	f.Int64Var(&o.maxRunBody, "max-run-body", server.DefaultMaxRunBody,
		"largest request body of runs and steps, in bytes")
	f.Int64Var(&o.maxPayload, "max-payload", server.DefaultMaxPayload,
		"largest metadata, input_data or output_data that is kept whole, in bytes")
	f.Int64Var(&o.maxBodyMemory, "max-body-memory", server.DefaultMaxBodyMemory,
		"what request bodies above 32 KiB may take at once, in bytes; a quarter for one workspace")
}

// serveOptions are the flags of serve.
type serveOptions struct {
	networkOptions
	notify notifyOptions

	defaultPlan, logFormat, logLevel string
	node                             string

	tokenTTL, paymentGrace, verifyEvery, wait time.Duration
	openStepTimeout, databaseTimeout          time.Duration
	waitUntil                                 time.Time // the end of wait
	cacheRows                                 int
	maxBody, maxRunBody, maxPayload           int64
	maxBodyMemory                             int64
	backups                                   server.Backups
	metricsAddr, debugAddr                    string
	warnings                                  []string // of what is set and no setting
}

// config checks the options and converts them to the server's.
func (o serveOptions) config(dir string, stderr io.Writer) (server.Config, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.logLevel)); err != nil {
		return server.Config{},
			usage(fmt.Errorf("--log-level %q: choose debug, info, warn or error", o.logLevel))
	}
	var handler slog.Handler = slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level})
	if o.logFormat == "json" {
		handler = slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})
	}
	switch {
	case !slices.Contains([]string{"text", "json"}, o.logFormat):
		return server.Config{}, usage(fmt.Errorf("--log-format %q: choose text or json",
			o.logFormat))
	case o.tokenTTL < time.Minute:
		return server.Config{}, usage(fmt.Errorf("--jwt-ttl %s: must be a minute or more",
			o.tokenTTL))
	case o.checkSizes() != nil:
		return server.Config{}, usage(o.checkSizes())
	case o.cacheRows < storage.MinCacheSize:
		return server.Config{}, usage(fmt.Errorf("--cache-rows %d: must be %d or more", o.cacheRows,
			storage.MinCacheSize))
	case o.paymentGrace < time.Hour:
		return server.Config{}, usage(fmt.Errorf("--payment-grace %s: must be an hour or more",
			o.paymentGrace))
	}
	stripe, err := stripeConfig(o.publicURL, o.paymentGrace)
	if err != nil {
		return server.Config{}, err
	}
	plan, err := defaultPlan("--default-plan", o.defaultPlan, stripe != nil)
	if err != nil {
		return server.Config{}, err
	}
	if err := o.checkUpkeep(); err != nil {
		return server.Config{}, usage(err)
	}
	smtp, err := o.notify.smtp()
	if err != nil {
		return server.Config{}, usage(err)
	}
	catalogue, err := loadCatalogue(dir)
	if err != nil {
		return server.Config{}, err
	}
	cfg := server.Config{
		Version: version, Catalogue: catalogue, TokenTTL: o.tokenTTL,
		MaxBody: o.maxBody, MaxRunBody: o.maxRunBody, MaxPayload: o.maxPayload,
		MaxBodyMemory: o.maxBodyMemory,
		DefaultPlan:   plan, Dashboard: embed.Dashboard(), Clients: embed.Clients(),
		Log:    slog.New(handler),
		Stripe: stripe, Backups: o.backups, VerifyEvery: o.verifyEvery,
		WebhookPrivate: o.notify.private, SMTP: smtp,
	}
	return cfg, usage(o.configure(&cfg))
}

// checkSizes checks how many bytes may come in.
func (o serveOptions) checkSizes() error {
	const least, most = 1024, 1 << 30
	for _, size := range []struct {
		flag  string
		bytes int64
	}{{"--max-body", o.maxBody}, {"--max-run-body", o.maxRunBody}, {"--max-payload",
		o.maxPayload}} {
		if size.bytes < least || size.bytes > most {
			return fmt.Errorf("%s %d: must be %d bytes or more, and a gibibyte at most", size.flag,
				size.bytes, least)
		}
	}
	if largest := max(o.maxBody, o.maxRunBody); o.maxBodyMemory < largest {
		return fmt.Errorf("--max-body-memory %d: must have room for a body of %d bytes",
			o.maxBodyMemory, largest)
	}
	return nil
}

// store is what the options say of the store.
func (o serveOptions) store(catalogue *prices.Catalogue) storage.Options {
	return storage.Options{CacheSize: o.cacheRows, OpenStepTimeout: o.openStepTimeout,
		AnswerTimeout: o.databaseTimeout, Catalogue: catalogue}
}

// checkUpkeep checks what concerns backups, verification and watching.
func (o serveOptions) checkUpkeep() error {
	switch {
	// With half as much for the outcome of a COMMIT, before a call's minute is over.
	case o.databaseTimeout < time.Second || o.databaseTimeout > 40*time.Second:
		return fmt.Errorf("--database-timeout %s: must be from 1s to 40s", o.databaseTimeout)
	case o.openStepTimeout < time.Minute:
		return fmt.Errorf("--open-step-timeout %s: must be a minute or more", o.openStepTimeout)
	case o.backups.Every < time.Minute:
		return fmt.Errorf("--backup-every %s: must be a minute or more", o.backups.Every)
	case o.backups.Keep < 1:
		return fmt.Errorf("--backup-keep %d: must be 1 or more", o.backups.Keep)
	case o.wait < 0:
		return fmt.Errorf("--wait %s: must be 0 or more", o.wait)
	case o.verifyEvery != 0 && o.verifyEvery < time.Minute:
		return fmt.Errorf("--verify-every %s: must be 0 or a minute or more", o.verifyEvery)
	case o.debugAddr != "" && !isLoopback(o.debugAddr):
		return fmt.Errorf("--debug-addr %s: profiles show the inside of the process, so only a "+
			"loopback address such as 127.0.0.1:6060 is taken", o.debugAddr)
	default:
		return nil
	}
}

// tune fits the runtime to a server that waits for its disk: a thread that
// syncs keeps its processor from goroutines that could run, so there are twice
// as many. GOGC and GOMAXPROCS in the environment win.
//
// The heap of a server with few connections is so small that it would be
// collected many times a second. It counts as larger by the ballast, which is
// never touched and so takes no memory; a higher GOGC would also multiply the
// heap of a server with thousands of connections.
func tune() (ballast []byte) {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
	if os.Getenv("GOGC") == "" {
		const bytes = 24 << 20
		ballast = make([]byte, bytes)
	}
	return ballast
}

// serve brings the database up to date and serves until a signal.
func serve(ctx context.Context, at ledgerLocation, o serveOptions, stdout, stderr io.Writer) (err error) {
	defer runtime.KeepAlive(tune())
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := o.completePlace(); err != nil {
		return usage(err)
	}
	cfg, err := o.config(at.dir, stderr)
	if err != nil {
		return err
	}
	o.warn(at, cfg.Log)
	o.waitUntil = time.Now().Add(o.wait)
	if err := checkGivenSecret(); err != nil { // before the lock makes its files
		return err
	}
	// From here on no other server uses the file; commands still may.
	isNew, serving, err := o.occupy(ctx, at, cfg.Log)
	if err != nil {
		return ignoreIfEnded(ctx, err)
	}
	defer func() { err = errors.Join(err, serving.Close()) }() // after the store's
	var store *storage.Store
	err = o.await(ctx, at, cfg.Log, func() (err error) {
		store, cfg.Secret, err = at.open(ctx, true, o.store(cfg.Catalogue), dbfile.AsServer)
		return err
	})
	if err != nil {
		return ignoreIfEnded(ctx, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	// PostgreSQL's clock, where it holds the ledger: nodes must agree on the time.
	cfg.Now = store.Time
	if at.inPostgres() {
		cfg.Node = cmp.Or(o.node, rand.Text()[:8])
		cfg.Log = cfg.Log.With("node", cfg.Node)
	} else {
		cfg.Disk = func() (free, size int64, known bool) { return dbfile.Disk(at.dir) }
	}
	if cfg.TLS, err = o.encryption(at.dir, cfg.Log); err != nil {
		return err
	}
	if cfg.Tracing, err = server.NewTracing(ctx, version, os.Getenv, cfg.Log); err != nil {
		return usage(err)
	}
	defer func() { err = errors.Join(err, closeTracing(ctx, cfg.Tracing)) }()
	ln, err := listen(ctx, "--addr", o.addr)
	if err != nil {
		return err
	}
	cfg.PublicURL, cfg.DecidingLinks = cmp.Or(o.publicURL, o.url(ln)), o.publicURL != ""
	srv := server.New(store, cfg)
	endpoints, said, err := o.endpoints(ctx, srv)
	if err != nil {
		return errors.Join(err, ln.Close())
	}
	var plain net.Listener
	if o.redirectAddr != "" {
		if plain, err = listen(ctx, "--http-redirect-addr", o.redirectAddr); err != nil {
			return errors.Join(err, ln.Close(), closeEndpoints(endpoints))
		}
	}
	registration, err := o.registrationSaid(ctx, store)
	if err != nil {
		return errors.Join(err, ln.Close(), closeEndpoints(endpoints))
	}
	url, database := o.url(ln), at.String()
	if isNew {
		database += " (new)"
	}
	fmt.Fprintf(stdout, "Pikarc %s serves %s\nDashboard: %s/   API: %s/v1/   Reference: "+
		"%s/openapi.json\nRegistration: %s\nDatabase: %s\n%s",
		version, url, url, url, url, registration, database, said)
	return serveOn(ctx, srv, ln, plain, endpoints...)
}

// warn says what is set and has no effect.
func (o serveOptions) warn(at ledgerLocation, log *slog.Logger) {
	for _, warning := range o.warnings {
		log.Warn(warning)
	}
	if at.inPostgres() && hasDatabase(at.dir) {
		log.Warn(at.fileUnused())
	}
}

// serveOn serves, and beside it sends plain HTTP to https where that is asked
// for. When one of the two ends, so does the other.
func serveOn(
	ctx context.Context, s *server.Server, ln, plain net.Listener, endpoints ...server.Endpoint,
) error {
	if plain == nil {
		return s.Serve(ctx, ln, endpoints...)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		return errors.Join(err, plain.Close(), ln.Close())
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// Either end ends the other: a server without its redirect looks healthy and is not.
	redirected := make(chan error, 1)
	go func() {
		defer stop()
		redirected <- s.ServeRedirect(ctx, plain, port)
	}()
	err = s.Serve(ctx, ln, endpoints...)
	stop()
	return errors.Join(err, <-redirected)
}

// closeTracing sends the last spans, though the context has ended.
func closeTracing(ctx context.Context, t *server.Tracing) error {
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return t.Close(ctx)
}

// endpoints opens the addresses for operators. said tells where they are.
func (o serveOptions) endpoints(
	ctx context.Context, srv *server.Server,
) (all []server.Endpoint, said string, err error) {
	for _, e := range []struct {
		flag, addr, name, path string
		handler                http.Handler
	}{
		{"--metrics-addr", o.metricsAddr, "Metrics", "/metrics", srv.MetricsHandler()},
		{"--debug-addr", o.debugAddr, "Profiles", "/debug/pprof/", server.DebugHandler()},
	} {
		if e.addr == "" {
			continue
		}
		ln, err := listen(ctx, e.flag, e.addr)
		if err != nil {
			return nil, "", errors.Join(err, closeEndpoints(all))
		}
		all = append(all, server.Endpoint{Listener: ln, Handler: e.handler})
		said += fmt.Sprintf("%s: http://%s%s\n", e.name, publicAddr(e.addr, ln), e.path)
	}
	return all, said, nil
}

// closeEndpoints closes the listeners of a server that does not start.
func closeEndpoints(all []server.Endpoint) (err error) {
	for _, e := range all {
		err = errors.Join(err, e.Listener.Close())
	}
	return err
}

// publicAddr is the address as asked for, with the port that was really taken.
func publicAddr(addr string, ln net.Listener) string {
	host, _, err := net.SplitHostPort(addr)
	_, port, portErr := net.SplitHostPort(ln.Addr().String())
	if err != nil || portErr != nil {
		return ln.Addr().String()
	}
	if host == "" {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

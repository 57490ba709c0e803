package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/demo"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
)

// demoEmail is the account that the demo makes.
const demoEmail = "demo@example.com"

// demoOptions are the flags of demo.
type demoOptions struct {
	addr string
	seed uint64
}

// newDemo shows the product without any setting up.
func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Serve a workspace with made-up history and simulated agents",
		Long: "Makes a temporary data directory with an account and two weeks of made-up\n" +
			"history, serves it, and keeps simulated agents running against it until SIGINT\n" +
			"or SIGTERM. Then it removes the directory, unless you named one with --data-dir;\n" +
			"that must not contain a database. With --database the ledger is created in\n" +
			"PostgreSQL, in a database without tables, and stays there.",
		Example: "  pikarc demo --addr localhost:8001",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			listens := listenOptions{addr: o.addr}
			listens.completeAddr(cmd.Flags())
			o.addr = listens.addr
			at, err := ledgerLocationOf(cmd)
			if err != nil {
				return err
			}
			return runDemo(cmd.Context(), at, o, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.addr, "addr", defaultAddr,
		"address to listen on; without a port it is "+defaultPort)
	// It hides the flag of all commands: the usual default is the operator's own data.
	f.String("data-dir", "", "where to keep the demo's data; a throw-away directory when empty")
	f.Uint64Var(&o.seed, "seed", 1, "random seed of the made-up data")
	return cmd
}

// runDemo serves a demo from dir, or from a directory of its own when that is empty.
func runDemo(ctx context.Context, at ledgerLocation, o demoOptions, stdout, stderr io.Writer) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	// Listening comes first: filling the history takes seconds, and a port that is taken should be
	// told at once.
	ln, err := listen(ctx, "--addr", o.addr)
	if err != nil {
		return err
	}
	defer ln.Close() // again, if serving has closed it
	if err := at.requireNew(ctx); err != nil {
		return err
	}
	if at.dir == "" {
		// Its removal is deferred before the store's Close, and so comes after it.
		if at.dir, err = os.MkdirTemp("", "pikarc-demo-"); err != nil {
			return fmt.Errorf("make a directory for the demo: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(at.dir)) }()
	}
	cfg, err := serveOptions{
		networkOptions: networkOptions{listenOptions: listenOptions{addr: o.addr},
			registration: "auto"},
		defaultPlan: string(demo.Plan), logFormat: "text", logLevel: "warn",
		maxBody: server.DefaultMaxBody, maxRunBody: server.DefaultMaxRunBody,
		maxPayload:    server.DefaultMaxPayload,
		maxBodyMemory: server.DefaultMaxBodyMemory,
		tokenTTL:      24 * time.Hour, paymentGrace: server.DefaultPaymentGrace,
		cacheRows: storage.DefaultCacheSize, openStepTimeout: storage.DefaultOpenStepTimeout,
		databaseTimeout: storage.DefaultAnswerTimeout,
		backups:         server.Backups{Every: 24 * time.Hour, Keep: 7},
	}.config(at.dir, stderr)
	if err != nil {
		return err
	}
	store, secret, err := at.open(ctx, true, storage.Options{Catalogue: cfg.Catalogue})
	if err != nil {
		return ignoreIfEnded(ctx, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	cfg.Secret, cfg.Now = secret, store.Time
	password, key, err := fillDemo(ctx, store, o.seed)
	if err != nil {
		return ignoreIfEnded(ctx, err)
	}
	url := "http://" + publicAddr(o.addr, ln)
	fmt.Fprintf(stdout, "Pikarc %s serves a demo: %s/\nEmail     %s\nPassword  %s\nAPI key   "+
		"%s\nCtrl-C ends it.\n",
		version, url, demoEmail, password, key)
	// They call over HTTP, as any client: what the dashboard shows has come in by the API.
	var agents sync.WaitGroup
	defer agents.Wait()
	// They end with ctx, before the store is closed and the directory removed.
	agents.Go(func() { demo.Agents(ctx, url, key, o.seed) })
	return server.New(store, cfg).Serve(ctx, ln)
}

// requireNew checks that the location holds nothing yet. A PostgreSQL database outlives the demo,
// so its server secret must be kept too.
func (at ledgerLocation) requireNew(ctx context.Context) error {
	if at.inPostgres() {
		given, err := setting(serverSecret)
		if err == nil && given == "" && at.dir == "" {
			err = usage(fmt.Errorf("say where the database's server secret is to be kept: "+
				"--data-dir, or set %s", serverSecret))
		}
		if err != nil {
			return err
		}
	}
	if at.dir == "" && !at.inPostgres() {
		return nil
	}
	found, err := at.exists(ctx)
	switch {
	case err != nil || !found:
		return err
	case at.inPostgres():
		return fmt.Errorf("%s already has tables of Pikarc: the demo only fills a new database", at)
	}
	return fmt.Errorf("%s holds a database already: the demo only fills a new one", at.dir)
}

// fillDemo makes the account and its history, and returns its credentials.
func fillDemo(
	ctx context.Context, store *storage.Store, seed uint64,
) (password, key string, err error) {
	secret := make([]byte, 6)
	if _, err := rand.Read(secret); err != nil {
		return "", "", fmt.Errorf("make up a password: %w", err)
	}
	password = hex.EncodeToString(secret)
	hash, err := auth.NewHasher(1).Hash(ctx, password)
	if err != nil {
		return "", "", err
	}
	in := storage.NewAccount{Email: demoEmail, PasswordHash: hash, WorkspaceName: "Demo",
		Plan: demo.Plan}
	_, workspace, apiKey, err := store.CreateAccount(ctx, in)
	if err != nil {
		return "", "", err
	}
	return password, apiKey.Full, demo.Fill(ctx, store, workspace.Key(), seed, time.Now())
}

// ignoreIfEnded drops the error if ctx has ended: being stopped by a signal is not a failure.
func ignoreIfEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

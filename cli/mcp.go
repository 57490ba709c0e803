package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/ask"
	"github.com/pikarc/server/mcp"
)

// mcpOptions are the flags of mcp.
type mcpOptions struct {
	upstream, listen, user string
	timeout                time.Duration
	origins                []string
}

// newMCP makes the gateway's command. With stdio it is written before the server's
// command in an MCP client's settings, and takes over its standard input and output.
func newMCP(stdin io.Reader) *cobra.Command {
	var o mcpOptions
	cmd := &cobra.Command{
		Use:   "mcp [flags] -- COMMAND [ARGUMENT...]",
		Short: "Guard an MCP server: a gateway that asks before each tool call",
		Long: "Stands between an MCP client and an MCP server. Each tool call, each resource " +
			"that is read and each prompt that is fetched is asked for; everything else passes " +
			"as it is. A denied call is answered as the protocol's tool error, with a sentence " +
			"for the model. What cannot be asked for does not reach the server.\n\n" +
			"With a COMMAND it speaks stdio, and is written where the command was in the " +
			"client's settings. With --upstream it speaks streamable HTTP, and the client is " +
			"given its address in the place of the server's.\n\n" +
			"The key and the server's address are in PIKARC_API_KEY and PIKARC_BASE_URL; " +
			"COMMAND does not get the key.",
		Example: `  pikarc mcp -- npx -y @modelcontextprotocol/server-filesystem /home/ann
  pikarc mcp --upstream https://example.com/mcp --listen localhost:8010`,
		Args: func(cmd *cobra.Command, args []string) error {
			switch {
			// Exactly one of the two says which server is guarded.
			case (len(args) == 0) == (o.upstream == ""):
				return usage(errors.New("give either a command after --, or --upstream"))
			case len(args) > 0 && cmd.ArgsLenAtDash() != 0:
				return usage(errors.New("write -- before the command"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return guardMCP(cmd.Context(), o, args, stdin, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.upstream, "upstream", "", "address of an MCP server that speaks streamable HTTP")
	f.StringVar(&o.listen, "listen", "localhost:8010", "address to listen on, with --upstream")
	f.StringSliceVar(&o.origins, "allow-origins", nil,
		"origins whose pages may call it, with --upstream, such as https://app.example.com")
	f.StringVar(&o.user, "user", "",
		"on whose behalf calls are made; who is signed in on this machine unless given")
	f.DurationVar(&o.timeout, "timeout", 10*time.Second,
		"how long to wait for a decision before a call is refused")
	return cmd
}

// guardMCP serves until its client, its command or a signal ends it.
func guardMCP(
	ctx context.Context, o mcpOptions, command []string, stdin io.Reader, stdout, stderr io.Writer,
) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A client that is gone is an error of writing, not a signal.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	settings, err := ask.FromEnvironment(os.Getenv)
	if err != nil {
		return err
	}
	client, err := ask.New(settings, "mcp/1")
	if err != nil {
		return err
	}
	options := mcp.Options{
		Client: client, User: cmp.Or(o.user, os.Getenv("USER"), os.Getenv("USERNAME"), "unknown"),
		Timeout: o.timeout,
		Log:     slog.New(slog.NewTextHandler(stderr, nil)), Now: now,
	}
	if o.upstream != "" {
		return serveGateway(ctx, options, o, stdout)
	}
	options.Server = filepath.Base(command[0])
	// The client sees the exit code of its server, not ours.
	code, err := mcp.Stdio(ctx, options, command, stdin, stdout, stderr)
	if err == nil && code != 0 {
		return exitError(code)
	}
	return err
}

// exitError is the exit code of a command that was run, which has said what there is to say.
type exitError int

// Error is never printed: the command's own output was.
func (e exitError) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// serveGateway serves MCP over HTTP before an upstream server, until it is told to stop.
func serveGateway(ctx context.Context, options mcp.Options, o mcpOptions, stdout io.Writer) error {
	if u, err := url.Parse(o.upstream); err == nil {
		options.Server = u.Host
	}
	g, err := mcp.NewGateway(ctx, options, o.upstream, o.origins)
	if err != nil {
		return usage(err)
	}
	// Settings are checked before the port is taken, and the line below is printed once it
	// is.
	ln, err := listen(ctx, "--listen", o.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "Pikarc guards %s at http://%s/mcp\n", o.upstream, publicAddr(o.listen, ln))
	return g.Serve(ctx, ln)
}

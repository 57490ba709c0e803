package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthOptions are the flags of health: those of serve that say where it listens.
type healthOptions struct {
	listenOptions
	forceTLS bool
	timeout  time.Duration
}

// newHealth is for the health check of a container, which has no curl.
func newHealth() *cobra.Command {
	var o healthOptions
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the server on this machine whether it is ready",
		Long: "Asks the server that runs on this machine whether it is ready to decide: its\n" +
			"schema is current and it can write. Exit code 0 when it is, 1 when it is not. It\n" +
			"reads no data, and needs no --data-dir.\n\n" +
			"Give it the server's settings (the same environment is enough): they tell it the\n" +
			"address, and whether the server speaks TLS. It does not need --base-path.",
		Example: `  pikarc health
  PIKARC_TLS_DOMAIN=agents.example.com pikarc health
  pikarc health --addr :443 --tls`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.completeAddr(cmd.Flags())
			return health(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	o.addrFlag(cmd.Flags())
	o.certificateFlags(cmd.Flags())
	cmd.Flags().BoolVar(&o.forceTLS, "tls", false,
		"the server speaks TLS, as it does with --tls-cert or --tls-domain")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

// tls reports whether to ask by HTTPS. A container's check may not know the certificate's flags.
func (o healthOptions) tls() bool { return o.forceTLS || o.listenOptions.tls() }

// health asks each address at which this machine reaches the server. The certificate is not
// verified: its name is not localhost.
func health(ctx context.Context, o healthOptions, stdout io.Writer) error {
	addresses, err := o.reachable()
	if err != nil {
		return usage(err)
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	err = nil
	for _, address := range addresses {
		unready := o.ask(ctx, address)
		if unready == nil {
			_, err := fmt.Fprintln(stdout, "ready")
			return err
		}
		if err = errors.Join(err, unready); !errors.Is(unready, errNoAnswer) {
			break // it answers, and says that it is not ready
		}
	}
	return err
}

// errNoAnswer: nothing listens, or it is too slow.
var errNoAnswer = errors.New("the server does not answer")

// ask asks the server at an address. It does not verify the certificate: the server is on this
// machine, and nothing secret is sent to it.
func (o healthOptions) ask(ctx context.Context, address string) error {
	scheme, tlsConfig := "http", &tls.Config{InsecureSkipVerify: true} // #nosec G402
	if o.tls() {
		scheme = "https"
	}
	if len(o.tlsDomains) > 0 {
		tlsConfig.ServerName = o.tlsDomains[0] // it has no certificate for anything else
	}
	url := scheme + "://" + address + "/health/ready"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return usage(fmt.Errorf("--addr %q: %w", o.addr, err))
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: tlsConfig}}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errNoAnswer, err)
	}
	// Whatever listens there may answer anything, of any length.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	switch err = errors.Join(err, resp.Body.Close()); {
	case err != nil:
		return err
	case resp.StatusCode == http.StatusOK:
		return nil
	// What Go's server answers to plain HTTP where TLS is spoken.
	case !o.tls() && strings.Contains(string(body), "HTTP request to an HTTPS server"):
		return fmt.Errorf("the server on %s speaks TLS: give health its settings, such as "+
			"PIKARC_TLS_CERT, or --tls", address)
	// Another program has the port.
	case resp.Header.Get("Content-Type") != "application/json":
		return fmt.Errorf("%s answers %s, which is not Pikarc", url, resp.Status)
	default:
		return fmt.Errorf("the server is not ready: %s %s", resp.Status, body)
	}
}

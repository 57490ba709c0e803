package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
)

type healthOptions struct {
	addr    string
	tls     bool
	timeout time.Duration
}

func newHealth() *cobra.Command {
	var o healthOptions
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the server on this machine whether it is ready",
		Long: "Asks the server that runs on this machine whether it is ready to decide: its schema is current and it can write.\n" +
			"Exit code 0 when it is, 1 when it is not. For a container's health check; it reads no data.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return health(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	cmd.Flags().StringVar(&o.addr, "addr", defaultAddr, "address that the server listens on")
	cmd.Flags().BoolVar(&o.tls, "tls", false, "the server speaks TLS; its certificate is not checked")
	cmd.Flags().DurationVar(&o.timeout, "timeout", 3*time.Second, "how long to wait for the answer")
	return cmd
}

// url is where this machine reaches a server that listens on the address.
func (o healthOptions) url() (string, error) {
	host, port, err := net.SplitHostPort(o.addr)
	if err != nil {
		return "", usage(fmt.Errorf("--addr %q: %w", o.addr, err))
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	scheme := "http"
	if o.tls {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port) + "/health/ready", nil
}

func health(ctx context.Context, o healthOptions, stdout io.Writer) error {
	url, err := o.url()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// It sends nothing and believes nothing but the status, on this machine: no name is there to check.
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // #nosec G402
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("the server does not answer: %w", err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		if resp.Header.Get("Content-Type") != "application/json" {
			return fmt.Errorf("%s answers %s, which is not Pikarc", url, resp.Status)
		}
		return fmt.Errorf("the server is not ready: %s %s", resp.Status, body)
	}
	_, err = fmt.Fprintln(stdout, "ready")
	return err
}

package server_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/pikarc/server/server"
)

// withCertificate makes the server speak TLS, with a certificate that nobody has signed.
func withCertificate(t *testing.T) func(*server.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths := [2]string{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	for i, block := range []*pem.Block{{Type: "CERTIFICATE", Bytes: der}, {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(paths[i], pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	encryption, err := server.CertificateFiles(paths[0], paths[1], slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return func(cfg *server.Config) { cfg.TLS = encryption }
}

// HTTP/2 comes with TLS, and ends a request at its deadline though nothing waits to be
// written: what is meant for slow readers must not cut off quiet streams.
func TestAQuietStreamOverHTTP2IsNotCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, network *pipes, other patient) {
		over := &http.Transport{
			DialContext:       func(context.Context, string, string) (net.Conn, error) { return network.dial(), nil },
			TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
			ForceAttemptHTTP2: true,
		}
		other.Client = &http.Client{Transport: over}
		defer over.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "https://pikarc/v1/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+other.key)
		resp, err := other.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
			t.Fatalf("answered %s over %s", resp.Status, resp.Proto)
		}
		body, began := bufio.NewReader(resp.Body), time.Now()
		if e, _, err := readEvent(body); err != nil || e.name != "hello" {
			t.Fatalf("the stream began with %v, %v", e, err)
		}
		for comments := 1; comments <= 20; comments++ {
			if line, err := body.ReadString('\n'); err != nil || line != ":\n" {
				t.Fatalf("after %v came %q, %v", time.Since(began), line, err)
			}
			if _, err := body.Discard(1); err != nil {
				t.Fatal(err)
			}
		}
		other.startOver(t, "https")
		if e, _, err := readEvent(body); err != nil || e.name != "run.started" {
			t.Errorf("the start was told as %q, %v", e.name, err)
		}
	}, withCertificate(t))
}

package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// certificate is a self-signed one for 127.0.0.1, in files as an operator has it.
type certificate struct {
	cert, key string // paths
	number    *big.Int
}

// writeCertificate makes a new one in the same files.
func writeCertificate(t *testing.T, dir string, number int64) certificate {
	t.Helper()
	return writeCertificateFor(t, dir, number)
}

// writeCertificateFor makes one for a domain too.
func writeCertificateFor(t *testing.T, dir string, number int64, domains ...string) certificate {
	t.Helper()
	c := certificate{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"), big.NewInt(number)}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: c.number, Subject: pkix.Name{CommonName: "pikarc test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: domains,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// The new files take the place of the old ones in one step each, as tools that renew certificates do.
	for path, block := range map[string]*pem.Block{c.cert: {Type: "CERTIFICATE", Bytes: der}, c.key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// serveTLS starts a server with a certificate and returns where it serves and how to call it.
func serveTLS(t *testing.T, dir string, c certificate, args ...string) (*process, *http.Client) {
	t.Helper()
	p := spawn(t, nil, append([]string{"serve", "--addr", "127.0.0.1:0", "--data-dir", dir, "--tls-cert", c.cert, "--tls-key", c.key}, args...)...)
	serves := regexp.MustCompile(`(?m)^Pikarc \S+ serves (https://\S+)\n`)
	p.await(t, "says where it serves", func() bool {
		if found := serves.FindStringSubmatch(p.stdout.String()); found != nil {
			p.url = found[1]
		}
		return p.url != ""
	})
	return p, trusting(t, c)
}

// trusting is a client that takes nothing but this certificate, and makes a new connection for each call.
func trusting(t *testing.T, c certificate) *http.Client {
	t.Helper()
	content, err := os.ReadFile(c.cert)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true, ForceAttemptHTTP2: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func TestTLSFromFilesThatAreReplaced(t *testing.T) {
	t.Parallel()
	files := t.TempDir()
	first := writeCertificate(t, files, 1)
	p, client := serveTLS(t, t.TempDir(), first)
	a, err := send(t.Context(), client, "GET", p.url+"/health", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := a.want(t, http.StatusOK).header.Get("Strict-Transport-Security"); got != "max-age=31536000" {
		t.Errorf("Strict-Transport-Security is %q", got)
	}
	// A file that cannot be used is complained of, and changes nothing.
	if err := os.WriteFile(first.key, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.await(t, "complains of a broken key", func() bool {
		_, err := send(t.Context(), client, "GET", p.url+"/health", "", nil)
		return err == nil && strings.Contains(p.stderr.String(), "cannot be used")
	})
	second := writeCertificate(t, files, 2)
	client = trusting(t, second)
	p.await(t, "shows the new certificate", func() bool {
		_, err := send(t.Context(), client, "GET", p.url+"/health", "", nil)
		return err == nil
	})
	p.stop(t)
}

func TestOldTLSIsRefused(t *testing.T) {
	t.Parallel()
	c := writeCertificate(t, t.TempDir(), 1)
	p, _ := serveTLS(t, t.TempDir(), c)
	host := strings.TrimPrefix(p.url, "https://")
	for version, ok := range map[uint16]bool{tls.VersionTLS10: false, tls.VersionTLS11: false, tls.VersionTLS12: true, tls.VersionTLS13: true} {
		conn, err := tls.Dial("tcp", host, &tls.Config{InsecureSkipVerify: true, MinVersion: version, MaxVersion: version})
		if err == nil {
			conn.Close()
		}
		if ok != (err == nil) {
			t.Errorf("%s: %v", tls.VersionName(version), err)
		}
	}
}

func TestPlainHTTPIsSentToHTTPS(t *testing.T) {
	t.Parallel()
	c := writeCertificate(t, t.TempDir(), 1)
	p, client := serveTLS(t, t.TempDir(), c, "--http-redirect-addr", "127.0.0.1:0")
	plain, says := "", regexp.MustCompile(`sent to https" address=(\S+)`)
	p.await(t, "says where it redirects", func() bool {
		if found := says.FindStringSubmatch(p.stderr.String()); found != nil {
			plain = found[1]
		}
		return plain != ""
	})
	a, err := send(t.Context(), client, "GET", "http://"+plain+"/a%2Fb/?x=1&y=%0d%0aSet-Cookie:z", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.want(t, http.StatusPermanentRedirect).header.Get("Location"), p.url+"/a%2Fb/?x=1&y=%0d%0aSet-Cookie:z"; got != want {
		t.Errorf("sent to %q, want %q", got, want)
	}
	if got := a.header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("plain HTTP says Strict-Transport-Security %q, which browsers ignore there", got)
	}
	for _, call := range []struct{ method, credential string }{{"POST", ""}, {"GET", "lg_some_key"}} {
		a, err := send(t.Context(), client, call.method, "http://"+plain+"/v1/runs", call.credential, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(a.want(t, http.StatusBadRequest).body, []byte("Use https")) || a.header.Get("Location") != "" {
			t.Errorf("%s was answered %s", call.method, a.body)
		}
	}
	p.stop(t)
	if _, err := net.Dial("tcp", plain); err == nil {
		t.Error("the redirect outlives the server")
	}
}

func TestTLSSettingsThatDoNotFitAreRefused(t *testing.T) {
	t.Parallel()
	for says, flags := range map[string][]string{
		"give both":                 {"--tls-cert=a.pem"},
		"give one of them":          {"--tls-cert=a.pem", "--tls-key=b.pem", "--tls-domain=example.com"},
		"needs --tls-cert":          {"--http-redirect-addr=127.0.0.1:0"},
		"write a network":           {"--trusted-proxies=everybody"},
		"write an origin":           {"--cors-origins=https://app.example.com/"},
		"must be 0 or more":         {"--rate-per-key=-1"},
		"invalid argument \"many\"": {"--max-connections=many"},
	} {
		run(t, append([]string{"serve", "--addr", "127.0.0.1:0", "--data-dir", t.TempDir()}, flags...)...).fails(t, 2, says)
	}
	run(t, "serve", "--addr", "127.0.0.1:0", "--data-dir", t.TempDir(), "--tls-cert=/none.pem", "--tls-key=/none.pem").fails(t, 1, "/none.pem")
}

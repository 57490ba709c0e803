package acme

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	domain   = "pikarc.example.test"
	patience = 2 * time.Minute
)

// output collects what a process says.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// build makes the programs of this test from source.
func build(t *testing.T, dir string) {
	t.Helper()
	for _, args := range [][]string{
		{"build", "-o", dir, "github.com/letsencrypt/pebble/v2/cmd/pebble", "github.com/letsencrypt/pebble/v2/cmd/pebble-challtestsrv"},
		{"build", "-C", "../..", "-buildvcs=false", "-o", filepath.Join(dir, "pikarc"), "."},
	} {
		if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, out)
		}
	}
}

// start runs a program until it is ended, or the test is.
func start(t *testing.T, env []string, name string, args ...string) (said *output, end func()) {
	t.Helper()
	said = new(output)
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), said, said
	must(t, cmd.Start())
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(func() {
		end()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(name), said)
		}
	})
	return said, end
}

// await waits for words of a process's, and returns the first part of them in parentheses.
func await(t *testing.T, said *output, pattern string) string {
	t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); <-time.After(10 * time.Millisecond) {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(said.String()); found != nil {
			return found[len(found)-1]
		}
	}
	t.Fatalf("nothing says %s", pattern)
	return ""
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().String()
}

// ownCertificate is for the authority's own address.
func ownCertificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(pair)
	must(t, err)
	cert, key = filepath.Join(dir, "authority.pem"), filepath.Join(dir, "authority.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	return cert, key
}

// startAuthority runs pebble, which asks the domain at a port of this machine.
func startAuthority(t *testing.T, dir, addr, cert, key string, port int) {
	t.Helper()
	dns := free(t)
	start(t, nil, filepath.Join(dir, "pebble-challtestsrv"), "-dnsserver", dns, "-defaultIPv6", "", "-doh", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-management", free(t))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": addr, "managementListenAddress": free(t), "certificate": cert, "privateKey": key,
		"httpPort": 1, "tlsPort": port, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "all", "validityPeriod": 7776000}},
	}})
	must(t, err)
	file := filepath.Join(dir, "pebble.json")
	must(t, os.WriteFile(file, config, 0o600))
	said, _ := start(t, []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, filepath.Join(dir, "pebble"), "-config", file, "-dnsserver", dns)
	await(t, said, `ACME directory available`)
}

// handshake returns the certificate that is shown for a name.
func handshake(addr, name string) (*x509.Certificate, error) {
	dialer := &net.Dialer{Timeout: patience}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true}) // pebble's root is new each time
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

func TestTheServerGetsItsCertificateByItself(t *testing.T) {
	dir := t.TempDir()
	build(t, dir)
	cert, key := ownCertificate(t, dir)
	authority, data := free(t), filepath.Join(dir, "data")
	serve := func() (addr string, end func()) {
		said, end := start(t, []string{"SSL_CERT_FILE=" + cert}, filepath.Join(dir, "pikarc"), "serve", "--addr", "127.0.0.1:0", "--data-dir", data,
			"--tls-domain", domain, "--tls-acme-url", "https://"+authority+"/dir", "--log-level", "debug")
		return "127.0.0.1:" + await(t, said, `serves https://`+regexp.QuoteMeta(domain)+`:(\d+)`), end
	}
	addr, end := serve()
	port, err := strconv.Atoi(addr[strings.LastIndex(addr, ":")+1:])
	must(t, err)
	startAuthority(t, dir, authority, cert, key, port)

	first, err := handshake(addr, domain)
	must(t, err)
	if !slices.Contains(first.DNSNames, domain) || !strings.Contains(first.Issuer.CommonName, "Pebble") {
		t.Errorf("the certificate is for %v, by %s", first.DNSNames, first.Issuer)
	}
	for _, name := range []string{"other.example.test", ""} {
		if c, err := handshake(addr, name); err == nil {
			t.Errorf("for the name %q it shows a certificate of %v", name, c.DNSNames)
		}
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{ServerName: domain, InsecureSkipVerify: true}}}
	resp, err := client.Get("https://" + addr + "/health")
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Strict-Transport-Security") == "" {
		t.Errorf("answered %d, %v", resp.StatusCode, resp.Header)
	}
	end()
	addr, _ = serve()
	again, err := handshake(addr, domain) // another process takes it from the data directory
	must(t, err)
	if again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("a new certificate was asked for, though there was one")
	}
	ownersOnly(t, filepath.Join(data, "certificates"))
}

// ownersOnly fails when somebody else could read a file.
func ownersOnly(t *testing.T, dir string) {
	t.Helper()
	files := 0
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			err = errors.New(path + " can be read by others")
		}
		files++
		return err
	}))
	if files < 3 { // the directory, the account's key and the certificate
		t.Errorf("%d files in %s", files, dir)
	}
}

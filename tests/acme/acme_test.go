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
	mathrand "math/rand/v2"
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
	// wedged is after how long without a certificate an authority that has issued it is taken for wedged.
	wedged = 20 * time.Second
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

// free is an address that nobody listens on. It is none of the ports that the
// system gives out by itself, or another process might get it in between.
func free(t *testing.T) string {
	t.Helper()
	for {
		addr := "127.0.0.1:" + strconv.Itoa(10_000+mathrand.IntN(20_000))
		if ln, err := net.Listen("tcp", addr); err == nil {
			must(t, ln.Close())
			return addr
		}
	}
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
func startAuthority(t *testing.T, bin, dir, addr, cert, key string, port int) (said *output) {
	t.Helper()
	dns := free(t)
	start(t, nil, filepath.Join(bin, "pebble-challtestsrv"), "-dnsserver", dns, "-defaultIPv6", "", "-doh", "",
		"-http01", "", "-https01", "", "-tlsalpn01", "", "-management", free(t))
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": addr, "managementListenAddress": free(t), "certificate": cert, "privateKey": key,
		"httpPort": 1, "tlsPort": port, "retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles": map[string]any{"default": map[string]any{"description": "all", "validityPeriod": 7776000}},
	}})
	must(t, err)
	file := filepath.Join(dir, "pebble.json")
	must(t, os.WriteFile(file, config, 0o600))
	said, _ = start(t, []string{"PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=0"}, filepath.Join(bin, "pebble"), "-config", file, "-dnsserver", dns)
	await(t, said, `ACME directory available`)
	return said
}

// handshake returns the certificate that is shown for a name.
func handshake(addr, name string, within time.Duration) (*x509.Certificate, error) {
	dialer := &net.Dialer{Timeout: within}
	conn, err := tls.DialWithDialer(dialer, "tcp", addr, &tls.Config{ServerName: name, InsecureSkipVerify: true}) // pebble's root is new each time
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0], nil
}

// site is a server of the domain on its own data directory, which can be
// started again.
type site struct {
	serve       func() (addr string, end func())
	data, addr  string
	certificate *x509.Certificate // the first one
	end         func()
}

// newSite starts a server and an authority, and waits for the certificate. It
// is nil if the authority has wedged itself: pebble locks an order twice when
// it is asked for one that it is just completing (its issue 554; no release
// has the mending yet).
func newSite(t *testing.T, bin string) *site {
	t.Helper()
	dir := t.TempDir()
	cert, key := ownCertificate(t, dir)
	authority := free(t)
	s := &site{data: filepath.Join(dir, "data")}
	s.serve = func() (addr string, end func()) {
		said, end := start(t, []string{"SSL_CERT_FILE=" + cert}, filepath.Join(bin, "pikarc"), "serve", "--addr", "127.0.0.1:0", "--data-dir", s.data,
			"--tls-domain", domain, "--tls-acme-url", "https://"+authority+"/dir", "--log-level", "debug")
		return "127.0.0.1:" + await(t, said, `serves https://`+regexp.QuoteMeta(domain)+`:(\d+)`), end
	}
	s.addr, s.end = s.serve()
	port, err := strconv.Atoi(s.addr[strings.LastIndex(s.addr, ":")+1:])
	must(t, err)
	said := startAuthority(t, bin, dir, authority, cert, key, port)
	s.certificate, err = handshake(s.addr, domain, wedged)
	if err != nil && strings.Contains(said.String(), "Issued certificate") {
		return nil
	}
	if err != nil { // a slow machine
		s.certificate, err = handshake(s.addr, domain, patience)
	}
	must(t, err)
	return s
}

func TestTheServerGetsItsCertificateByItself(t *testing.T) {
	bin := t.TempDir()
	build(t, bin)
	var s *site
	for range 5 {
		if s = newSite(t, bin); s != nil {
			break
		}
	}
	if s == nil {
		t.Fatal("five authorities issued a certificate, and none was shown")
	}
	first, addr := s.certificate, s.addr
	if !slices.Contains(first.DNSNames, domain) || !strings.Contains(first.Issuer.CommonName, "Pebble") {
		t.Errorf("the certificate is for %v, by %s", first.DNSNames, first.Issuer)
	}
	for _, name := range []string{"other.example.test", ""} {
		if c, err := handshake(addr, name, patience); err == nil {
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
	s.end()
	addr, _ = s.serve()
	again, err := handshake(addr, domain, patience) // another process takes it from the data directory
	must(t, err)
	if again.SerialNumber.Cmp(first.SerialNumber) != 0 {
		t.Error("a new certificate was asked for, though there was one")
	}
	ownersOnly(t, filepath.Join(s.data, "certificates"))
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

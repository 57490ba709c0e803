package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/crypto/acme"
	"golang.org/x/crypto/acme/autocert"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/server/limit"
)

// TLS is how a server proves its name and keeps what it says private.
type TLS struct {
	config *tls.Config
	// challenge answers the certificate authority's questions over plain HTTP, and
	// passes on the rest.
	challenge func(http.Handler) http.Handler
}

// modern is what both kinds of certificates share. Go chooses the suites.
func modern(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: certificate,
		NextProtos: []string{"h2", "http/1.1"}}
}

// ACME gets certificates for domains by itself, and renews them. They are kept
// in dir. The empty directory is Let's Encrypt's.
func ACME(domains []string, email, directory, dir string) *TLS {
	m := &autocert.Manager{
		Prompt: autocert.AcceptTOS, HostPolicy: autocert.HostWhitelist(domains...),
		Cache: certificateDir{autocert.DirCache(dir)}, Email: email,
		Client: &acme.Client{DirectoryURL: directory, UserAgent: "pikarc"},
	}
	if directory == "" {
		m.Client.DirectoryURL = autocert.DefaultACMEDirectory
	}
	config := modern(m.GetCertificate)
	config.NextProtos = append(config.NextProtos, acme.ALPNProto)
	return &TLS{config: config, challenge: m.HTTPHandler}
}

// certificateDir keeps certificates in a directory, in files of its owner's.
type certificateDir struct{ autocert.DirCache }

// Put stores what autocert has obtained, readable by the owner alone, and under its name only once
// it is written whole.
func (d certificateDir) Put(_ context.Context, name string, data []byte) error {
	dir := string(d.DirCache)
	if err := privatefile.MkdirAll(dir); err != nil {
		return err
	}
	f, err := privatefile.CreateTemp(dir, "new-")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err == nil {
		// As autocert finds it again: a name is never above the directory.
		err = os.Rename(f.Name(), filepath.Join(dir, filepath.Clean("/"+name)))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// certificateCheck is how often a handshake looks whether the files have changed.
const certificateCheck = time.Second

// keyPair is a certificate in files, read again when they change.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	stamp   [2]os.FileInfo
	looked  time.Time
}

// CertificateFiles takes a certificate from files, which may be replaced while
// the server runs. What cannot be read then is logged, and the one before stays.
func CertificateFiles(certFile, keyFile string, log *slog.Logger) (*TLS, error) {
	k := &keyPair{certFile: certFile, keyFile: keyFile, log: log}
	if err := k.load(); err != nil {
		return nil, err
	}
	return &TLS{config: modern(k.certificate),
		challenge: func(h http.Handler) http.Handler { return h }}, nil
}

// certificate returns the current certificate. It looks at the files now and then, and keeps the
// old one while a new one cannot be used.
func (k *keyPair) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := time.Now(); now.Sub(k.looked) >= certificateCheck {
		k.looked = now
		if k.changed() {
			if err := k.load(); err != nil {
				k.log.Error("the new certificate cannot be used; the old one stays", "error",
					err.Error())
			} else {
				k.log.Info("the certificate was replaced")
			}
		}
	}
	return k.current, nil
}

// files are the names that a change is looked for in.
func (k *keyPair) files() [2]string { return [2]string{k.certFile, k.keyFile} }

// changed is false while a file is missing, as in the middle of its replacement.
func (k *keyPair) changed() bool {
	differs := false
	for i, file := range k.files() {
		info, err := os.Stat(file)
		if err != nil {
			return false
		}
		old := k.stamp[i]
		differs = differs || !os.SameFile(info, old) || !info.ModTime().Equal(old.ModTime()) ||
			info.Size() != old.Size()
	}
	return differs
}

// load notes the files' stamps first, so that what changes meanwhile is noticed
// next time, and a broken pair is complained of once.
func (k *keyPair) load() error {
	for i, file := range k.files() {
		info, err := os.Stat(file)
		if err != nil {
			return fmt.Errorf("read the certificate: %w", err)
		}
		k.stamp[i] = info
	}
	pair, err := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil {
		return fmt.Errorf("read the certificate of %s and %s: %w", k.certFile, k.keyFile, err)
	}
	k.current = &pair
	return nil
}

// ServeRedirect sends what comes over plain HTTP to the same place over HTTPS,
// until the context ends. httpsPort is where that is.
func (s *Server) ServeRedirect(ctx context.Context, ln net.Listener, httpsPort string) error {
	conns := limit.NewConnections(s.MaxConnections, s.MaxPerAddress, s.TrustedProxies)
	hs := &http.Server{
		Handler:           s.TLS.challenge(redirectTo(httpsPort)),
		ReadHeaderTimeout: s.Timeouts.Header,
		ReadTimeout:       s.Timeouts.Header,
		WriteTimeout:      s.Timeouts.Header,
		IdleTimeout:       s.Timeouts.Header,
		MaxHeaderBytes:    8 << 10,
		ConnState:         conns.TrackState,
		ErrorLog:          slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
	}
	s.Log.Info("plain HTTP is sent to https", "address", ln.Addr().String())
	stop := context.AfterFunc(ctx, func() { _ = hs.Close() }) // nothing here is worth waiting for
	defer stop()
	if err := hs.Serve(conns.Listener(ln)); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("redirect to https: %w", err)
	}
	return nil
}

// redirectTo answers readers with the address to use. Whoever sends something
// is told so instead: their credential has just crossed the network in the
// clear, and a redirect would hide that.
func redirectTo(httpsPort string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		readOnly := r.Method == http.MethodGet || r.Method == http.MethodHead
		if host == "" || !readOnly || r.Header.Get("Authorization") != "" {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"detail":"Use https. If you sent a credential here, replace it: it was not encrypted."}`))
			return
		}
		if httpsPort != "443" {
			host = net.JoinHostPort(host, httpsPort)
		}
		target := url.URL{Scheme: "https", Host: host, Path: r.URL.Path, RawPath: r.URL.RawPath,
			RawQuery: r.URL.RawQuery}
		w.Header().Set("Location", target.String())
		w.WriteHeader(http.StatusPermanentRedirect)
	})
}

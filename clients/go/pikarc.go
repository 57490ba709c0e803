// Package pikarc puts AI agents under the guard of a Pikarc server: before each
// call the server is asked, after it, what it used is reported. A server that is
// down, slow or broken stops the agent, unless one says otherwise ([Open]).
//
//	guard, err := pikarc.New()
//	err = guard.Run(ctx, "ada", nil, func(ctx context.Context, run *pikarc.Run) error {
//		answer, err := pikarc.ModelCall(ctx, run, "gpt-4o", question, ask)
//		…
//	})
package pikarc

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Version is the client's version.
const Version = "1.0.0"

// DefaultBaseURL is where a server is on its own machine.
const DefaultBaseURL = "http://localhost:8000"

// Closed makes a call that the server cannot be asked about fail with
// [ErrUnavailable]; the guarded function is not called. It is the default.
func Closed(error) bool { return false }

// Open lets a call go on that the server cannot be asked about. It is kept in the
// journal and reported later.
func Open(error) bool { return true }

// Client asks one server with one key. It is safe for concurrent use.
type Client struct {
	apiKey, baseURL string
	http            *http.Client
	timeout         time.Duration
	maxRetries      int
	onUnavailable   func(error) bool
	onReview        func(reviewID string) bool
	reviewTimeout   time.Duration
	grace           time.Duration
	heartbeat       time.Duration
	journal         *journal
}

// Option sets something of a client.
type Option func(*settings)

// settings are a client before its options are applied and checked.
type settings struct {
	Client
	journalDir string
}

// WithAPIKey sets the key; PIKARC_API_KEY unless given.
func WithAPIKey(key string) Option { return func(s *settings) { s.apiKey = key } }

// WithBaseURL sets the server's address; PIKARC_BASE_URL unless given, else [DefaultBaseURL].
func WithBaseURL(address string) Option { return func(s *settings) { s.baseURL = address } }

// WithTimeout bounds each attempt; 10 s unless given.
func WithTimeout(d time.Duration) Option { return func(s *settings) { s.timeout = d } }

// WithMaxRetries sets the attempts after the first one, for trouble that may pass; 3 unless given.
func WithMaxRetries(n int) Option { return func(s *settings) { s.maxRetries = n } }

// WithOnUnavailable decides what becomes of a call that the server cannot be
// asked about: [Closed] (the default), [Open], or a function of the error.
func WithOnUnavailable(goesOn func(error) bool) Option {
	return func(s *settings) { s.onUnavailable = goesOn }
}

// WithOnReview is asked, with the review's id, whether to wait for a person; a
// call that does not wait fails with [ErrReviewPending]. Unless given, it waits.
func WithOnReview(waits func(reviewID string) bool) Option {
	return func(s *settings) { s.onReview = waits }
}

// WithReviewTimeout sets how long to wait for a person; 5 minutes unless given.
func WithReviewTimeout(d time.Duration) Option { return func(s *settings) { s.reviewTimeout = d } }

// WithJournalDir sets where reports are kept that could not be delivered;
// PIKARC_JOURNAL_DIR unless given, else a directory of the user's.
func WithJournalDir(dir string) Option { return func(s *settings) { s.journalDir = dir } }

// WithHTTPClient sets what requests are sent with. Its Timeout should be 0.
func WithHTTPClient(c *http.Client) Option { return func(s *settings) { s.http = c } }

// WithHeartbeat sets the time between signs of life of a run whose call takes
// long; 30 s unless given.
func WithHeartbeat(d time.Duration) Option { return func(s *settings) { s.heartbeat = d } }

// New makes a client. The error names a setting that cannot be right, never the key.
func New(options ...Option) (*Client, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 50
	transport.DialContext = (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 30 * time.Second}).DialContext
	return settings{Client: Client{
		apiKey: os.Getenv("PIKARC_API_KEY"), baseURL: os.Getenv("PIKARC_BASE_URL"),
		timeout: 10 * time.Second, maxRetries: 3, onUnavailable: Closed,
		onReview: func(string) bool { return true }, reviewTimeout: 5 * time.Minute,
		grace: 2 * time.Second, heartbeat: 30 * time.Second,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}},
	}}.apply(options)
}

// WithOptions returns a client with other settings and the same connections.
func (c *Client) WithOptions(options ...Option) (*Client, error) {
	return settings{Client: *c, journalDir: c.journal.dir}.apply(options)
}

// apply applies the options over the environment's settings, and the defaults last.
func (s settings) apply(options []Option) (*Client, error) {
	for _, option := range options {
		option(&s)
	}
	if s.baseURL == "" {
		s.baseURL = DefaultBaseURL
	}
	s.baseURL = strings.TrimRight(s.baseURL, "/")
	if err := s.check(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(s.baseURL + "\n" + s.apiKey))
	owner, dir := hex.EncodeToString(sum[:8]), journalDir(s.journalDir)
	if j := s.journal; j == nil || j.owner != owner || j.dir != dir {
		s.journal = newJournal(dir, owner)
	}
	return &s.Client, nil
}

// check refuses settings that can only be mistakes, before the first call fails because of them.
func (c *Client) check() error {
	if c.apiKey == "" {
		return errors.New("pikarc: no API key: use WithAPIKey, or set PIKARC_API_KEY")
	}
	if strings.ContainsFunc(c.apiKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return errors.New("pikarc: the API key holds a space, a line break or another character that no key has: was it copied whole?")
	}
	u, err := url.Parse(c.baseURL)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return fmt.Errorf("pikarc: the base URL must begin with http:// or https://, as in %s", DefaultBaseURL)
	case strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/v1") || u.RawQuery != "" || u.Fragment != "":
		return errors.New("pikarc: the base URL is the server's address alone: leave out /v1, ? and #")
	case u.User != nil:
		return errors.New("pikarc: the base URL must not hold a password")
	case c.timeout <= 0 || c.maxRetries < 0 || c.reviewTimeout < 0 || c.heartbeat <= 0:
		return errors.New("pikarc: times must be above 0, and retries 0 or more")
	case c.onUnavailable == nil || c.onReview == nil || c.http == nil:
		return errors.New("pikarc: a rule must be a function, and the HTTP client one")
	}
	return nil
}

// journalDir is where reports wait for a server that is away: as given, or where this system's
// programs keep their state.
func journalDir(given string) string {
	for _, dir := range []string{given, os.Getenv("PIKARC_JOURNAL_DIR")} {
		if dir != "" {
			return dir
		}
	}
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "pikarc")
	}
	if local := os.Getenv("LOCALAPPDATA"); local != "" {
		return filepath.Join(local, "pikarc")
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = os.TempDir()
	}
	return filepath.Join(home, ".local", "state", "pikarc")
}

// Flush delivers the reports that wait, and returns how many were.
func (c *Client) Flush(ctx context.Context) int { return c.deliver(ctx, true) }

// JournalLength counts the reports that wait for the server, of all processes with the same key.
func (c *Client) JournalLength() int { return c.journal.length() }

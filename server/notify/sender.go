// Package notify sends what is in the outbox to the endpoints of workspaces: as webhooks, to chats,
// by ntfy and by email. It alone knows their formats, and the library for SMTP.
//
// A message is sent at least once, always with the same id: what was sent is recorded after the
// answer, and a crash between the two sends it again.
//
//   - sender.go: taking messages from the outbox, retries, and giving an endpoint up
//   - message.go: an event in words, for people
//   - forms.go: the request of each kind of endpoint, signatures among them
//   - mail.go: email
//   - dial.go: which addresses may be reached
//   - reasons.go: why a message was not taken, for people
package notify

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pikarc/server/storage"
)

// Why an endpoint's address is refused, for people.
var (
	errBadURL    = errors.New("should be an absolute https URL, such as https://example.com/hook")
	errPlainHTTP = errors.New("should be an https URL: this server sends over plain http only with --webhook-private")
	errUserInfo  = errors.New("should have no user name or password")
	errNoTopic   = errors.New("should end with a topic, such as https://ntfy.sh/my-topic")
)

const (
	// attemptTimeout bounds an attempt, from looking up the name to the end of the answer.
	attemptTimeout = 15 * time.Second
	// maxAnswer is how much of an answer is read and kept.
	maxAnswer = 2 << 10
	// maxSent is how much is kept of what was sent.
	maxSent = 16 << 10
	// perEndpoint is how many messages an endpoint is sent at once. One that fails is sent one at a
	// time.
	perEndpoint = 4
	// pollEvery is how often the outbox is looked at that nobody says was written: by other
	// processes.
	pollEvery = 5 * time.Second
	// pollSharedEvery is the same where other nodes write to the outbox too.
	pollSharedEvery = time.Second
)

// Lanes bound how many endpoints are sent to at once. Those that failed last
// have one of their own, so that they never keep others waiting.
const (
	healthyLane = 128
	failingLane = 32
)

// Delays lists how long after each failed attempt the next one follows.
func delays() []time.Duration {
	return []time.Duration{
		5 * time.Second, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour,
		10 * time.Hour, 14 * time.Hour, 20 * time.Hour, 24 * time.Hour,
	}
}

// Config is what a sender needs besides its store.
type Config struct {
	PublicURL string // of the dashboard, to which messages link
	Private   bool   // sends to addresses of this network too, and over plain HTTP
	SMTP      *SMTP  // nil: no email is sent
	Log       *slog.Logger
	Now       func() time.Time
	// Actions makes the links by which the reader of a message decides; nil, or nil of it, for
	// none.
	Actions func(context.Context, storage.Endpoint, storage.Delivery) (*Actions, error)
	// Attempted counts an attempt: delivered, retry, failed or gone.
	Attempted func(kind storage.EndpointKind, result string)
	// Waiting is told since when the oldest message has been waiting; zero: none does.
	Waiting func(since time.Time)
}

// Sender sends what is in a store's outbox.
type Sender struct {
	Config
	store  *storage.Store
	client *http.Client

	mu      sync.Mutex
	busy    map[storage.EndpointKey]bool
	failing map[storage.EndpointKey]bool
	healthy chan struct{} // slots of the lanes
	slow    chan struct{}
	idle    chan struct{} // full after an endpoint has been served
	group   sync.WaitGroup
}

// New makes a sender.
func New(store *storage.Store, cfg Config) *Sender {
	return &Sender{
		Config: cfg, store: store, client: newClient(cfg.Private, attemptTimeout),
		busy: make(map[storage.EndpointKey]bool), failing: make(map[storage.EndpointKey]bool),
		healthy: make(chan struct{}, healthyLane), slow: make(chan struct{}, failingLane), idle: make(chan struct{}, 1),
	}
}

// Run sends until the context ends, and returns when no attempt is under way.
func (s *Sender) Run(ctx context.Context) {
	defer s.group.Wait()
	defer s.client.CloseIdleConnections()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-s.store.OutboxWritten():
		case <-s.idle:
		}
		timer.Reset(s.round(ctx))
	}
}

// round starts to serve each endpoint that something is due for, and returns when
// to look again.
func (s *Sender) round(ctx context.Context) time.Duration {
	due, oldest, err := s.store.DueEndpoints(ctx)
	if err != nil {
		if ctx.Err() == nil && !errors.Is(err, storage.ErrClosed) {
			s.Log.Error("look at the outbox", "error", err.Error())
		}
		return pollEvery
	}
	s.Waiting(oldest)
	wait := pollEvery
	if s.store.Shared() {
		wait = pollSharedEvery
	}
	for _, e := range due {
		if in := e.At.Sub(s.Now()); in > 0 {
			wait = min(wait, in)
			continue
		}
		s.start(ctx, e.Key)
	}
	return wait
}

// start serves an endpoint, unless it is being served or its lane is full: then
// a later round finds it again.
func (s *Sender) start(ctx context.Context, key storage.EndpointKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lane := s.healthy
	if s.failing[key] {
		lane = s.slow
	}
	if s.busy[key] {
		return
	}
	select {
	case lane <- struct{}{}:
	default:
		return
	}
	// One goroutine an endpoint at a time, so that this process sends no message twice at
	// once.
	s.busy[key] = true
	s.group.Go(func() {
		s.serve(ctx, key)
		s.mu.Lock()
		delete(s.busy, key)
		s.mu.Unlock()
		<-lane
		select {
		// Full means that a round is due already.
		case s.idle <- struct{}{}:
		default:
		}
	})
}

// serve sends an endpoint some of what is due, and no more: others wait for the slot.
func (s *Sender) serve(ctx context.Context, key storage.EndpointKey) {
	s.mu.Lock()
	failing := s.failing[key]
	s.mu.Unlock()
	const batch = 16 * perEndpoint
	// An endpoint that fails gets one message at a time: if it is down, the others would only fail
	// as well.
	width, most := perEndpoint, batch
	if failing {
		width, most = 1, 1
	}
	out, err := s.store.Outgoing(ctx, key, most)
	switch {
	// The server secret has changed since; no attempt can ever succeed.
	case errors.Is(err, storage.ErrEndpointUnreadable):
		err = s.store.SwitchOff(ctx, out.Endpoint, storage.OffUnreadable)
	case errors.Is(err, storage.ErrEndpointOff):
		err = s.store.CancelDeliveries(ctx, key)
	case errors.Is(err, storage.ErrNotFound): // deleted meanwhile
		err = nil
	}
	if err != nil {
		s.logTrouble(ctx, "read what an endpoint is to be sent", err)
		return
	}
	var failed sync.Map
	slots, group := make(chan struct{}, width), sync.WaitGroup{}
	for _, d := range out.Deliveries {
		slots <- struct{}{}
		if _, any := failed.Load(true); any || ctx.Err() != nil { // the rest can wait for the other lane
			break
		}
		group.Go(func() {
			defer func() { <-slots }()
			if !s.deliver(ctx, out, d) {
				failed.Store(true, true)
			}
		})
	}
	group.Wait()
	_, any := failed.Load(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if any {
		s.failing[key] = true
	} else {
		delete(s.failing, key)
	}
}

// logTrouble logs an error, unless it only means that the server is shutting down.
func (s *Sender) logTrouble(ctx context.Context, what string, err error) {
	if ctx.Err() == nil && !errors.Is(err, storage.ErrClosed) {
		s.Log.Error(what, "error", err.Error())
	}
}

// deliver makes one attempt and records it. It reports whether the message was taken.
func (s *Sender) deliver(ctx context.Context, out storage.Outgoing, d storage.Delivery) bool {
	began := s.Now()
	started := time.Now()
	a := s.attempt(ctx, out, d)
	if ctx.Err() != nil && a.problem != "" {
		return false // the server ends: it is sent again after the next start
	}
	record := storage.Attempt{
		At: began, Took: time.Since(started), Sent: a.sent, Status: a.status, Answer: a.answer, Problem: a.problem,
	}
	result := "delivered"
	switch n, all := int(d.Attempts), delays(); {
	case a.problem == "":
	case a.status == http.StatusGone:
		result = "gone"
	case n < len(all):
		result = "retry"
		record.Next = s.Now().Add(max(jitter(all[n]), a.retryAfter))
	default:
		result = "failed"
	}
	// Recorded even while the server stops: a message that was taken should not come again.
	err := s.store.RecordAttempt(context.WithoutCancel(ctx), out.Endpoint, d.ID, record)
	if err == nil && result == "gone" {
		err = s.store.SwitchOff(context.WithoutCancel(ctx), out.Endpoint, storage.OffGone)
	}
	if err != nil {
		s.logTrouble(ctx, "record what an endpoint was sent", err)
	}
	s.Attempted(out.Target.Kind, result)
	return a.problem == ""
}

// jitter is a delay and up to a fifth more, so that what failed together is not
// tried again together.
func jitter(d time.Duration) time.Duration { return d + rand.N(d/5) }

// attempt is how one went.
type attempt struct {
	sent, answer, problem string
	status                int64
	retryAfter            time.Duration
}

// attempt sends one delivery and returns how it went. It never fails itself: whatever goes wrong is
// kept with the delivery, for people to read.
func (s *Sender) attempt(ctx context.Context, out storage.Outgoing, d storage.Delivery) (a attempt) {
	var actions *Actions
	if s.Actions != nil {
		var err error
		if actions, err = s.Actions(ctx, out.Endpoint, d); err != nil {
			return attempt{problem: "its links could not be made: " + err.Error()}
		}
	}
	m, err := newMessage(out, d, s.PublicURL, actions)
	if err != nil {
		return attempt{problem: err.Error()}
	}
	if s.Actions == nil && d.Event == storage.ReviewRequested {
		m.text = strings.TrimSpace(m.text + " To be answered here, the server needs its --public-url.")
	}
	if out.Target.Kind == storage.Email {
		return s.mail(ctx, m, out.Target.Address)
	}
	// What is sent and what is recorded differ: the record is readable by everybody in the
	// workspace, and its links must not decide anything.
	r, err := form(m, out.Target, s.Now())
	if err != nil {
		return attempt{problem: err.Error()}
	}
	shown := m
	shown.actions = actions.hidden()
	record, err := form(shown, out.Target, s.Now())
	if err != nil {
		return attempt{problem: err.Error()}
	}
	a = s.post(ctx, r)
	a.sent = cut(string(record.body), maxSent)
	if actions != nil { // an answer may repeat what it was sent
		a.answer = strings.NewReplacer(actions.Approve, "[link]", actions.Deny, "[link]").Replace(a.answer)
	}
	return a
}

// form writes a message as its endpoint wants it.
func form(m message, t storage.Target, now time.Time) (request, error) {
	switch t.Kind {
	case storage.Slack:
		return slack(m, t.Address)
	case storage.Discord:
		return discord(m, t.Address)
	case storage.Teams:
		return teams(m, t.Address)
	case storage.Ntfy:
		return ntfy(m, t.Address)
	default:
		return webhook(m, t.Address, t.Secrets, now)
	}
}

// post sends a request, and reads the beginning of the answer.
func (s *Sender) post(ctx context.Context, r request) (a attempt) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, strings.NewReader(string(r.body)))
	if err != nil {
		return attempt{problem: "the URL cannot be used"}
	}
	req.Header = r.header
	req.Header.Set("User-Agent", "Pikarc")
	answer, err := s.client.Do(req)
	if err != nil {
		return attempt{problem: reasonOf(err)}
	}
	defer answer.Body.Close()
	a.status = int64(answer.StatusCode)
	body, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	a.answer = clip(body)
	switch {
	case answer.StatusCode/100 != 2:
		a.problem = statusReason(answer.StatusCode)
		a.retryAfter = retryAfter(answer.Header.Get("Retry-After"))
	// A 2xx whose body breaks off has been taken all the same.
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		a.problem = reasonOf(err)
	}
	return a
}

// retryAfter reads for how long an endpoint wants to be left alone, an hour at most.
func retryAfter(seconds string) time.Duration {
	n, err := strconv.Atoi(seconds)
	if err != nil || n < 0 {
		return 0
	}
	return min(time.Duration(n)*time.Second, time.Hour)
}

// mail sends a message by email.
func (s *Sender) mail(ctx context.Context, m message, to string) (a attempt) {
	if s.SMTP == nil {
		return attempt{problem: "this server has no SMTP settings: its operator can set --smtp-host and --smtp-from"}
	}
	msg, _, err := newMail(m, s.SMTP.From, to)
	if err != nil {
		return attempt{problem: err.Error()}
	}
	shown := m
	shown.actions = m.actions.hidden()
	_, a.sent, err = newMail(shown, s.SMTP.From, to)
	if err == nil {
		ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		err = s.SMTP.send(ctx, msg, attemptTimeout)
	}
	if err != nil {
		a.problem = reasonOf(err)
	}
	return a
}

// clip makes of an answer's beginning a text that can be stored and shown.
func clip(body []byte) string {
	text := strings.ToValidUTF8(string(body), "\uFFFD")
	return strings.ReplaceAll(text, "\x00", "\uFFFD")
}

// cut ends a text after so many bytes, between two characters.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	for most > 0 && !utf8.RuneStart(s[most]) {
		most--
	}
	return s[:most] + "…"
}

package live

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pikarc/server/storage"
)

// Limits bound how many event streams may be open; zero fields have defaults.
type Limits struct {
	PerWorkspace int // 100
	InAll        int // 4000
}

func (l Limits) withDefaults() Limits {
	if l.PerWorkspace == 0 {
		l.PerWorkspace = 100
	}
	if l.InAll == 0 {
		l.InAll = 4000
	}
	return l
}

// LimitError says why no stream is opened, in a sentence for who asked.
type LimitError string

// Error is the sentence.
func (e LimitError) Error() string { return string(e) }

// The limits that a stream may be beyond.
const (
	ErrTooManyInWorkspace LimitError = "Too many open event streams in this workspace. Close some and try again."
	ErrTooMany            LimitError = "The server has too many open event streams. Try again later."
)

// How the hub paces itself.
const (
	roundEvery    = 100 * time.Millisecond // between two times that a workspace is told something
	spendEvery    = 500 * time.Millisecond // between two spend.changed of a workspace
	pollEvery     = time.Second            // between two looks for what other processes did
	backoffFactor = 9                      // how many times as long as telling a workspace took, the hub rests then
	batches       = 1024                   // handed over by the writer and not yet looked at
)

// Hub tells open streams what was committed. The store's writer hands it the
// changes of each batch and never waits for it: what finds no place is lost,
// and the streams are told that they missed something. The hub merges changes
// by workspace, reads what they need once, encodes it once, and gives
// the same bytes to every stream of the workspace.
type Hub struct {
	limits Limits
	log    *slog.Logger
	store  *storage.Store

	in       chan []storage.Change
	overflow atomic.Bool // a batch found no place

	life sync.Mutex // held while the hub starts, stops, or a stream joins or leaves
	stop func()     // ends the goroutine; nil while there is no stream

	mu      sync.Mutex // guards what follows; never held while the store is asked
	feeds   map[storage.WorkspaceKey]*feed
	streams int
	closed  bool
}

// NewHub makes one without streams.
func NewHub(store *storage.Store, limits Limits, log *slog.Logger) *Hub {
	return &Hub{
		limits: limits.withDefaults(), log: log, store: store,
		in: make(chan []storage.Change, batches), feeds: make(map[storage.WorkspaceKey]*feed),
	}
}

// Offer takes a batch's changes from the writer, at once or not at all.
func (h *Hub) Offer(changes []storage.Change) {
	select {
	case h.in <- changes:
	default:
		h.overflow.Store(true)
	}
}

// Join opens a stream. When it returns, all that is committed from then on
// will be told to conn. prove says whether the stream's credential still holds.
func (h *Hub) Join(
	ctx context.Context, ws storage.WorkspaceKey, prove func(context.Context) error, conn *http.ResponseController,
) (*Stream, error) {
	h.life.Lock()
	defer h.life.Unlock()
	if err := h.room(ws); err != nil {
		return nil, err
	}
	if err := h.start(ctx); err != nil {
		return nil, err
	}
	defer h.stopIfIdle() // when it comes to no stream
	st := &Stream{conn: conn, prove: prove, frames: make(chan []byte, framesAhead), gone: make(chan struct{})}
	h.mu.Lock()
	f := h.feeds[ws]
	h.mu.Unlock()
	if f == nil {
		f = &feed{ws: ws, streams: make(map[*Stream]struct{})}
		var err error
		if f.config, err = h.store.Config(ctx, ws); err != nil {
			return nil, err
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, storage.ErrClosed
	}
	h.feeds[ws] = f
	f.streams[st] = struct{}{}
	h.streams++
	return st, nil
}

// room refuses a stream beyond the limits.
func (h *Hub) room(ws storage.WorkspaceKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch f := h.feeds[ws]; {
	case h.closed:
		return storage.ErrClosed
	case f != nil && len(f.streams) >= h.limits.PerWorkspace:
		return ErrTooManyInWorkspace
	case h.streams >= h.limits.InAll:
		return ErrTooMany
	}
	return nil
}

// start watches the store, if nobody does yet, and for longer than its caller's stream lasts.
func (h *Hub) start(ctx context.Context) error {
	if h.stop != nil {
		return nil
	}
	for len(h.in) > 0 { // of an earlier watch: the writer may have been about to hand over
		<-h.in
	}
	h.overflow.Store(false)
	if err := h.store.Watch(ctx, h.Offer); err != nil {
		return err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan struct{})
	go func() { defer close(done); h.run(running) }()
	h.stop = func() { h.store.Unwatch(); cancel(); <-done }
	return nil
}

// Leave forgets a stream; after the last one nobody watches the store.
func (h *Hub) Leave(ws storage.WorkspaceKey, st *Stream) {
	h.life.Lock()
	defer h.life.Unlock()
	h.mu.Lock()
	f := h.feeds[ws]
	delete(f.streams, st)
	h.streams--
	if len(f.streams) == 0 {
		delete(h.feeds, ws)
	}
	h.mu.Unlock()
	h.stopIfIdle()
}

func (h *Hub) stopIfIdle() {
	h.mu.Lock()
	idle := h.streams == 0
	h.mu.Unlock()
	if idle && h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

// Close ends every stream, and lets no other join.
func (h *Hub) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, f := range h.feeds {
		for st := range f.streams {
			st.end()
		}
	}
}

// run takes what the writer hands over and passes it on, one workspace after
// another, each at most once in roundEvery. After each it rests, so that the
// hub takes a tenth of a processor at most and never wakes all readers at once.
func (h *Hub) run(ctx context.Context) {
	poll, backoff := time.NewTicker(pollEvery), time.NewTimer(0)
	defer poll.Stop()
	defer backoff.Stop()
	var round []*feed // those still to be looked at
	var began time.Time
	for ready := false; ; {
		select {
		case <-ctx.Done():
			return
		case changes := <-h.in:
			h.take(changes)
		case <-poll.C:
			h.lookElsewhere(ctx)
		case <-backoff.C:
			ready = true
		}
		if h.overflow.Swap(false) {
			h.missAll()
		}
		for ready {
			if len(round) == 0 {
				if round = h.pending(); len(round) == 0 {
					break
				}
				if left := roundEvery - time.Since(began); left > 0 {
					round, ready = nil, false
					backoff.Reset(left)
					break
				}
				began = time.Now()
			}
			f, started := round[0], time.Now()
			round = round[1:]
			if h.publish(ctx, f) {
				ready = false
				backoff.Reset(backoffFactor * time.Since(started))
			}
		}
	}
}

// take sorts changes into the feeds of those who watch.
func (h *Hub) take(changes []storage.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		if f := h.feeds[c.Workspace]; f != nil {
			f.add(c)
		}
	}
}

func (h *Hub) missAll() {
	for _, f := range h.all() {
		f.missed = true
	}
}

// all lists the feeds. What is pending in a feed belongs to the hub's own goroutine.
func (h *Hub) all() []*feed {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*feed, 0, len(h.feeds))
	for _, f := range h.feeds {
		list = append(list, f)
	}
	return list
}

// pending lists the feeds of which something is to be told.
func (h *Hub) pending() []*feed {
	return slices.DeleteFunc(h.all(), func(f *feed) bool { return !f.pending() })
}

// lookElsewhere marks every feed when another process has committed: its
// configuration may be another, and its credentials may have ended.
func (h *Hub) lookElsewhere(ctx context.Context) {
	changed, err := h.store.ChangedElsewhere(ctx)
	if err != nil || !changed {
		return // a store that cannot be asked has nothing to tell
	}
	for _, f := range h.all() {
		f.elsewhere, f.unproven = true, true
	}
}

// publish passes on what is pending of a feed and due, if anything is.
func (h *Hub) publish(ctx context.Context, f *feed) bool {
	unproven := f.unproven
	if unproven {
		f.unproven = false
		h.endUnproven(ctx, f)
	}
	frame := h.collect(ctx, f)
	if len(frame) > 0 {
		h.deliver(f, frame)
	}
	return unproven || len(frame) > 0
}

// endUnproven closes the streams of a feed whose credential has ended, before
// anything that was committed after that is told.
func (h *Hub) endUnproven(ctx context.Context, f *feed) {
	for _, st := range h.streamsOf(f) {
		if st.prove(ctx) != nil {
			st.end()
		}
	}
}

func (h *Hub) streamsOf(f *feed) []*Stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*Stream, 0, len(f.streams))
	for st := range f.streams {
		list = append(list, st)
	}
	return list
}

// deliver gives the bytes to every stream of a feed. One that has not taken
// what it was given before is cut off.
func (h *Hub) deliver(f *feed, frame []byte) {
	for _, st := range h.streamsOf(f) {
		if st.ended() {
			continue
		}
		select {
		case st.frames <- frame:
		default:
			st.cut()
		}
	}
}

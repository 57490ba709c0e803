package live

import (
	"context"
	"log/slog"
	"maps"
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
	Total        int // 4000
}

// withDefaults returns limits that fit a small machine: a stream costs a goroutine and a buffer.
func (l Limits) withDefaults() Limits {
	if l.PerWorkspace == 0 {
		l.PerWorkspace = 100
	}
	if l.Total == 0 {
		l.Total = 4000
	}
	return l
}

// LimitError says, in a sentence for the caller, why a stream is refused.
type LimitError string

// Error is the sentence.
func (e LimitError) Error() string { return string(e) }

// The limits on open streams.
const (
	ErrTooManyInWorkspace LimitError = "Too many open event streams in this workspace. Close " +
		"some and try again."
	ErrTooMany LimitError = "The server has too many open event streams. Try again " +
		"later."
)

// How the hub paces itself.
const (
	roundEvery = 100 * time.Millisecond // between two publications to a workspace
	spendEvery = 500 * time.Millisecond // between two spend.changed of a workspace
	tellEvery  = 2 * time.Second        // between two missed of a workspace for the sake of other nodes
	// The pause after a publication, as a multiple of the time that it took
	backoffFactor = 9
	// That the writer has handed over and the hub has not read
	batches = 1024
)

// Hub publishes what was committed to open streams. The store's writer hands it
// the changes of each batch and never waits: when the queue is full they are
// dropped, and the streams get a missed event. The hub merges changes by
// workspace, reads and encodes what they need once, and sends the same bytes
// to every stream of the workspace.
type Hub struct {
	limits Limits
	log    *slog.Logger
	store  *storage.Store

	in       chan []storage.Change
	overflow atomic.Bool // a batch was dropped

	life sync.Mutex // held while the hub starts, stops, or a stream joins or leaves
	stop func()     // ends the goroutine; nil while there is no stream

	mu sync.Mutex // guards what follows; never held while the store is asked
	// By workspace, while somebody streams it. Guarded by mu, with what follows.
	feeds   map[storage.WorkspaceKey]*feed
	streams int
	closed  bool
}

// NewHub returns a hub without streams.
func NewHub(store *storage.Store, limits Limits, log *slog.Logger) *Hub {
	return &Hub{
		limits: limits.withDefaults(), log: log, store: store,
		in: make(chan []storage.Change, batches), feeds: make(map[storage.WorkspaceKey]*feed),
	}
}

// Offer queues the changes of a batch, or drops them. It never blocks.
func (h *Hub) Offer(changes []storage.Change) {
	select {
	case h.in <- changes:
	default:
		h.overflow.Store(true)
	}
}

// Join opens a stream on conn, which is sent all that is committed from then on.
// authorize returns an error once the stream's credential has ended.
func (h *Hub) Join(
	ctx context.Context, ws storage.WorkspaceKey, authorize func(context.Context) error,
	conn *http.ResponseController,
) (*Stream, error) {
	h.life.Lock()
	defer h.life.Unlock()
	if err := h.admit(ws); err != nil {
		return nil, err
	}
	if err := h.start(ctx); err != nil {
		return nil, err
	}
	defer h.stopIfIdle() // if no stream is opened
	st := &Stream{conn: conn, authorize: authorize, frames: make(chan []byte, framesAhead),
		done: make(chan struct{})}
	h.mu.Lock()
	f := h.feeds[ws]
	h.mu.Unlock()
	if f == nil {
		f = &feed{ws: ws, streams: make(map[*Stream]struct{})}
		err := h.store.FollowElsewhere(ctx, ws)
		if err == nil {
			f.config, err = h.store.Config(ctx, ws)
		}
		if err != nil {
			h.store.UnfollowElsewhere(ws)
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

// admit refuses a stream beyond the limits.
func (h *Hub) admit(ws storage.WorkspaceKey) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch f := h.feeds[ws]; {
	case h.closed:
		return storage.ErrClosed
	case f != nil && len(f.streams) >= h.limits.PerWorkspace:
		return ErrTooManyInWorkspace
	case h.streams >= h.limits.Total:
		return ErrTooMany
	}
	return nil
}

// start begins to watch the store, unless the hub does already. The watch
// outlives ctx, which is that of the first stream.
func (h *Hub) start(ctx context.Context) error {
	if h.stop != nil {
		return nil
	}
	for len(h.in) > 0 { // left from an earlier watch
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

// Leave removes a stream. After the last one the hub stops watching the store.
func (h *Hub) Leave(ws storage.WorkspaceKey, st *Stream) {
	h.life.Lock()
	defer h.life.Unlock()
	h.mu.Lock()
	f := h.feeds[ws]
	delete(f.streams, st)
	h.streams--
	if len(f.streams) == 0 {
		delete(h.feeds, ws)
		h.store.UnfollowElsewhere(ws)
	}
	h.mu.Unlock()
	h.stopIfIdle()
}

// stopIfIdle stops watching the store when the last stream has ended, so that writers pay nothing
// for events that nobody reads.
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

// run publishes what the writer hands over, one workspace after another, each
// at most once in roundEvery. It pauses after each, so that the hub uses at most
// a tenth of a processor and never wakes all readers at once.
func (h *Hub) run(ctx context.Context) {
	poll, backoff := time.NewTicker(h.store.LookElsewhereEvery()), time.NewTimer(0)
	defer poll.Stop()
	defer backoff.Stop()
	var round []*feed // feeds still to be published in this round
	var began time.Time
	// Changes are taken in as they come, and published in rounds: at most one every roundEvery, one
	// feed after another. A publication is followed by a pause in proportion to its cost, so that
	// streams never take more than a share of the machine from decisions.
	for ready := false; ; {
		select {
		case <-ctx.Done():
			return
		case changes := <-h.in:
			h.dispatch(changes)
		case <-poll.C:
			h.pollStore(ctx)
		case <-backoff.C:
			ready = true
		}
		if h.overflow.Swap(false) {
			h.markAllMissed()
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

// dispatch adds changes to the feeds of their workspaces.
func (h *Hub) dispatch(changes []storage.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		if f := h.feeds[c.Workspace]; f != nil {
			f.add(c)
		}
	}
}

// markAllMissed has every feed tell its streams to read the current state, after changes that were
// not published one by one.
func (h *Hub) markAllMissed() {
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

// pending lists the feeds that have something to publish.
func (h *Hub) pending() []*feed {
	return slices.DeleteFunc(h.all(), func(f *feed) bool { return !f.pending() })
}

// pollStore marks the feeds of the workspaces in which another process has
// committed: its configuration may be another, its credentials may have ended,
// and another node may have decided.
func (h *Hub) pollStore(ctx context.Context) {
	feeds := make(map[storage.WorkspaceKey]*feed)
	for _, f := range h.all() {
		feeds[f.ws] = f
	}
	changed, err := h.store.ChangedElsewhere(ctx, slices.Collect(maps.Keys(feeds)))
	if err != nil {
		return // tried again at the next tick
	}
	for _, ws := range changed {
		f := feeds[ws]
		f.external, f.recheck = true, true
		if h.store.Shared() {
			f.spend, f.elsewhere = true, true
		}
	}
}

// publish sends what is pending and due in a feed, and reports whether it did any work.
func (h *Hub) publish(ctx context.Context, f *feed) bool {
	recheck := f.recheck
	if recheck {
		f.recheck = false
		h.endUnauthorized(ctx, f)
	}
	frame := h.collect(ctx, f)
	if len(frame) > 0 {
		h.deliver(f, frame)
	}
	return recheck || len(frame) > 0
}

// endUnauthorized closes the streams whose credential has ended, before they
// are sent anything that was committed later.
func (h *Hub) endUnauthorized(ctx context.Context, f *feed) {
	for _, st := range h.streamsOf(f) {
		if st.authorize(ctx) != nil {
			st.end()
		}
	}
}

// streamsOf copies the list, so that events are sent without the lock.
func (h *Hub) streamsOf(f *feed) []*Stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := make([]*Stream, 0, len(f.streams))
	for st := range f.streams {
		list = append(list, st)
	}
	return list
}

// deliver sends a frame to every stream of a feed. A stream whose buffer is full
// is dropped.
func (h *Hub) deliver(f *feed, frame []byte) {
	for _, st := range h.streamsOf(f) {
		if st.ended() {
			continue
		}
		select {
		case st.frames <- frame:
		default:
			st.drop()
		}
	}
}

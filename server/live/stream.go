package live

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pikarc/server/server/wire"
)

const (
	framesAhead    = 16               // that a stream may lag behind
	keepAliveEvery = 15 * time.Second // a comment, for proxies, and a check of the credential
	frameTimeout   = 10 * time.Second // for writing a frame
)

// Stream is one open event stream, shared by its handler and the hub.
type Stream struct {
	conn      *http.ResponseController
	authorize func(context.Context) error // returns an error once its credential has ended
	frames    chan []byte
	done      chan struct{} // closed when it has ended
	once      sync.Once
	slow      atomic.Bool
}

// abort unblocks a write to a reader that has stopped reading.
func (st *Stream) abort() {
	_ = st.conn.SetWriteDeadline(time.Now().Add(-time.Second)) // fails on a connection that is gone
}

// end asks the handler to close the stream.
func (st *Stream) end() { st.once.Do(func() { close(st.done) }) }

// drop ends the stream of a reader that is too slow, even in the middle of a frame.
func (st *Stream) drop() {
	st.slow.Store(true)
	st.end()
	st.abort()
}

// ended reports whether nobody reads the stream any more.
func (st *Stream) ended() bool {
	select {
	case <-st.done:
		return true
	default:
		return false
	}
}

// Serve sends a hello event with the time that the stream began and for how long nothing had
// changed before, and then what the hub publishes, until the stream ends. It returns the number of
// bytes written.
func (st *Stream) Serve(
	ctx context.Context, w http.ResponseWriter, began time.Time, quiet time.Duration,
) (written int) {
	_ = st.conn.SetReadDeadline(time.Time{}) // the server's is for requests; a stream reads nothing
	var hello frames
	hello.add("hello", struct {
		At    wire.Time `json:"at"`
		Quiet int64     `json:"quiet_ms"`
	}{wire.Time(began), quiet.Milliseconds()})
	if st.send(w, hello, &written) {
		st.relay(ctx, w, &written)
	}
	if st.slow.Load() {
		st.abort() // again: a write that succeeded late may have lifted the deadline
	} else { // leave time for the last chunk
		_ = st.conn.SetWriteDeadline(time.Now().Add(frameTimeout))
	}
	return written
}

// relay sends what the hub publishes until the stream ends.
func (st *Stream) relay(ctx context.Context, w http.ResponseWriter, written *int) {
	keepAlive := time.NewTicker(keepAliveEvery)
	defer keepAlive.Stop()
	for {
		var frame []byte
		select {
		case <-st.done:
			return
		case <-ctx.Done():
			return
		case frame = <-st.frames:
		case <-keepAlive.C:
			if st.authorize(ctx) != nil { // nothing is committed when a credential expires
				return
			}
			frame = []byte(":\n\n")
		}
		if st.ended() || !st.send(w, frame, written) {
			return
		}
	}
}

// send writes a frame, and reports whether it was written in time. Its deadline
// replaces the server's, which is for a whole answer, and is lifted afterwards:
// HTTP/2 would otherwise end an idle stream when it passes.
func (st *Stream) send(w http.ResponseWriter, frame []byte, written *int) bool {
	if err := st.conn.SetWriteDeadline(time.Now().Add(frameTimeout)); err != nil {
		return false
	}
	n, err := w.Write(frame)
	*written += n
	if err != nil || st.conn.Flush() != nil {
		return false
	}
	return st.conn.SetWriteDeadline(time.Time{}) == nil
}

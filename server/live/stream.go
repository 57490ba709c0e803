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
	framesAhead    = 16               // that a stream may be behind
	keepAliveEvery = 15 * time.Second // a comment for the proxies, and a look at the credential
	frameTimeout   = 10 * time.Second // for the reader to take a frame
)

// Stream is a reader of events: its handler's end and the hub's.
type Stream struct {
	conn   *http.ResponseController
	prove  func(context.Context) error // whether its credential still holds
	frames chan []byte
	gone   chan struct{} // closed when it has ended
	once   sync.Once
	slow   atomic.Bool
}

// abort unblocks a write that the reader does not take.
func (st *Stream) abort() {
	_ = st.conn.SetWriteDeadline(time.Now().Add(-time.Second)) // fails on a connection that is gone
}

// end asks the handler to close the stream.
func (st *Stream) end() { st.once.Do(func() { close(st.gone) }) }

// cut ends the stream of a reader who is too slow, in the middle of what it is being sent.
func (st *Stream) cut() {
	st.slow.Store(true)
	st.end()
	st.abort()
}

func (st *Stream) ended() bool {
	select {
	case <-st.gone:
		return true
	default:
		return false
	}
}

// Serve sends what the hub gives until the stream ends, after a first event that
// says when it began. It returns how many bytes were written.
func (st *Stream) Serve(ctx context.Context, w http.ResponseWriter, began time.Time) (written int) {
	_ = st.conn.SetReadDeadline(time.Time{}) // the server's is for requests; a stream reads nothing
	var hello frames
	hello.add("hello", struct {
		At wire.Time `json:"at"`
	}{wire.Time(began)})
	if st.send(w, hello, &written) {
		st.pass(ctx, w, &written)
	}
	if st.slow.Load() {
		st.abort() // again: a frame that was taken at last may have lifted the deadline
	} else { // time to say that this is the end
		_ = st.conn.SetWriteDeadline(time.Now().Add(frameTimeout))
	}
	return written
}

// pass sends what the hub gives until the stream ends.
func (st *Stream) pass(ctx context.Context, w http.ResponseWriter, written *int) {
	keepAlive := time.NewTicker(keepAliveEvery)
	defer keepAlive.Stop()
	for {
		var frame []byte
		select {
		case <-st.gone:
			return
		case <-ctx.Done():
			return
		case frame = <-st.frames:
		case <-keepAlive.C:
			if st.prove(ctx) != nil { // expired, above all: nothing is written when that happens
				return
			}
			frame = []byte(":\n\n")
		}
		if st.ended() || !st.send(w, frame, written) {
			return
		}
	}
}

// send writes a frame, and reports whether the reader took it in time. The
// deadline replaces that which the server set for a whole answer. It is lifted
// after: HTTP/2 would end a stream at it in which nothing waits to be written.
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

package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"time"
)

// Endpoint is an address of its own beside the API's, for operators.
type Endpoint struct {
	Listener net.Listener
	Handler  http.Handler
}

// DebugHandler serves Go's profiles. It shows the inside of the process, so it
// belongs on a loopback address only.
func DebugHandler() http.Handler {
	// Not the default mux, on which any imported package could show more.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

// serveEndpoints answers on them until the function returned is called: after
// the API's last answer, so that its end can be watched.
func (s *Server) serveEndpoints(ctx context.Context, endpoints []Endpoint) (stop func()) {
	var servers []*http.Server
	for _, e := range endpoints {
		// No write timeout: a profile takes as long as was asked for.
		hs := &http.Server{
			Handler: e.Handler, ReadHeaderTimeout: s.Timeouts.Header, ReadTimeout: s.Timeouts.Read,
			IdleTimeout:    s.Timeouts.Idle,
			MaxHeaderBytes: 64 << 10, ErrorLog: slog.NewLogLogger(s.Log.Handler(), slog.LevelDebug),
		}
		servers = append(servers, hs)
		go func() {
			if err := hs.Serve(e.Listener); !errors.Is(err, http.ErrServerClosed) {
				s.Log.Error("an endpoint for operators ended", "addr", e.Listener.Addr().String(),
					"error", err.Error())
			}
		}()
	}
	return func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		for _, hs := range servers {
			if hs.Shutdown(grace) != nil {
				_ = hs.Close() // a scrape or a profile that does not end is cut off
			}
		}
	}
}

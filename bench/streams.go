//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/pikarc/server/bench/load"
)

// streamReaders is the set of clients that read event streams during a load.
type streamReaders struct {
	open    []*http.Response
	readers sync.WaitGroup
	events  atomic.Int64 // received, including the hello of each stream
}

// withStreams measures decisions while that many streams are open and read, spread over all
// workspaces. It fails if the streams receive too few events.
func withStreams(
	streams int, scripts scripts,
) func(context.Context, *suite, string, int) (sample, error) {
	return func(ctx context.Context, f *suite, dir string, conns int) (sample, error) {
		// The streams are opened before the load begins, by the function that makes its scripts.
		var a streamReaders
		s, err := decisions(func(ctx context.Context, f *suite, host string,
			conns int) ([]load.Script, int64, error) {
			for i := range streams {
				if err := a.add(ctx, host, f.accounts[i%len(f.accounts)].Key); err != nil {
					return nil, 0, err
				}
			}
			return scripts(ctx, f, host, conns)
		})(ctx, f, dir, conns)
		a.readers.Wait() // the server has ended, and so have its streams
		for _, resp := range a.open {
			err = errors.Join(err, resp.Body.Close())
		}
		// Each stream gets a hello, and at least one event a second.
		if want := int64(float64(streams) * (1 + s.Seconds)); err == nil && a.events.Load() < want {
			err = fmt.Errorf("%d streams received %d events, want %d at least", streams,
				a.events.Load(), want)
		}
		return s, err
	}
}

// add opens a stream and reads it to its end.
func (a *streamReaders) add(ctx context.Context, host, key string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/v1/events", nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	a.open = append(a.open, resp)
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("a stream was answered %s", resp.Status)
	}
	a.readers.Go(func() {
		const large = 1 << 20 // a line can hold fifty runs
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(make([]byte, 4096), large)
		for lines.Scan() {
			if bytes.HasPrefix(lines.Bytes(), []byte("event: ")) {
				a.events.Add(1)
			}
		}
	})
	return nil
}

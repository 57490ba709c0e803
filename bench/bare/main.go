// Command bare is the yardstick: an httprouter that answers a GET with JSON of the size of a
// decision. It does only what every server on net/http must do.
//
// With a file's name it first writes as much to that file as a decision writes to the WAL, and
// syncs it: what every server must do whose answer is on disk when it is sent.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/julienschmidt/httprouter"
)

// answer is as long as a decision.
const answer = `{"id":"01936f2e-8a3b-7c4d-9e5f-0123456789ab","status":"RUNNING",` +
	`"decision":{"outcome":"ALLOW","reason":null},"review_id":null}`

const (
	written  = 2 * (24 + 4096) // bytes: two frames of the WAL
	fileSize = 8 << 20         // bytes; overwritten from the start again, as the WAL is
)

// main serves until it is killed.
func main() {
	if err := serve(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// serve answers every request with the same text, before which it may write and sync.
func serve(args []string) error {
	before := func() error { return nil }
	if len(args) > 0 {
		f, err := newFile(args[0])
		if err != nil {
			return err
		}
		before = f.writeAndSync
	}
	router := httprouter.New()
	body, length := []byte(answer), strconv.Itoa(len(answer))
	router.GET("/v1/runs/:run_id/steps", func(w http.ResponseWriter, _ *http.Request,
		_ httprouter.Params) {
		if err := before(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", length)
		_, _ = w.Write(body) // the caller may be gone; there is nobody to tell
	})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("serves http://%s\n", ln.Addr())
	return http.Serve(ln, router)
}

// file is for one connection: it is written by one caller at a time.
type file struct {
	*os.File
	data []byte
	at   int64
}

// newFile makes a file that already has its full size, so that a sync writes only data.
func newFile(name string) (*file, error) {
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, fileSize)); err != nil {
		return nil, err
	}
	return &file{File: f, data: make([]byte, written)}, f.Sync()
}

// writeAndSync writes two pages in a circle, as a small commit does, and syncs them.
func (f *file) writeAndSync() error {
	if f.at+written > fileSize {
		f.at = 0
	}
	if _, err := f.WriteAt(f.data, f.at); err != nil {
		return err
	}
	f.at += written
	return f.Sync()
}

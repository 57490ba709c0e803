// Package agent holds what the connections of a load send: the calls of agents
// to Pikarc Server, and those of the contenders that it is compared with.
package agent

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/pikarc/server/bench/load"
)

// The kinds of request, as load.Result counts them. Start and Step are
// decisions.
const (
	Read = iota
	Start
	Step
	Patch
	End
	Record // of PocketBase
	List   // the first of several, see Cycle
)

// Server is where requests go and with which key.
type Server struct {
	Host string // host:port
	Key  string // API key; no credential is sent when empty
}

// head is a request up to its Content-Length's value: method, path, headers.
func (s Server) head(method, path string) string {
	authorization := ""
	if s.Key != "" {
		authorization = "Authorization: Bearer " + s.Key + "\r\n"
	}
	return method + " " + path + " HTTP/1.1\r\nHost: " + s.Host + "\r\n" + authorization
}

// jsonHead ends the head of a request with a body; its length follows.
const jsonHead = "Content-Type: application/json\r\nContent-Length: "

// jsonHead is the head of a request with a JSON body.
func (s Server) jsonHead(method, path string) string { return s.head(method, path) + jsonHead }

// appendBody ends a head with a body.
func appendBody(buf, body []byte) []byte {
	buf = strconv.AppendInt(buf, int64(len(body)), 10)
	buf = append(buf, "\r\n\r\n"...)
	return append(buf, body...)
}

// unexpected is an answer that no part of a load may get.
func unexpected(status int, body []byte) error {
	return fmt.Errorf("unexpected answer %d %s", status, body)
}

// cycle repeats some GETs.
type cycle struct {
	requests []string
	kind     int // of the first
	next     int
}

// Get repeats a GET of a path, counted as a kind, and expects 200.
func Get(s Server, path string, kind int) load.Script { return Cycle(s, []string{path}, kind) }

// Cycle repeats a GET of each path in turn, counted as consecutive kinds, and
// expects 200.
func Cycle(s Server, paths []string, first int) load.Script {
	c := &cycle{kind: first}
	for _, path := range paths {
		c.requests = append(c.requests, s.head("GET", path)+"\r\n")
	}
	return c
}

// Next appends the next request in turn.
func (c *cycle) Next(buf []byte) ([]byte, int) {
	at := c.next
	c.next = (at + 1) % len(c.requests)
	return append(buf, c.requests[at]...), c.kind + at
}

// Answer expects 200.
func (c *cycle) Answer(status int, body []byte) error {
	if status != http.StatusOK {
		return unexpected(status, body)
	}
	return nil
}

// records creates records in PocketBase.
type records struct {
	head     string
	run      string
	sequence int64
	body     []byte
}

// Records creates records like steps, of one run, in PocketBase.
func Records(s Server, run string) load.Script {
	return &records{head: s.jsonHead("POST", "/api/collections/steps/records"), run: run}
}

// Next appends a request that creates a record with the fields of a step.
func (r *records) Next(buf []byte) ([]byte, int) {
	r.sequence++
	r.body = append(r.body[:0], `{"run":"`...)
	r.body = append(r.body, r.run...)
	r.body = append(r.body,
		`","type":"MODEL_CALL","status":"RUNNING","model":"`+Model+`","sequence":`...)
	r.body = strconv.AppendInt(r.body, r.sequence, 10)
	r.body = append(r.body, '}')
	return appendBody(append(buf, r.head...), r.body), Record
}

// Answer expects 200.
func (r *records) Answer(status int, body []byte) error {
	if status != http.StatusOK {
		return unexpected(status, body)
	}
	return nil
}

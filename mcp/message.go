package mcp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// message is what a gateway must know of a JSON-RPC message.
type message struct {
	id     string // canonical; "" for none
	rawID  json.RawMessage
	method string // "" for a response
	params json.RawMessage
	result json.RawMessage
	failed json.RawMessage // the error of a response
	batch  []message
}

// guarded are the methods that are asked for, with the parameter that names the thing.
func guarded() map[string]string {
	return map[string]string{"tools/call": "name", "resources/read": "uri", "prompts/get": "name"}
}

// parse reads a message as every server reads it, or not at all: what two readers
// could understand differently (a name twice, or in capitals) is an error, because
// a server might find a call in it that nobody asked for.
func parse(body []byte) (message, error) {
	if !json.Valid(body) {
		return message{}, errors.New("it is no JSON")
	}
	// A batch, which the protocol had in one of its versions.
	if bytes.TrimLeft(body, " \t\r\n")[0] == '[' {
		var parts []json.RawMessage
		if err := json.Unmarshal(body, &parts); err != nil {
			return message{}, err
		}
		var m message
		for _, part := range parts {
			one, err := parse(part)
			if err != nil {
				return message{}, err
			}
			m.batch = append(m.batch, one)
		}
		return m, nil
	}
	members, err := membersOf(body, "jsonrpc", "id", "method", "params", "result", "error")
	if err != nil {
		return message{}, err
	}
	m := message{
		rawID:  members["id"],
		params: members["params"],
		result: members["result"],
		failed: members["error"],
	}
	// 1 and 1.0 are one id to a server, and "1" is another.
	if m.id, err = canonical(m.rawID); err != nil {
		return message{}, err
	}
	if raw, is := members["method"]; is {
		if err := json.Unmarshal(raw, &m.method); err != nil || m.method == "" {
			return message{}, errors.New("the method is no text")
		}
	}
	return m, nil
}

// parseLine reads a message that is a line. Some servers take a carriage return for
// the end of a line too, and would find another message after it.
func parseLine(line []byte) (message, error) {
	body := bytes.TrimSuffix(bytes.TrimSuffix(line, []byte("\n")), []byte("\r"))
	if bytes.ContainsRune(body, '\r') {
		return message{}, errors.New("there is a line break within it")
	}
	return parse(body)
}

// membersOf reads an object's members of these names.
func membersOf(raw []byte, names ...string) (map[string]json.RawMessage, error) {
	// Decoding into a struct would take names in any capitals, and the last of two.
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("no JSON object")
	}
	members := make(map[string]json.RawMessage, len(names))
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := fmt.Sprint(t)
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, err
		}
		// Other members are the server's business, and pass as they are.
		i := slices.IndexFunc(
			names,
			func(known string) bool { return strings.EqualFold(known, name) },
		)
		if i < 0 {
			continue
		}
		if _, twice := members[name]; twice || names[i] != name {
			return nil, fmt.Errorf("%q is there twice, or is not written so", names[i])
		}
		members[name] = value
	}
	return members, nil
}

// canonical makes equal ids equal texts, however a number is written.
func canonical(raw json.RawMessage) (string, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return "", nil
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return "", err
	}
	switch v := v.(type) {
	case string:
		return "s" + v, nil
	// encoding/json reads numbers so, and they lose digits above 2^53.
	case float64:
		if _, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			return "n" + string(raw), nil // exact, where a float64 is not
		}
		return "n" + strconv.FormatFloat(v, 'f', -1, 64), nil
	default:
		return "", errors.New("the id is no text and no number")
	}
}

// isGuarded reports whether anything in the message must be asked for.
func (m message) isGuarded() bool {
	if slices.ContainsFunc(m.batch, message.isGuarded) {
		return true
	}
	_, is := guarded()[m.method]
	return is
}

// isResponse reports whether the message answers a request.
func (m message) isResponse() bool { return m.id != "" && m.method == "" }

// outcome says how a call ended that this message answers.
func (m message) outcome() (failed bool, why string) {
	if m.failed != nil {
		var e struct{ Message string }
		_ = json.Unmarshal(m.failed, &e) // a description, of whatever form
		return true, e.Message
	}
	var result struct {
		IsError bool `json:"isError"`
	}
	if json.Unmarshal(m.result, &result) == nil && result.IsError {
		return true, "the tool answers with an error"
	}
	return false, ""
}

// asked says what a guarded request is asked for as: a tool's own name, or the
// method with the thing as its input.
func (m message) asked() (tool string, input json.RawMessage, err error) {
	key := guarded()[m.method]
	members, err := membersOf(m.params, key, "arguments")
	if err != nil {
		return "", nil, fmt.Errorf("the params: %w", err)
	}
	var name string
	if err := json.Unmarshal(members[key], &name); err != nil || name == "" {
		return "", nil, fmt.Errorf("the params have no %s", key)
	}
	if m.method == "tools/call" {
		return name, members["arguments"], nil
	}
	// A resource or a prompt has no name that policies would match, so its method is the
	// tool.
	return m.method, m.params, nil
}

// cancels is the id of the request that a notification cancels; "" for none.
func (m message) cancels() string {
	if m.method != "notifications/cancelled" {
		return ""
	}
	var params struct {
		RequestID json.RawMessage `json:"requestId"`
	}
	if json.Unmarshal(m.params, &params) != nil {
		return ""
	}
	// An id of another form cancels nothing here; the notification passes on all the same.
	id, err := canonical(params.RequestID)
	if err != nil {
		return ""
	}
	return id
}

// The codes of JSON-RPC errors. The last is of those that servers may choose.
const (
	// JSON-RPC's own codes, and one of ours for a denial.
	codeParse   = -32700
	codeInvalid = -32600
	codeDenied  = -32003
)

// errorAnswer is the answer of a request that goes no further.
func errorAnswer(id json.RawMessage, code int, text, reason string) []byte {
	if len(id) == 0 {
		id = json.RawMessage("null")
	}
	failure := map[string]any{"code": code, "message": text}
	if reason != "" {
		failure["data"] = map[string]string{"reason": reason}
	}
	return encode(map[string]any{"jsonrpc": "2.0", "id": id, "error": failure})
}

// refusal tells the model why what it asked for was not done: a tool's result that
// is an error, which clients show to their model, or a protocol's error where there
// is no such form.
func (m message) refusal(text, reason string) []byte {
	var params struct {
		Task json.RawMessage
		Meta map[string]json.RawMessage `json:"_meta"`
	}
	_ = json.Unmarshal(m.params, &params)
	if m.method != "tools/call" || params.Task != nil { // a task's result has another form
		return errorAnswer(m.rawID, codeDenied, text, reason)
	}
	result := map[string]any{
		"content": []map[string]string{{"type": "text", "text": text}},
		"isError": true,
	}
	// Since 2026-07-28 results name their kind.
	if params.Meta["io.modelcontextprotocol/protocolVersion"] != nil {
		result["resultType"] = "complete"
	}
	return encode(map[string]any{"jsonrpc": "2.0", "id": m.rawID, "result": result})
}

// encode encodes a message of the gateway's own.
func encode(v any) []byte {
	content, err := json.Marshal(v)
	if err != nil { // texts, numbers and JSON that was read before
		panic(err)
	}
	return content
}

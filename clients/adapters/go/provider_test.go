package adapters_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// What the provider counts of each call: 7 in, 3 of them cached; 5 out, 2 of them reasoning.
const (
	chatUsage      = `{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":2}}`
	responsesUsage = `{"input_tokens":7,"output_tokens":5,"total_tokens":12,"input_tokens_details":{"cached_tokens":3},"output_tokens_details":{"reasoning_tokens":2}}`
	messagesUsage  = `{"input_tokens":4,"output_tokens":5,"cache_read_input_tokens":3,"cache_creation_input_tokens":0,"output_tokens_details":{"thinking_tokens":2}}`

	item    = `{"id":"m","type":"message","role":"assistant","status":"completed","content":[{"type":"output_text","text":"so","annotations":[]}]}`
	message = `{"id":"m","type":"message","role":"assistant","model":"served-model","content":[%s],"stop_reason":null,"stop_sequence":null,"usage":%s}`
)

func chunk(choices, more string) string {
	return `data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"served-model","choices":[` + choices + `]` + more + "}\n\n"
}

func event(data string) string {
	var named struct{ Type string }
	if err := json.Unmarshal([]byte(data), &named); err != nil {
		panic(data)
	}
	return "event: " + named.Type + "\ndata: " + data + "\n\n"
}

// provider is a stand-in for OpenAI and Anthropic on this machine.
type provider struct {
	*httptest.Server
	mu    sync.Mutex
	asked []map[string]any
	fails int // how many of the next requests are answered with 500
}

func newProvider(t *testing.T) *provider {
	p := &provider{}
	p.Server = httptest.NewServer(p)
	t.Cleanup(p.Close)
	return p
}

func (p *provider) requests() []map[string]any {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asked
}

func (p *provider) note(r *http.Request) (body map[string]any, fails bool) {
	_ = json.NewDecoder(r.Body).Decode(&body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = append(p.asked, body)
	fails = p.fails > 0
	p.fails--
	return body, fails
}

func (p *provider) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, fails := p.note(r)
	if fails {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusInternalServerError)
		return
	}
	if body["stream"] != true {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, answers[r.URL.Path])
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	parts := streams(r.URL.Path, body["stream_options"] != nil)
	if body["model"] == "breaks" {
		parts = parts[:1]
	}
	for _, part := range parts {
		fmt.Fprint(w, part)
		w.(http.Flusher).Flush()
	}
	if body["model"] == "breaks" {
		panic(http.ErrAbortHandler)
	}
}

var answers = map[string]string{
	"/chat/completions":         `{"id":"c","object":"chat.completion","created":1,"model":"served-model","usage":` + chatUsage + `,"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"so"}}]}`,
	"/responses":                `{"id":"r","object":"response","created_at":1,"model":"served-model","status":"completed","output":[` + item + `],"usage":` + responsesUsage + `}`,
	"/v1/messages":              fmt.Sprintf(message, `{"type":"text","text":"so"}`, messagesUsage),
	"/embeddings":               `{"object":"list","model":"served-model","data":[{"object":"embedding","index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":7,"total_tokens":7}}`,
	"/audio/transcriptions":     `{"text":"so","usage":{"type":"tokens","input_tokens":7,"output_tokens":5,"total_tokens":12}}`,
	"/v1/messages/count_tokens": `{"input_tokens":7}`,
	"/models":                   `{"object":"list","data":[]}`,
}

func streams(path string, usage bool) []string {
	switch path {
	case "/chat/completions":
		parts := []string{chunk(`{"index":0,"finish_reason":null,"delta":{"role":"assistant","content":"so"}}`, ""), chunk(`{"index":0,"finish_reason":"stop","delta":{}}`, "")}
		if usage {
			parts = append(parts, chunk("", `,"usage":`+chatUsage))
		}
		return append(parts, "data: [DONE]\n\n")
	case "/responses":
		return []string{
			event(`{"type":"response.created","sequence_number":0,"response":{"id":"r","model":"served-model","status":"in_progress","output":[]}}`),
			event(`{"type":"response.output_text.delta","sequence_number":1,"item_id":"m","output_index":0,"content_index":0,"delta":"so"}`),
			event(`{"type":"response.completed","sequence_number":2,"response":` + answers["/responses"] + `}`),
		}
	}
	started := fmt.Sprintf(message, "", strings.Replace(messagesUsage, `"output_tokens":5`, `"output_tokens":1`, 1))
	return []string{
		event(`{"type":"message_start","message":` + started + `}`),
		event(`{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`),
		event(`{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"so"}}`),
		event(`{"type":"content_block_stop","index":0}`),
		event(`{"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":5,"output_tokens_details":{"thinking_tokens":2}}}`),
		event(`{"type":"message_stop"}`),
	}
}

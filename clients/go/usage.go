package pikarc

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"strconv"
)

// Usage is implemented by results that say themselves what a call used.
type Usage interface {
	// Tokens returns all input and all output, cached and reasoning tokens included.
	Tokens() (prompt, completion int64)
}

// meter is what a call has used so far, by its answer or by a stream's chunks.
type meter struct {
	off    bool // a tool's call uses nothing
	chunks int64
	usage  map[string]any
	model  string
	said   *[2]int64 // by [Usage]
}

// see looks for usage. It fails nothing: the call has been paid.
func (m *meter) see(part any) {
	if m.off {
		return
	}
	m.chunks++
	if u, ok := part.(Usage); ok && safely(func() {
		prompt, completion := u.Tokens()
		m.said = &[2]int64{max(0, prompt), max(0, completion)}
	}) {
		return
	}
	var answer map[string]any
	safely(func() { answer = membersOf(part) })
	for _, place := range []any{answer, answer["message"], answer["response"]} {
		place, _ := place.(map[string]any)
		if model, ok := place["model"].(string); ok && model != "" {
			m.model = model
			break
		}
	}
	found := find(answer, 0)
	if m.usage == nil && len(found) > 0 {
		m.usage = make(map[string]any, len(found))
	}
	// Anthropic says the input at the start and the output at the end: later members win.
	for name, value := range found {
		if value != nil {
			m.usage[name] = value
		}
	}
}

// safely calls what may panic in a method of a call's result, and reports whether it did not.
func safely(read func()) (ok bool) {
	defer func() {
		if problem := recover(); problem != nil {
			slog.Warn("pikarc: the usage of a call could not be read", "err", fmt.Sprint(problem))
		}
	}()
	read()
	return true
}

// membersOf reads the members of an answer: as the provider sent it, where its
// library has kept that, since a struct has zeros for what was not there.
func membersOf(part any) (answer map[string]any) {
	var content []byte
	if raw, ok := part.(interface{ RawJSON() string }); ok && raw.RawJSON() != "" {
		content = []byte(raw.RawJSON())
	} else {
		var err error
		if content, err = json.Marshal(part); err != nil {
			return nil
		}
	}
	_ = json.Unmarshal(content, &answer) // what is no object has no usage
	return answer
}

// report fills in what a call used. Of one that was broken off the chunks are
// counted, a token each at least.
func (m *meter) report(r *updateStepRequest, whole bool) {
	switch {
	case m.said != nil:
		r.PromptTokens, r.CompletionTokens = m.said[0], m.said[1]
		return
	case m.usage == nil:
		// A stream that was given up told no usage. Its chunks are about as many as its tokens.
		if !whole && m.chunks > 0 {
			r.CompletionTokens = m.chunks
		}
		return
	}
	r.Usage = m.usage
	if prompt, ok := promptOf(m.usage); ok {
		r.PromptTokens = prompt
	}
	if completion, ok := completionOf(m.usage); ok {
		r.CompletionTokens = completion
	}
	if m.model != "" {
		r.Model = m.model
	}
}

// find returns the usage object of an answer, whose members Go's libraries may have named their own
// way.
func find(answer map[string]any, depth int) map[string]any {
	if depth > 2 || answer == nil {
		return nil
	}
	for _, name := range []string{
		"prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "inputTokens", "outputTokens",
		"InputTokens", "OutputTokens", "promptTokenCount", "candidatesTokenCount",
	} {
		if answer[name] != nil {
			return answer
		}
	}
	for _, name := range []string{"usage", "usageMetadata", "Usage", "response", "message", "metadata"} {
		inner, _ := answer[name].(map[string]any)
		if found := find(inner, depth+1); found != nil {
			return found
		}
	}
	return nil
}

// promptOf finds the prompt's tokens. Some providers count cached tokens in it, and some beside it.
func promptOf(u map[string]any) (int64, bool) {
	if n, ok := first(u, "prompt_tokens"); ok {
		return n, true
	}
	if n, ok := first(u, "input_tokens"); ok {
		if _, included := u["input_tokens_details"].(map[string]any); included {
			return n, true
		}
		return n + sum(u, "cache_read_input_tokens", "cache_creation_input_tokens"), true
	}
	if n, ok := first(u, "inputTokens", "InputTokens"); ok {
		return n + sum(u, "cacheReadInputTokens", "cacheWriteInputTokens", "CacheReadInputTokens", "CacheWriteInputTokens"), true
	}
	n, ok := first(u, "promptTokenCount")
	return n + sum(u, "toolUsePromptTokenCount"), ok
}

// completionOf finds the completion's tokens, with those of reasoning.
func completionOf(u map[string]any) (int64, bool) {
	if n, ok := first(u, "completion_tokens", "output_tokens", "outputTokens", "OutputTokens"); ok {
		return n, true
	}
	_, ok := first(u, "candidatesTokenCount", "thoughtsTokenCount")
	return sum(u, "candidatesTokenCount", "thoughtsTokenCount"), ok
}

// first returns the first of some members that is a count, as a number or in a text. A fraction is
// rounded up.
func first(u map[string]any, names ...string) (int64, bool) {
	for _, name := range names {
		switch value := u[name].(type) {
		case float64:
			if value >= 0 && value <= math.MaxInt64/2 {
				return int64(math.Ceil(value)), true
			}
		case string:
			if n, err := strconv.ParseInt(value, 10, 64); err == nil && n >= 0 {
				return n, true
			}
		}
	}
	return 0, false
}

// sum adds up the members that there are.
func sum(u map[string]any, names ...string) (total int64) {
	for _, name := range names {
		n, _ := first(u, name)
		total += n
	}
	return total
}

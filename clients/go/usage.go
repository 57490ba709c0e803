package pikarc

import (
	"encoding/json"
	"math"
	"strconv"
)

// Usage is implemented by results that say themselves what a call used.
type Usage interface {
	// Tokens returns all input and all output, cached and reasoning tokens included.
	Tokens() (prompt, completion int64)
}

// usageOf returns the fields of a report that say what a call used, found by the
// shape of a provider's answer. It fails nothing: the call has been paid.
func usageOf(result any) map[string]any {
	if u, ok := result.(Usage); ok {
		prompt, completion := u.Tokens()
		return map[string]any{"prompt_tokens": max(0, prompt), "completion_tokens": max(0, completion)}
	}
	content, err := json.Marshal(result)
	if err != nil {
		return nil
	}
	var answer map[string]any
	if json.Unmarshal(content, &answer) != nil {
		return nil
	}
	usage := find(answer, 0)
	if usage == nil {
		return nil
	}
	fields := map[string]any{"usage": usage}
	if prompt, ok := promptOf(usage); ok {
		fields["prompt_tokens"] = prompt
	}
	if completion, ok := completionOf(usage); ok {
		fields["completion_tokens"] = completion
	}
	if model, ok := answer["model"].(string); ok && model != "" {
		fields["model"] = model
	}
	return fields
}

// find returns the usage object of an answer, whose members Go's libraries may have named their own way.
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

func completionOf(u map[string]any) (int64, bool) {
	if n, ok := first(u, "completion_tokens", "output_tokens", "outputTokens", "OutputTokens"); ok {
		return n, true
	}
	_, ok := first(u, "candidatesTokenCount", "thoughtsTokenCount")
	return sum(u, "candidatesTokenCount", "thoughtsTokenCount"), ok
}

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

func sum(u map[string]any, names ...string) (total int64) {
	for _, name := range names {
		n, _ := first(u, name)
		total += n
	}
	return total
}

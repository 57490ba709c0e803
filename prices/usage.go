package prices

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/pikarc/server/plans"
)

// Usage is what a provider reported of one call, in the server's own terms.
type Usage struct {
	Tokens
	HasPrompt, HasCompletion bool // whether the whole was reported, if only as 0
	ServiceTier              string
	ReportedCost             *plans.Money // what the provider says that it cost

	// Unread names the members that could not be read or believed, in order.
	Unread []string
}

// ReadUsage reads a provider's own usage object, whose form it tells by its keys:
// OpenAI chat completions (and Mistral, DeepSeek, Groq and others that speak it),
// OpenAI responses, Anthropic messages, Gemini, Bedrock Converse, and Cohere.
// Prompt becomes all input with what was read from and written to caches, and
// completion all output with reasoning. What cannot be read is left out and
// named; false means that nothing could be.
func ReadUsage(raw []byte) (u Usage, ok bool) {
	o, ok := readObject(raw)
	if !ok {
		return u, false
	}
	r := &reader{usage: &u}
	switch {
	case o.has("promptTokenCount", "candidatesTokenCount", "responseTokenCount"),
		o.has("prompt_token_count", "candidates_token_count", "response_token_count"):
		r.gemini(o)
	case o.has("inputTokens", "outputTokens"):
		r.converse(o)
	case o.has("billed_units", "tokens"):
		r.cohere(o)
	case o.has("prompt_tokens", "completion_tokens"):
		r.chat(o)
	case o.has("input_tokens", "output_tokens"):
		r.messages(o)
	default:
		return u, false
	}
	// What all forms share comes last.
	r.serviceTier(o)
	r.cost(o)
	u.clip()
	slices.Sort(u.Unread)
	u.Unread = slices.Compact(u.Unread)
	return u, u.HasPrompt || u.HasCompletion
}

// chat reads the form of OpenAI's chat completions. LiteLLM writes Anthropic's
// members beside it; prompt_tokens includes them there.
func (r *reader) chat(o object) {
	u := r.usage
	u.Prompt, u.HasPrompt = r.count(o, "prompt_tokens")
	u.Completion, u.HasCompletion = r.count(o, "completion_tokens")
	prompt, completion := r.object(o, "prompt_tokens_details"), r.object(o, "completion_tokens_details")
	u.Cached = r.first(
		at{prompt, "cached_tokens"}, at{o, "prompt_cache_hit_tokens"}, at{o, "cache_read_input_tokens"}, at{o, "cached_tokens"})
	u.CacheWrite = r.first(
		at{prompt, "cache_write_tokens"}, at{prompt, "cache_creation_tokens"}, at{o, "cache_creation_input_tokens"})
	r.hour(o)
	u.Reasoning = r.first(at{completion, "reasoning_tokens"}, at{o, "reasoning_tokens"})
	// Some count reasoning beside the completion; only the total tells.
	total, known := r.count(o, "total_tokens")
	if known && u.Reasoning > 0 && total == u.Prompt+u.Completion+u.Reasoning {
		u.Completion += u.Reasoning
	}
}

// messages reads the forms of OpenAI's responses and of Anthropic's messages. The
// input of the first includes cached tokens, that of the second does not.
func (r *reader) messages(o object) {
	u := r.usage
	u.Prompt, u.HasPrompt = r.count(o, "input_tokens")
	u.Completion, u.HasCompletion = r.count(o, "output_tokens")
	input, output := r.object(o, "input_tokens_details"), r.object(o, "output_tokens_details")
	u.Reasoning = r.first(at{output, "reasoning_tokens"}, at{output, "thinking_tokens"})
	if len(input) == 0 && o.has("cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation") {
		u.Cached = r.first(at{o, "cache_read_input_tokens"})
		u.CacheWrite = r.first(at{o, "cache_creation_input_tokens"})
		r.hour(o)
		r.addToPrompt(u.Cached, u.CacheWrite)
		return
	}
	u.Cached = r.first(at{input, "cached_tokens"}, at{input, "cache_read_input_tokens"})
	u.CacheWrite = r.first(at{input, "cache_write_tokens"})
}

// hour reads how much of what was written to a cache is kept for an hour.
func (r *reader) hour(o object) {
	creation := r.object(o, "cache_creation")
	r.usage.CacheWrite1h = r.first(at{creation, "ephemeral_1h_input_tokens"})
	if len(creation) > 0 && !o.has("cache_creation_input_tokens") {
		r.usage.CacheWrite = r.usage.CacheWrite1h + r.first(at{creation, "ephemeral_5m_input_tokens"})
	}
}

// gemini reads the form of Gemini and Vertex AI, in the names of the API or of the
// Python library. Thoughts and the prompts of tools are counted beside the rest.
// The Live API has a response where others have candidates.
func (r *reader) gemini(o object) {
	u := r.usage
	both := func(api, python string) int64 { return r.first(at{o, api}, at{o, python}) }
	u.HasPrompt = o.has("promptTokenCount", "prompt_token_count")
	u.Prompt = both("promptTokenCount", "prompt_token_count")
	r.addToPrompt(both("toolUsePromptTokenCount", "tool_use_prompt_token_count"))
	u.Cached = both("cachedContentTokenCount", "cached_content_token_count")
	u.Reasoning = both("thoughtsTokenCount", "thoughts_token_count")
	u.HasCompletion = u.Reasoning > 0 ||
		o.has("candidatesTokenCount", "candidates_token_count", "responseTokenCount", "response_token_count")
	u.Completion = u.Reasoning + r.first(
		at{o, "candidatesTokenCount"}, at{o, "candidates_token_count"},
		at{o, "responseTokenCount"}, at{o, "response_token_count"})
}

// converse reads the form of Bedrock's Converse, whose input excludes what was
// read from and written to caches.
func (r *reader) converse(o object) {
	u := r.usage
	u.Prompt, u.HasPrompt = r.count(o, "inputTokens")
	u.Completion, u.HasCompletion = r.count(o, "outputTokens")
	u.Cached = r.first(at{o, "cacheReadInputTokens"}, at{o, "cacheReadInputTokenCount"})
	u.CacheWrite = r.first(at{o, "cacheWriteInputTokens"}, at{o, "cacheWriteInputTokenCount"})
	for _, detail := range r.objects(o, "cacheDetails") {
		if detail["ttl"] == "1h" {
			u.CacheWrite1h += r.first(at{detail, "inputTokens"})
		}
	}
	r.addToPrompt(u.Cached, u.CacheWrite)
}

// cohere reads the form of Cohere, which charges the billed units.
func (r *reader) cohere(o object) {
	u := r.usage
	units := r.object(o, "billed_units")
	if !units.has("input_tokens", "output_tokens") {
		units = r.object(o, "tokens")
	}
	u.Prompt, u.HasPrompt = r.count(units, "input_tokens")
	u.Completion, u.HasCompletion = r.count(units, "output_tokens")
	if cached := r.first(at{o, "cached_tokens"}); cached <= u.Prompt {
		u.Cached = cached // counted in tokens, of which fewer may be billed
	}
}

// serviceTier reads the tier that the call was served with. One that has no
// name here is named, since it may cost otherwise.
func (r *reader) serviceTier(o object) {
	for _, name := range []string{"service_tier", "serviceTier"} {
		text, isText := o[name].(string)
		tier, known := ServiceTier(text)
		switch {
		case o[name] == nil:
		case isText && known:
			r.usage.ServiceTier = tier
		default:
			r.unread(name)
		}
	}
}

// ServiceTier returns a provider's word for a service tier as the API's own
// ("default", "batch", "flex", "priority", "fast"), and whether it is known.
func ServiceTier(text string) (tier string, known bool) {
	switch text = strings.ToLower(strings.TrimSpace(text)); text {
	case "", "auto", "standard", "on_demand", "default":
		return "default", true
	case "batch", "flex", "priority", "fast":
		return text, true
	}
	return "", false
}

// cost reads what the provider says that the call cost, in USD: OpenRouter's cost,
// or the total among Perplexity's.
func (r *reader) cost(o object) {
	value := o["cost"]
	if costs, ok := value.(map[string]any); ok {
		value = costs["total_cost"]
	}
	var text string
	switch value := value.(type) {
	case nil:
		if o["cost"] != nil {
			r.unread("cost")
		}
		return
	case json.Number:
		text = value.String()
	case string:
		text = strings.TrimSpace(value)
	}
	money, err := plans.ParseCost(text)
	if err != nil {
		r.unread("cost")
		return
	}
	r.usage.ReportedCost = &money
}

// clip cuts sums that are beyond what a step can hold, and parts that are larger
// than their whole.
func (u *Usage) clip() {
	cut := func(part *int64, whole int64, name string) {
		if *part > whole {
			*part = whole
			u.Unread = append(u.Unread, "usage."+name)
		}
	}
	cut(&u.Prompt, plans.MaxTokens, "prompt_tokens")
	cut(&u.Completion, plans.MaxTokens, "completion_tokens")
	cut(&u.Cached, u.Prompt, "cached_tokens")
	cut(&u.CacheWrite, u.Prompt-u.Cached, "cache_write_tokens")
	cut(&u.CacheWrite1h, u.CacheWrite, "cache_write_1h_tokens")
	cut(&u.Reasoning, u.Completion, "reasoning_tokens")
}

// object is a JSON object; numbers in it are json.Number.
type object map[string]any

// readObject decodes an object with numbers as they were written.
func readObject(raw []byte) (object, bool) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var o object
	err := decoder.Decode(&o)
	return o, err == nil && o != nil
}

// has reports whether one of the members is there and is not null.
func (o object) has(names ...string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return o[name] != nil })
}

// at is where a count may stand.
type at struct {
	in   object
	name string
}

// reader reads one usage object.
type reader struct{ usage *Usage }

// unread names a member that could not be read.
func (r *reader) unread(name string) { r.usage.Unread = append(r.usage.Unread, "usage."+name) }

// first returns the first of the counts that is there, or 0.
func (r *reader) first(places ...at) int64 {
	for _, place := range places {
		if n, ok := r.count(place.in, place.name); ok {
			return n
		}
	}
	return 0
}

// count reads a number of tokens, also as a text or a whole float. One that cannot
// be read is named, and is as if it were not there; so is null.
func (r *reader) count(o object, name string) (n int64, ok bool) {
	var err error
	switch value := o[name].(type) {
	case nil:
		return 0, false
	case json.Number:
		n, err = plans.ParseTokens(value.String())
	case string:
		n, err = plans.ParseTokens(strings.TrimSpace(value))
	default:
		err = plans.ErrNotDecimal
	}
	if err != nil {
		r.unread(name)
		return 0, false
	}
	return n, true
}

// object reads a member that is an object. Another kind of value is named.
func (r *reader) object(o object, name string) object {
	switch value := o[name].(type) {
	case nil:
		return nil
	case map[string]any:
		return value
	default:
		r.unread(name)
		return nil
	}
}

// objects reads a member that is a list of objects. Another kind of value is named.
func (r *reader) objects(o object, name string) (all []object) {
	list, ok := o[name].([]any)
	if !ok && o[name] != nil {
		r.unread(name)
	}
	for _, value := range list {
		if member, ok := value.(map[string]any); ok {
			all = append(all, member)
		} else {
			r.unread(name)
		}
	}
	return all
}

// addToPrompt counts parts of the input that the provider counts beside it.
func (r *reader) addToPrompt(parts ...int64) {
	for _, part := range parts {
		r.usage.Prompt += part
		r.usage.HasPrompt = r.usage.HasPrompt || part > 0
	}
}

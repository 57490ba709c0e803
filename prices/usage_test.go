package prices_test

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// The objects are made by hand in the shape that each provider documents; the
// costs are worked out by hand beside them, in micro-USD.
func TestUsageOfEachProvider(t *testing.T) {
	for _, tc := range []struct {
		name, usage string
		want        prices.Tokens
		rates, cost string
	}{
		{"OpenAI chat, plain",
			`{"prompt_tokens":500,"completion_tokens":100,"total_tokens":600}`,
			prices.Tokens{Prompt: 500, Completion: 100},
			"in=2.5 out=10 cached=1.25", "0.00225"}, // 500×2.5 + 100×10 = 2,250
		{"OpenAI chat, cached and reasoning; the last chunk of a stream has the same form",
			`{"prompt_tokens":2006,"completion_tokens":300,"total_tokens":2306,
			  "prompt_tokens_details":{"cached_tokens":1920,"audio_tokens":0},
			  "completion_tokens_details":{"reasoning_tokens":128,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}`,
			prices.Tokens{Prompt: 2006, Cached: 1920, Completion: 300, Reasoning: 128},
			"in=2.5 out=10 cached=1.25", "0.005615"}, // 86×2.5 + 1,920×1.25 + 300×10 = 215 + 2,400 + 3,000
		{"OpenAI chat, written to a cache",
			`{"prompt_tokens":1000,"completion_tokens":10,"prompt_tokens_details":{"cached_tokens":0,"cache_write_tokens":800}}`,
			prices.Tokens{Prompt: 1000, CacheWrite: 800, Completion: 10},
			"in=2 out=8 write=2.5", "0.00248"}, // 200×2 + 800×2.5 + 10×8
		{"OpenAI embeddings", `{"prompt_tokens":8,"total_tokens":8}`,
			prices.Tokens{Prompt: 8}, "in=0.02", "0.00000016"},
		{"OpenAI responses, plain", `{"input_tokens":36,"output_tokens":87,"total_tokens":123}`,
			prices.Tokens{Prompt: 36, Completion: 87}, "in=2 out=8", "0.000768"}, // 72 + 696
		{"OpenAI responses, cached and reasoning",
			`{"input_tokens":328,"input_tokens_details":{"cached_tokens":128},"output_tokens":52,"output_tokens_details":{"reasoning_tokens":20},"total_tokens":380}`,
			prices.Tokens{Prompt: 328, Cached: 128, Completion: 52, Reasoning: 20},
			"in=2 out=8 cached=0.5", "0.00088"}, // 200×2 + 128×0.5 + 52×8 = 400 + 64 + 416
		{"OpenAI responses, response.completed of a stream",
			`{"input_tokens":10,"input_tokens_details":{"cached_tokens":0,"cache_write_tokens":4},"output_tokens":5,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":15}`,
			prices.Tokens{Prompt: 10, CacheWrite: 4, Completion: 5}, "in=1 out=1", "0.000015"},
		{"Anthropic, plain", `{"input_tokens":2095,"output_tokens":503}`,
			prices.Tokens{Prompt: 2095, Completion: 503}, "in=3 out=15", "0.01383"}, // 6,285 + 7,545
		{"Anthropic, cached: its input excludes both",
			`{"input_tokens":50,"cache_creation_input_tokens":248,"cache_read_input_tokens":1800,"output_tokens":503,
			  "cache_creation":{"ephemeral_5m_input_tokens":48,"ephemeral_1h_input_tokens":200},"service_tier":"standard"}`,
			prices.Tokens{Prompt: 2098, Cached: 1800, CacheWrite: 248, CacheWrite1h: 200, Completion: 503},
			"in=3 out=15 cached=0.3 write=3.75 write1h=6", "0.009615"}, // 150 + 540 + 180 + 1,200 + 7,545
		{"Anthropic, tool use of the server",
			`{"input_tokens":105,"cache_read_input_tokens":7123,"cache_creation_input_tokens":7345,"output_tokens":500,"server_tool_use":{"web_search_requests":1}}`,
			prices.Tokens{Prompt: 14573, Cached: 7123, CacheWrite: 7345, Completion: 500},
			"in=3 out=15 cached=0.3 write=3.75", "0.03749565"}, // 315 + 2,136.9 + 27,543.75 + 7,500
		{"Anthropic, message_delta at the end of a stream",
			`{"output_tokens":89,"input_tokens":472,"cache_creation_input_tokens":0,"cache_read_input_tokens":0}`,
			prices.Tokens{Prompt: 472, Completion: 89}, "in=3 out=15", "0.002751"},
		{"Anthropic, written to a cache, without the sum",
			`{"input_tokens":50,"output_tokens":10,"cache_creation":{"ephemeral_5m_input_tokens":100,"ephemeral_1h_input_tokens":40}}`,
			prices.Tokens{Prompt: 190, CacheWrite: 140, CacheWrite1h: 40, Completion: 10},
			"in=3 out=15 write=3.75 write1h=6", "0.000915"}, // 150 + 375 + 240 + 150
		{"Anthropic, nothing cached, as its library prints it",
			`{"input_tokens":12,"output_tokens":3,"cache_creation":null,"cache_creation_input_tokens":null,"cache_read_input_tokens":null,
			  "server_tool_use":null,"service_tier":null}`,
			prices.Tokens{Prompt: 12, Completion: 3}, "in=3 out=15", "0.000081"}, // 36 + 45
		{"Gemini, plain", `{"promptTokenCount":12,"candidatesTokenCount":34,"totalTokenCount":46}`,
			prices.Tokens{Prompt: 12, Completion: 34}, "in=0.3 out=2.5", "0.0000886"}, // 3.6 + 85
		{"Gemini, cached and thoughts",
			`{"promptTokenCount":1000,"cachedContentTokenCount":600,"candidatesTokenCount":100,"thoughtsTokenCount":250,"totalTokenCount":1350,
			  "promptTokensDetails":[{"modality":"TEXT","tokenCount":1000}]}`,
			prices.Tokens{Prompt: 1000, Cached: 600, Completion: 350, Reasoning: 250},
			"in=0.3 out=2.5 cached=0.03", "0.001013"}, // 400×0.3 + 600×0.03 + 350×2.5 = 120 + 18 + 875
		{"Gemini, the prompt of a tool", `{"promptTokenCount":10,"toolUsePromptTokenCount":90,"candidatesTokenCount":1}`,
			prices.Tokens{Prompt: 100, Completion: 1}, "in=1 out=1", "0.000101"},
		{"Gemini, the last chunk without a candidate", `{"promptTokenCount":10,"thoughtsTokenCount":7,"totalTokenCount":17}`,
			prices.Tokens{Prompt: 10, Completion: 7, Reasoning: 7}, "in=1 out=1", "0.000017"},
		{"Gemini, as the Python library names it",
			`{"prompt_token_count":8,"candidates_token_count":2,"thoughts_token_count":3,"cached_content_token_count":null,"total_token_count":13}`,
			prices.Tokens{Prompt: 8, Completion: 5, Reasoning: 3}, "in=1 out=1", "0.000013"},
		{"Gemini, of the Live API", `{"promptTokenCount":25,"responseTokenCount":40,"thoughtsTokenCount":5,"totalTokenCount":70}`,
			prices.Tokens{Prompt: 25, Completion: 45, Reasoning: 5}, "in=0.5 out=2 reasoning=3", "0.0001075"}, // 12.5 + 80 + 15
		{"Gemini, of the Live API, as the Python library names it",
			`{"prompt_token_count":25,"response_token_count":40,"total_token_count":65,"response_tokens_details":[{"modality":"TEXT","token_count":40}]}`,
			prices.Tokens{Prompt: 25, Completion: 40}, "in=0.5 out=2", "0.0000925"}, // 12.5 + 80
		{"Bedrock Converse, plain", `{"inputTokens":30,"outputTokens":628,"totalTokens":658}`,
			prices.Tokens{Prompt: 30, Completion: 628}, "in=3 out=15", "0.00951"}, // 90 + 9,420
		{"Bedrock Converse, cached: its input excludes both",
			`{"inputTokens":15,"outputTokens":20,"totalTokens":2035,"cacheReadInputTokens":1500,"cacheWriteInputTokens":500}`,
			prices.Tokens{Prompt: 2015, Cached: 1500, CacheWrite: 500, Completion: 20},
			"in=3 out=15 cached=0.3 write=3.75", "0.00267"}, // 45 + 450 + 1,875 + 300
		{"Bedrock Converse, cached for an hour; the metadata of a stream has the same form",
			`{"inputTokens":5,"outputTokens":1,"cacheWriteInputTokens":30,"cacheDetails":[{"ttl":"5m","inputTokens":10},{"ttl":"1h","inputTokens":20}]}`,
			prices.Tokens{Prompt: 35, CacheWrite: 30, CacheWrite1h: 20, Completion: 1},
			"in=1 out=1 write=1.25 write1h=2", "0.0000585"}, // 5 + 12.5 + 40 + 1
		{"Mistral, plain", `{"prompt_tokens":16,"completion_tokens":34,"total_tokens":50}`,
			prices.Tokens{Prompt: 16, Completion: 34}, "in=0.4 out=2", "0.0000744"},
		{"Mistral, cached", `{"prompt_tokens":100,"completion_tokens":1,"total_tokens":101,"prompt_tokens_details":{"cached_tokens":64}}`,
			prices.Tokens{Prompt: 100, Cached: 64, Completion: 1}, "in=1 out=1 cached=0.1", "0.0000434"}, // 36 + 6.4 + 1
		{"Mistral, audio beside", `{"prompt_tokens":4,"total_tokens":9,"completion_tokens":5,"prompt_audio_seconds":{}}`,
			prices.Tokens{Prompt: 4, Completion: 5}, "in=1 out=1", "0.000009"},
		{"Cohere, billed units count",
			`{"billed_units":{"input_tokens":5,"output_tokens":418},"tokens":{"input_tokens":71,"output_tokens":418}}`,
			prices.Tokens{Prompt: 5, Completion: 418}, "in=2.5 out=10", "0.0041925"}, // 12.5 + 4,180
		{"Cohere, tokens alone", `{"tokens":{"input_tokens":71,"output_tokens":4},"cached_tokens":64}`,
			prices.Tokens{Prompt: 71, Cached: 64, Completion: 4}, "in=1 out=1", "0.000075"},
		{"Cohere, more cached than billed", `{"billed_units":{"input_tokens":5,"output_tokens":1},"cached_tokens":64}`,
			prices.Tokens{Prompt: 5, Completion: 1}, "in=1 out=1", "0.000006"},
		{"DeepSeek", `{"prompt_tokens":100,"completion_tokens":7,"prompt_cache_hit_tokens":64,"prompt_cache_miss_tokens":36}`,
			prices.Tokens{Prompt: 100, Cached: 64, Completion: 7}, "in=1 out=1 cached=0", "0.000043"},
		{"reasoning beside the completion, as the total tells",
			`{"prompt_tokens":10,"completion_tokens":20,"total_tokens":130,"completion_tokens_details":{"reasoning_tokens":100}}`,
			prices.Tokens{Prompt: 10, Completion: 120, Reasoning: 100}, "in=1 out=1", "0.00013"},
		{"LiteLLM, of Anthropic", `{"prompt_tokens":2098,"completion_tokens":3,"total_tokens":2101,"prompt_tokens_details":{"cached_tokens":1800},
			"cache_creation_input_tokens":248,"cache_read_input_tokens":1800}`,
			prices.Tokens{Prompt: 2098, Cached: 1800, CacheWrite: 248, Completion: 3}, "in=1 out=1", "0.002101"},
		{"texts and whole floats", `{"prompt_tokens":"500","completion_tokens":100.0,"total_tokens":6e2}`,
			prices.Tokens{Prompt: 500, Completion: 100}, "in=1 out=1", "0.0006"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			u, ok := prices.ReadUsage([]byte(tc.usage))
			if !ok || len(u.Unread) > 0 {
				t.Fatalf("read: %v, unread %v", ok, u.Unread)
			}
			if diff := cmp.Diff(tc.want, u.Tokens); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if cost, err := rates(t, tc.rates).Cost(u.Tokens); err != nil || cost.String() != tc.cost {
				t.Errorf("costs %s, %v; want %s", cost, err, tc.cost)
			}
		})
	}
}

func TestUsageThatCannotBeReadIsNamed(t *testing.T) {
	for _, tc := range []struct {
		usage  string
		want   prices.Tokens
		unread []string
	}{
		{`{"prompt_tokens":500.5,"completion_tokens":100}`, prices.Tokens{Completion: 100}, []string{"usage.prompt_tokens"}},
		{`{"prompt_tokens":-1,"completion_tokens":100}`, prices.Tokens{Completion: 100}, []string{"usage.prompt_tokens"}},
		{`{"prompt_tokens":true,"completion_tokens":"many"}`, prices.Tokens{}, []string{"usage.completion_tokens", "usage.prompt_tokens"}},
		{`{"prompt_tokens":1e13,"completion_tokens":1}`, prices.Tokens{Completion: 1}, []string{"usage.prompt_tokens"}},
		{`{"prompt_tokens":null,"completion_tokens":1,"completion_tokens_details":null}`, prices.Tokens{Completion: 1}, nil},
		{`{"prompt_tokens":1,"prompt_tokens_details":[3]}`, prices.Tokens{Prompt: 1}, []string{"usage.prompt_tokens_details"}},
		{`{"prompt_tokens":10,"prompt_tokens_details":{"cached_tokens":11},"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}`,
			prices.Tokens{Prompt: 10, Cached: 10, Completion: 1, Reasoning: 1}, []string{"usage.cached_tokens", "usage.reasoning_tokens"}},
		{`{"inputTokens":5,"outputTokens":1,"cacheWriteInputTokens":9,"cacheDetails":{"ttl":"1h","inputTokens":9}}`,
			prices.Tokens{Prompt: 14, CacheWrite: 9, Completion: 1}, []string{"usage.cacheDetails"}},
		{`{"inputTokens":5,"outputTokens":1,"cacheWriteInputTokens":9,"cacheDetails":["1h",{"ttl":"1h","inputTokens":2}]}`,
			prices.Tokens{Prompt: 14, CacheWrite: 9, CacheWrite1h: 2, Completion: 1}, []string{"usage.cacheDetails"}},
		{`{"input_tokens":5,"cache_read_input_tokens":"-3","cache_creation":[1],"output_tokens":null,"inference_geo":"eu"}`,
			prices.Tokens{Prompt: 5}, []string{"usage.cache_creation", "usage.cache_read_input_tokens"}},
		{`{"billed_units":{"input_tokens":-1,"output_tokens":7.25,"search_units":1},"tokens":null,"cached_tokens":{}}`,
			prices.Tokens{}, []string{"usage.cached_tokens", "usage.input_tokens", "usage.output_tokens"}},
		{`{"input_tokens":10,"input_tokens_details":{"cached_tokens":1.5},"output_tokens":3,"output_tokens_details":"none","total_tokens":"x"}`,
			prices.Tokens{Prompt: 10, Completion: 3}, []string{"usage.cached_tokens", "usage.output_tokens_details"}},
		{`{"candidatesTokenCount":1000000000000,"thoughtsTokenCount":1}`,
			prices.Tokens{Completion: plans.MaxTokens, Reasoning: 1}, []string{"usage.completion_tokens"}},
	} {
		u, _ := prices.ReadUsage([]byte(tc.usage))
		if u.Tokens != tc.want || !slices.Equal(u.Unread, tc.unread) {
			t.Errorf("%s: %+v without %v, want %+v without %v", tc.usage, u.Tokens, u.Unread, tc.want, tc.unread)
		}
	}
	for _, usage := range []string{``, `null`, `[]`, `{}`, `{"tokens":7}`, `{"prompt_tokens":null}`, `"x"`, `{"promptTokenCount":{}`} {
		if u, ok := prices.ReadUsage([]byte(usage)); ok {
			t.Errorf("%s is read as %+v", usage, u)
		}
	}
}

func TestTierAndReportedCostAreRead(t *testing.T) {
	for _, tc := range []struct {
		members, tier, cost string // cost is "" where there is none
		unread              []string
	}{
		{`"service_tier":"batch","cost":0.0015`, "batch", "0.0015", nil},
		{`"service_tier":"standard","cost":-1`, "default", "", []string{"usage.cost"}},
		{`"serviceTier":"PRIORITY","cost":"0.0015"`, "priority", "0.0015", nil},
		{`"service_tier":null,"cost":null`, "", "", nil},
		{`"service_tier":"gold","cost":1e-3`, "", "0.001", []string{"usage.service_tier"}},
		{`"service_tier":3,"cost":true`, "", "", []string{"usage.cost", "usage.service_tier"}},
		// Perplexity breaks it down: 0.000006 + 0.000013 + 0.005
		{`"cost":{"input_tokens_cost":6e-06,"output_tokens_cost":0.000013,"request_cost":0.005,"total_cost":0.005019}`, "", "0.005019", nil},
		{`"cost":{"input_tokens_cost":6e-06}`, "", "", []string{"usage.cost"}},
		{`"cost":2.625e-07`, "", "0.000000263", nil}, // 7 cached tokens at 0.0375 a million
		{`"cost":[1]`, "", "", []string{"usage.cost"}},
	} {
		u, ok := prices.ReadUsage([]byte(`{"input_tokens":1,"output_tokens":1,` + tc.members + `}`))
		cost := ""
		if u.ReportedCost != nil {
			cost = u.ReportedCost.String()
		}
		if !ok || u.ServiceTier != tc.tier || cost != tc.cost || !slices.Equal(u.Unread, tc.unread) {
			t.Errorf("%s: tier %q, cost %q, unread %v; want %q, %q, %v", tc.members, u.ServiceTier, cost, u.Unread, tc.tier, tc.cost, tc.unread)
		}
	}
}

// Whatever a provider sends, what is read can be charged.
func FuzzReadUsage(f *testing.F) {
	f.Add([]byte(`{"prompt_tokens":500,"completion_tokens":"1e2","prompt_tokens_details":{"cached_tokens":7}}`))
	f.Add([]byte(`{"inputTokens":5,"cacheDetails":[{"ttl":"1h","inputTokens":20}]}`))
	f.Add([]byte(`{"input_tokens":5,"cache_creation":{"ephemeral_1h_input_tokens":9}}`))
	f.Add([]byte(`{"promptTokenCount":1,"thoughtsTokenCount":1e12,"toolUsePromptTokenCount":1e12}`))
	r := rates(f, "in=1 out=1 cached=1 write=1 write1h=1 reasoning=1")
	f.Fuzz(func(t *testing.T, raw []byte) {
		u, ok := prices.ReadUsage(raw)
		if ok && !json.Valid(raw) {
			t.Skip() // the decoder stops behind the first value
		}
		if _, err := r.Cost(u.Tokens); err != nil {
			t.Errorf("%s is read as %+v: %v", raw, u.Tokens, err)
		}
	})
}

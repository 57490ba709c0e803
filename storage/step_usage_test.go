package storage

import (
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// classed is a model whose kinds of tokens all cost otherwise, with a tier: in the
// test's catalogue, and as an entry of a workspace.
const classed = "in=2/1000:4 out=8/1000:12 cached=0.5 write=3 write1h=5/1000:6 reasoning=10"

func parsedRates(t testing.TB, text string) *prices.Rates {
	t.Helper()
	rates, err := prices.ParseRates(text)
	if err != nil {
		t.Fatal(err)
	}
	return &rates
}

// priceAll sets a workspace's entry with all its prices.
func (w *world) priceAll(ws WorkspaceKey, model, rates string) {
	w.t.Helper()
	all := parsedRates(w.t, rates)
	_, err := w.SetPrice(w.t.Context(), ws, ModelPrice{
		Model: model, Rates: all, Input: all.Price(prices.Input), Output: all.Price(prices.Output), Active: true,
	})
	w.must(err)
}

func (w *world) tool(ws WorkspaceKey, run uuid.UUID, tool string) uuid.UUID {
	w.t.Helper()
	a, err := w.CreateStep(w.t.Context(), Caller{Workspace: ws}, run, NewStep{Type: ToolCall, Sequence: 1, ToolName: &tool}, guard.Decide)
	w.must(err)
	return a.ID
}

// everyUsage gives a workspace steps with all that can be used beside tokens.
func (w *world) everyUsage(ws WorkspaceKey) {
	w.t.Helper()
	run := w.start(ws, "w").ID
	w.priceAll(ws, "classed", classed)
	n := func(n int64) *int64 { return &n }
	w.report(ws, run, w.createModelCall(ws, run, "classed"), StepUpdate{
		Status: StepCompleted, PromptTokens: n(900), CompletionTokens: n(300), CachedTokens: n(500), CacheWriteTokens: n(200),
		CacheWrite1hTokens: n(50), ReasoningTokens: n(100), ServiceTier: ParseServiceTier("batch"),
	})
	trust := true
	_, err := w.UpdateWorkspace(w.t.Context(), ws, WorkspaceChange{TrustReportedCost: &trust})
	w.must(err)
	cost := plans.Money(1234)
	w.report(ws, run, w.createModelCall(ws, run, "nobody priced this"), StepUpdate{PromptTokens: n(10), ReportedCost: &cost})
	w.priceAll(ws, toolPrefix+"search", "in=0 out=0 call=0.005")
	w.report(ws, run, w.tool(ws, run, "search"), StepUpdate{Status: StepCompleted})
	w.end(ws, run, RunCompleted)
}

// Whatever is reported in whatever order, a step costs what the prices say of
// all that was reported at last, and the books agree.
func TestAStepCostsWhatItsTokensDoByTheirKinds(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.priceAll(ws, "classed", classed)
	rates := parsedRates(t, classed)
	rapid.Check(t, func(t *rapid.T) {
		run := w.start(ws, "u").ID
		step := w.createModelCall(ws, run, "classed")
		var want prices.Tokens
		for range rapid.IntRange(1, 4).Draw(t, "reports") {
			in := StepUpdate{Status: StepCompleted}
			count := func(to **int64, of *int64, name string) {
				if rapid.Bool().Draw(t, name+" said") {
					n := rapid.Int64Range(0, 2000).Draw(t, name)
					*to, *of = &n, n
				}
			}
			count(&in.PromptTokens, &want.Prompt, "prompt")
			count(&in.CompletionTokens, &want.Completion, "completion")
			count(&in.CachedTokens, &want.Cached, "cached")
			count(&in.CacheWriteTokens, &want.CacheWrite, "written")
			count(&in.CacheWrite1hTokens, &want.CacheWrite1h, "for an hour")
			count(&in.ReasoningTokens, &want.Reasoning, "reasoning")
			want.CacheWrite = max(want.CacheWrite, want.CacheWrite1h)
			want.Prompt = max(want.Prompt, want.Cached+want.CacheWrite)
			want.Completion = max(want.Completion, want.Reasoning)
			said := in.hasUsage()
			got := w.report(ws, run, step, in)
			if !said && !got.Booked {
				continue
			}
			cost, err := rates.Cost(want)
			w.must(err)
			if got.Cost == nil || *got.Cost != cost || got.PromptTokens != want.Prompt || got.CompletionTokens != want.Completion {
				t.Fatalf("%+v costs %v for %d and %d tokens, want %v", want, got.Cost, got.PromptTokens, got.CompletionTokens, cost)
			}
			again := w.report(ws, run, step, in)
			if *again.Cost != cost || again.Parts != got.Parts {
				t.Fatalf("repeated: %+v, before: %+v", again.Step, got.Step)
			}
		}
		w.end(ws, run, RunCompleted)
	})
}

func TestPartsBeyondTheirWholeRaiseIt(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1_000_000, 1_000_000)
	run := w.start(ws, "u").ID
	s := w.report(ws, run, w.createModelCall(ws, run, "gpt-4o"), StepUpdate{
		PromptTokens: new(int64(12)), CachedTokens: new(int64(1000)), ReasoningTokens: new(int64(7)),
	})
	if s.PromptTokens != 1000 || s.CompletionTokens != 7 || s.Repaired != RepairsOf([]string{"prompt_tokens", "completion_tokens"}) {
		t.Errorf("booked %d and %d, repaired %v", s.PromptTokens, s.CompletionTokens, s.Repaired.Fields())
	}
	mustCost(t, s.Step, 1007*1000)
}

func TestAServiceTierHasTheCataloguesPrice(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	w.catalogue(ws, true)
	run := w.start(ws, "u").ID
	step := w.createModelCall(ws, run, "plain")
	tokens := StepUpdate{PromptTokens: new(int64(1000)), CompletionTokens: new(int64(100))}
	mustCost(t, w.report(ws, run, step, tokens).Step, 2_800_000)
	batch := w.report(ws, run, step, StepUpdate{ServiceTier: ParseServiceTier("batch")})
	w.mustBePriced(batch.Step, 1_400_000, PriceOrigin{Source: PriceCatalogue, Name: "acme/plain", Version: "test 1"})
	if batch.Parts.Tier.String() != "batch" {
		t.Errorf("the tier is %q", batch.Parts.Tier)
	}
	w.mustBePriced(w.report(ws, run, step, StepUpdate{ServiceTier: ParseServiceTier("standard")}).Step, 2_800_000,
		PriceOrigin{Source: PriceCatalogue, Name: "acme/plain", Version: "test 1"})
}

func TestAReportedCostIsBookedWhereItIsTrustedAndNothingIsKnown(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	run, cost := w.start(ws, "u").ID, 25*plans.Money(1_000_000)
	in := StepUpdate{Status: StepCompleted, PromptTokens: new(int64(10)), ReportedCost: &cost}
	step := w.createModelCall(ws, run, "router/auto")
	mustCostNothingKnown(t, w.report(ws, run, step, in).Step)
	trust := true
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{TrustReportedCost: &trust})
	w.must(err)
	s := w.report(ws, run, step, in)
	if s.Cost == nil || *s.Cost != cost || s.Price != (PriceOrigin{Source: PriceReported}) || *s.Parts.ReportedCost != cost {
		t.Errorf("trusted: %+v", s.Step)
	}
	w.price(ws, "router/auto", 1_000_000, 0)
	mustCost(t, w.report(ws, run, step, in).Step, 10_000)
	if d, err := w.Run(t.Context(), ws, run, ""); err != nil || d.Spend != 10_000 || *d.Steps[0].Parts.ReportedCost != cost {
		t.Errorf("the run: %+v, %v", d, err)
	}
}

func TestACallOfAToolCostsWhatItsEntrySays(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	before := w.tool(ws, run, "search")
	w.priceAll(ws, toolPrefix+"search", "in=0 out=0 call=0.005")
	search := w.report(ws, run, before, StepUpdate{Status: StepCompleted})
	want := PriceOrigin{Source: PriceOwn, Name: toolPrefix + "search"}
	if search.Cost == nil || *search.Cost != 5_000_000 || search.Price != want || search.Model != nil {
		t.Errorf("a call of search: %+v", search.Step)
	}
	w.report(ws, run, before, StepUpdate{Status: StepCompleted})
	if failed := w.report(ws, run, w.tool(ws, run, "search"), StepUpdate{Status: StepFailed}); failed.Cost != nil {
		t.Errorf("a call that failed costs %v", failed.Cost)
	}
	if free := w.report(ws, run, w.tool(ws, run, "other"), StepUpdate{Status: StepCompleted}); free.Cost != nil {
		t.Errorf("another tool costs %v", free.Cost)
	}
	if d, err := w.Run(t.Context(), ws, run, ""); err != nil || d.Spend != 5_000_000 {
		t.Errorf("the run costs %v, %v", d.Spend, err)
	}
	u, err := w.Usage(t.Context(), ws)
	w.must(err)
	if len(u.ByModel) != 1 || u.ByModel[0].Model != toolPrefix+"search" || u.ByModel[0].Spend != 5_000_000 {
		t.Errorf("usage by model: %+v", u.ByModel)
	}
}

func TestUnpricedModelsAreRefusedWhereAskedFor(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	deny := true
	_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{RefuseUnpriced: &deny})
	w.must(err)
	ask := func(kind StepType, model string) guard.Reason {
		in := NewStep{Type: kind, Sequence: 1}
		if model != "" {
			in.Model = &model
		}
		a, err := w.CreateStep(t.Context(), Caller{Workspace: ws}, run, in, guard.Decide)
		w.must(err)
		return a.Decision.Reason
	}
	w.price(ws, "priced", 1, 1)
	w.sameAs(ws, "alias", "priced")
	for model, want := range map[string]guard.Reason{
		"priced": guard.None, "alias": guard.None, "unknown": guard.ModelNotPriced, "": guard.None,
	} {
		if got := ask(ModelCall, model); got != want {
			t.Errorf("%q: %v, want %v", model, got, want)
		}
	}
	if got := ask(ToolCall, "unknown"); got != guard.None {
		t.Errorf("a tool call: %v", got)
	}
	w.price(ws, "unknown", 1, 1)
	if got := ask(ModelCall, "unknown"); got != guard.None {
		t.Errorf("once priced: %v", got)
	}
}

// A tool may get its price after the step has used tokens without one.
func TestUnpricedTokensOfAToolMoveToItsEntry(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	step := w.tool(ws, run, "search")
	used := StepUpdate{Status: StepCompleted, PromptTokens: new(int64(30)), CompletionTokens: new(int64(12))}
	mustCostNothingKnown(t, w.report(ws, run, step, used).Step)
	w.mustHaveUnpriced(ws, run, "", UnpricedUsage{UnpricedTokens: 42, UnpricedSteps: 1})
	w.priceAll(ws, toolPrefix+"search", "in=1 out=0 call=0.005")
	if s := w.report(ws, run, step, used); s.Cost == nil || *s.Cost != 5_030_000 {
		t.Errorf("once priced: %+v", s.Step)
	}
	w.mustHaveUnpriced(ws, run, toolPrefix+"search", UnpricedUsage{})
}

// What was booked on a provider's word stays booked when the word is trusted no more.
func TestAReportedCostStaysBooked(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	trust := func(on bool) {
		_, err := w.UpdateWorkspace(t.Context(), ws, WorkspaceChange{TrustReportedCost: &on})
		w.must(err)
	}
	run, cost := w.start(ws, "u").ID, plans.Money(7_000_000)
	step, in := w.createModelCall(ws, run, "router/auto"), StepUpdate{PromptTokens: new(int64(10)), ReportedCost: &cost}
	mustHaveBooked := func() {
		t.Helper()
		if s := w.report(ws, run, step, in); s.Cost == nil || *s.Cost != cost || s.Price != (PriceOrigin{Source: PriceReported}) {
			t.Errorf("reported %v, booked %v by %+v", cost, s.Cost, s.Price)
		}
	}
	trust(true)
	mustHaveBooked()
	trust(false)
	mustHaveBooked()
	cost = 5_000_000
	mustHaveBooked()
	mustCostNothingKnown(t, w.report(ws, run, w.createModelCall(ws, run, "router/auto"), in).Step)
}

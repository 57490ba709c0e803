package storage

import (
	"context"
	"testing"
	"time"

	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/prices"
)

// published is a catalogue of the tests: a plain price, dates, hours, a tier and a price by the call.
const published = `version test 1
provider acme	Acme
plain	in=2 out=8; @batch in=1 out=4
dated	in=1 out=1; 2026-11-16 in=3 out=3
hourly	in=10 out=10; 20:00-04:00 in=1 out=1
tiered	in=1/200:2 out=4/200:8
search	in=1 out=1 call=0.005
`

// cataloguing is a world with that catalogue.
func cataloguing(t *testing.T) *world {
	t.Helper()
	catalogue, err := prices.ParseCatalogue(published)
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(o *Options) { o.Catalogue = catalogue })
	t.Cleanup(func() {
		w.mustRememberTheTruth()
		r, err := w.Store.Verify(context.Background())
		w.must(err)
		for _, d := range r.Differences {
			t.Errorf("the books: %+v", d)
		}
	})
	return w
}

func (w *world) sameAs(ws WorkspaceKey, model, other string) {
	w.t.Helper()
	_, err := w.SetPrice(context.Background(), ws, ModelPrice{Model: model, SameAs: other, Active: true})
	w.must(err)
}

func (w *world) catalogue(ws WorkspaceKey, on bool) {
	w.t.Helper()
	_, err := w.UpdateWorkspace(context.Background(), ws, WorkspaceChange{PriceCatalogue: &on})
	w.must(err)
}

// used reports tokens of a new call, and returns the step.
func (w *world) used(ws WorkspaceKey, model string, prompt, completion int64) Step {
	w.t.Helper()
	run := w.start(ws, "u").ID
	return w.patch(ws, run, w.createModelCall(ws, run, model), prompt, completion)
}

// mustBePriced compares cost and origin of a step, as it was answered and as it is stored.
func (w *world) mustBePriced(s Step, cost plans.Money, want PriceOrigin) {
	w.t.Helper()
	if s.Cost == nil || *s.Cost != cost || s.Price != want {
		w.t.Errorf("%s costs %v by %+v, want %v by %+v", *s.Model, s.Cost, s.Price, cost, want)
	}
	var stored PriceOrigin
	err := w.read(context.Background(), func(tx *Tx) error {
		var run, segment int64
		err := tx.get(`SELECT run_id, segment FROM steps WHERE uuid = $1`, []any{s.ID[:]}, &run, &segment)
		if err != nil {
			return err
		}
		row, err := readStep(tx, segment, run, s.ID)
		stored = row.Price
		return err
	})
	w.must(err)
	if stored != want {
		w.t.Errorf("%s is stored as priced by %+v, want %+v", *s.Model, stored, want)
	}
}

func fromCatalogue(model string) PriceOrigin {
	return PriceOrigin{Source: PriceCatalogue, Name: "acme/" + model, Version: "test 1"}
}

func TestTheFirstPriceThatFitsIsTaken(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "mine", 1_000_000, 0)
	w.sameAs(ws, "deployment-1", "mine")
	w.sameAs(ws, "deployment-2", "Acme/plain")
	w.sameAs(ws, "chain", "deployment-2")
	w.sameAs(ws, "ring", "ring 2")
	w.sameAs(ws, "ring 2", "ring")
	w.sameAs(ws, "nowhere", "no such model")

	w.mustBePriced(w.used(ws, "mine", 10, 0), 10*microUSD, PriceOrigin{Source: PriceOwn, Name: "mine"})
	w.mustBePriced(w.used(ws, "deployment-1", 10, 0), 10*microUSD, PriceOrigin{Source: PriceAlias, Name: "mine"})
	w.mustBePriced(w.used(ws, "plain", 10, 5), 60*microUSD, fromCatalogue("plain"))
	byAlias := fromCatalogue("plain")
	byAlias.Source = PriceAlias
	w.mustBePriced(w.used(ws, "deployment-2", 10, 5), 60*microUSD, byAlias)
	w.mustBePriced(w.used(ws, "chain", 10, 5), 60*microUSD, byAlias)
	for _, model := range []string{"ring", "ring 2", "nowhere", "plai", "plain-2"} {
		s := w.used(ws, model, 10, 5)
		mustCostNothingKnown(t, s)
		if s.Price != (PriceOrigin{}) {
			t.Errorf("%s is priced by %+v", model, s.Price)
		}
	}

	w.price(ws, "plain", 1, 0) // the workspace's own comes first
	w.mustBePriced(w.used(ws, "plain", 1000, 5), 1, PriceOrigin{Source: PriceOwn, Name: "plain"})
	_, err := w.SetPrice(t.Context(), ws, ModelPrice{Model: "plain", Input: 1, Active: false})
	w.must(err)
	w.mustBePriced(w.used(ws, "plain", 10, 5), 60*microUSD, fromCatalogue("plain"))

	w.catalogue(ws, false)
	mustCostNothingKnown(t, w.used(ws, "plain", 10, 5))
	mustCostNothingKnown(t, w.used(ws, "chain", 10, 5))
	w.catalogue(ws, true)
	w.mustBePriced(w.used(ws, "plain", 10, 5), 60*microUSD, fromCatalogue("plain"))
	if n := w.number(`SELECT count(*) FROM price_points`); n != 3 {
		t.Errorf("%d rows of price_points for 3 prices", n)
	}
}

// A workspace of before the catalogue keeps to its own prices.
func TestOldWorkspacesDoNotUseTheCatalogue(t *testing.T) {
	w := cataloguing(t)
	if ws, err := w.Workspace(t.Context(), w.unlimitedWorkspace()); err != nil || !ws.PriceCatalogue {
		t.Errorf("a new workspace uses it: %v, %v", ws.PriceCatalogue, err)
	}
	before := `SELECT dflt_value FROM pragma_table_info('workspaces') WHERE name = 'price_catalogue'`
	if w.url != "" { // which has such workspaces where they were copied to it
		before = `SELECT column_default FROM information_schema.columns WHERE table_name = 'workspaces' AND column_name = 'price_catalogue'`
	}
	if n := w.number(before); n != 0 {
		t.Errorf("workspaces of before get %d", n)
	}
}

func TestPricesChangeAtTheirInstant(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	at := func(moment, model string, cost plans.Money) {
		t.Helper()
		now, err := time.Parse(time.RFC3339Nano, moment)
		w.must(err)
		w.Set(now)
		w.mustBePriced(w.used(ws, model, 1, 0), cost*microUSD, fromCatalogue(model))
	}
	at("2026-11-15T23:59:59.999999999Z", "dated", 1)
	at("2026-11-16T00:00:00Z", "dated", 3)
	at("2026-11-15T23:59:59Z", "dated", 1) // the clock was set back
	at("2026-11-16T03:59:59.999999999Z", "hourly", 1)
	at("2026-11-16T04:00:00Z", "hourly", 10)
	at("2026-11-16T19:59:59.999Z", "hourly", 10)
	at("2026-11-16T20:00:00Z", "hourly", 1)
	at("2026-11-16T19:59:59.999Z", "hourly", 10) // and back
	at("2026-11-16T21:00:00Z", "hourly", 1)
}

// A correction costs what the step was first charged at, with its tiers.
func TestCorrectionsKeepThePricesOfTheFirstReport(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	run := w.start(ws, "u").ID
	tiered, dated, called := w.createModelCall(ws, run, "tiered"), w.createModelCall(ws, run, "dated"), w.createModelCall(ws, run, "search")
	w.mustBePriced(w.patch(ws, run, tiered, 200, 1), 204*microUSD, fromCatalogue("tiered"))
	w.mustBePriced(w.patch(ws, run, dated, 10, 0), 10*microUSD, fromCatalogue("dated"))
	w.mustBePriced(w.patch(ws, run, called, 0, 0), 5_000*microUSD, fromCatalogue("search"))
	w.Advance(24 * time.Hour)
	w.price(ws, "tiered", 7, 7)
	w.catalogue(ws, false)
	above := w.patch(ws, run, tiered, 201, 1)
	w.mustBePriced(above, 410*microUSD, fromCatalogue("tiered"))
	if *above.InputPrice != 2_000_000 || *above.OutputPrice != 8_000_000 {
		t.Errorf("charged at %v and %v, want the tier's", above.InputPrice, above.OutputPrice)
	}
	w.mustBePriced(w.patch(ws, run, tiered, 100, 1), 104*microUSD, fromCatalogue("tiered"))
	w.mustBePriced(w.patch(ws, run, dated, 20, 0), 20*microUSD, fromCatalogue("dated"))
	w.mustBePriced(w.patch(ws, run, called, 3, 0), 5_003*microUSD, fromCatalogue("search"))
	w.mustHaveBooked(ws, noon(), (104+20+5_003)*microUSD, 123, 1)
}

// A step that had no price gets one with the report after the catalogue is on.
func TestUnpricedStepIsPricedByTheCatalogue(t *testing.T) {
	w := cataloguing(t)
	ws := w.unlimitedWorkspace()
	w.catalogue(ws, false)
	run := w.start(ws, "u").ID
	step := w.createModelCall(ws, run, "plain")
	mustCostNothingKnown(t, w.patch(ws, run, step, 10, 5))
	w.mustHaveUnpriced(ws, run, "plain", UnpricedUsage{UnpricedTokens: 15, UnpricedSteps: 1})
	w.catalogue(ws, true)
	w.mustBePriced(w.patch(ws, run, step, 10, 5), 60*microUSD, fromCatalogue("plain"))
	w.mustHaveUnpriced(ws, run, "plain", UnpricedUsage{})
}

// What is kept of the catalogue's prices reads as what they are.
func TestPublishedPricesAreKeptExactly(t *testing.T) {
	c, err := prices.ParseCatalogue(embed.Catalogue())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range c.Models() {
		rates := m.Rates(noon(), "")
		kept, err := prices.ParseRates(rates.String())
		if err != nil || kept.String() != rates.String() {
			t.Errorf("%s: %q is kept as %q, %v", m.ID, rates, kept, err)
		}
		tokens := prices.Tokens{Prompt: 1_234_567, Completion: 7_654}
		if a, err := rates.Cost(tokens); err == nil {
			if b, err := kept.Cost(tokens); a != b {
				t.Errorf("%s costs %v, kept %v, %v", m.ID, a, b, err)
			}
		}
	}
}

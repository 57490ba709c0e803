// Package prices says what a call costs: the catalogue of published prices, the kinds of tokens
// that providers charge for, and what providers report as usage. It is pure: no clock, no database,
// no HTTP.
//
//   - rates.go: the prices of a model at one moment, and what tokens cost
//   - term.go: prices that hold for some dates or hours
//   - catalogue.go: the catalogue's text form
//   - find.go: which entry a model's name means
//   - compare.go: what another catalogue would change
//   - usage.go: the usage objects of providers
package prices

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/pikarc/server/plans"
)

// Tokens is what a call has used. The parts lie within their whole.
type Tokens struct {
	Prompt       int64 // all input
	Cached       int64 // of Prompt: read from a cache
	CacheWrite   int64 // of Prompt: written to a cache
	CacheWrite1h int64 // of CacheWrite: written to be kept for an hour
	Completion   int64 // all output
	Reasoning    int64 // of Completion
}

// Class is a kind of token that has a price of its own.
type Class uint8

// The classes. A class without a price costs what its parent costs.
const (
	// Input and Output are the classes that every price per token has.
	Input Class = iota
	Output
	Cached       // parent Input
	CacheWrite   // parent Input
	CacheWrite1h // parent CacheWrite
	Reasoning    // parent Output
	// classes counts them.
	classes
)

// classNames are the classes as the catalogue and the ledger write them.
func classNames() [classes]string {
	return [classes]string{"in", "out", "cached", "write", "write1h", "reasoning"}
}

// parent is the class whose price applies if a model has none for this one: a cached token is a
// prompt token first.
func (c Class) parent() Class {
	switch c {
	case Cached, CacheWrite:
		return Input
	case CacheWrite1h:
		return CacheWrite
	case Reasoning:
		return Output
	}
	return c
}

// Table is a price a token for some of the classes.
type Table struct {
	price [classes]plans.Price
	known uint8 // a bit a class
}

// Set gives a class a price.
func (t *Table) Set(c Class, price plans.Price) {
	t.price[c], t.known = price, t.known|1<<c
}

// Own returns the class's own price, and whether it has one.
func (t Table) Own(c Class) (plans.Price, bool) { return t.price[c], t.known&(1<<c) != 0 }

// Price returns what a token of the class costs: its own price, or its parent's.
// A whole without a price costs nothing.
func (t Table) Price(c Class) plans.Price {
	for {
		if price, ok := t.Own(c); ok {
			return price
		}
		if c.parent() == c {
			return 0
		}
		c = c.parent()
	}
}

// over returns the table with the classes that other prices replaced.
func (t Table) over(other Table) Table {
	for c := range classes {
		if price, ok := other.Own(c); ok {
			t.Set(c, price)
		}
	}
	return t
}

// Tier is prices that replace others when the prompt is longer than a bound.
// They hold for the whole call.
type Tier struct {
	AbovePrompt int64 // tokens
	Table
}

// Rates is what a call costs at one moment.
type Rates struct {
	Table
	PerCall plans.Money
	Tiers   []Tier // by AbovePrompt, ascending
}

// At returns the prices that hold for a call with so many prompt tokens. Of each
// class the highest tier that names it wins.
func (r Rates) At(prompt int64) Table {
	table := r.Table
	for _, tier := range r.Tiers {
		if prompt > tier.AbovePrompt {
			table = table.over(tier.Table)
		}
	}
	return table
}

// Highest returns the highest price of a token, of all classes and tiers.
func (r Rates) Highest() (highest plans.Price) {
	tables := []Table{r.Table}
	for _, tier := range r.Tiers {
		tables = append(tables, tier.Table)
	}
	for _, table := range tables {
		for c := range classes {
			highest = max(highest, table.Price(c))
		}
	}
	return highest
}

// ErrParts says that parts of a count are larger than the whole.
var ErrParts = errors.New("the parts are larger than the whole")

// Cost is the exact cost of a call, rounded up to the nano-dollar. It returns
// ErrParts, plans.ErrNegative, or plans.ErrCostOverflow.
func (r Rates) Cost(t Tokens) (plans.Money, error) {
	// Counts are given with parts in them (cached tokens are prompt tokens); prices are for what is
	// left of each.
	counts := [classes]int64{
		Input:        t.Prompt - t.Cached - t.CacheWrite,
		Cached:       t.Cached,
		CacheWrite:   t.CacheWrite - t.CacheWrite1h,
		CacheWrite1h: t.CacheWrite1h,
		Output:       t.Completion - t.Reasoning,
		Reasoning:    t.Reasoning,
	}
	if min(t.Prompt, t.Cached, t.CacheWrite, t.CacheWrite1h, t.Completion, t.Reasoning) < 0 {
		return 0, plans.ErrNegative
	}
	table := r.At(t.Prompt)
	// 128 bits: a price times a count does not fit 64.
	var hi, lo uint64 // pico-USD
	for c, n := range counts {
		if n < 0 {
			return 0, ErrParts
		}
		if table.Price(Class(c)) < 0 {
			return 0, plans.ErrNegative
		}
		productHi, productLo := bits.Mul64(uint64(n), uint64(table.Price(Class(c))))
		var carry uint64
		lo, carry = bits.Add64(lo, productLo, 0)
		if hi, carry = bits.Add64(hi, productHi, carry); carry != 0 {
			return 0, plans.ErrCostOverflow
		}
	}
	const picosPerNano = 1_000
	if hi >= picosPerNano {
		return 0, plans.ErrCostOverflow
	}
	nanos, rest := bits.Div64(hi, lo, picosPerNano)
	// Rounded up, so that no use is free.
	if rest > 0 {
		nanos++
	}
	if r.PerCall < 0 || nanos > plans.MaxDay || uint64(r.PerCall) > plans.MaxDay-nanos {
		return 0, plans.ErrCostOverflow
	}
	return plans.Money(nanos) + r.PerCall, nil
}

// perMillion is the number of tokens that the text form's prices are for.
const perMillion = 6 // decimal places

// String writes the rates as the catalogue does, and ParseRates reads them again:
// "in=2.5 out=10 cached=1.25 call=0.01", in USD for a million tokens or for a call,
// with tiers behind a price: "in=1.25/200000:2.5" above 200,000 prompt tokens. A class
// that only a tier prices has nothing before it: "cached=/200000:0.25".
func (r Rates) String() string {
	var b strings.Builder
	for c := range classes {
		if text := r.class(c); text != "" {
			fmt.Fprintf(&b, "%s=%s ", classNames()[c], text)
		}
	}
	if r.PerCall != 0 {
		fmt.Fprintf(&b, "call=%s ", r.PerCall)
	}
	return strings.TrimSuffix(b.String(), " ")
}

// class writes what String does of one class: empty where no tier prices it either.
func (r Rates) class(c Class) string {
	var text string
	if price, ok := r.Own(c); ok {
		text = millionth(price)
	}
	for _, tier := range r.Tiers {
		if price, ok := tier.Own(c); ok {
			text += fmt.Sprintf("/%d:%s", tier.AbovePrompt, millionth(price))
		}
	}
	return text
}

// millionth writes a price a token as the price of a million.
func millionth(price plans.Price) string {
	whole, part := int64(price)/1_000_000, int64(price)%1_000_000
	if part == 0 {
		return strconv.FormatInt(whole, 10)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%06d", whole, part), "0")
}

// ParseRates reads what String writes.
func ParseRates(text string) (Rates, error) {
	var r Rates
	for field := range strings.FieldsSeq(text) {
		name, value, ok := strings.Cut(field, "=")
		if !ok {
			return r, fmt.Errorf("%q is no NAME=PRICE", field)
		}
		if err := r.set(name, value); err != nil {
			return r, fmt.Errorf("%s: %w", field, err)
		}
	}
	if r.known == 0 && r.PerCall == 0 && len(r.Tiers) == 0 {
		return r, errors.New("no price")
	}
	slices.SortFunc(r.Tiers, func(a, b Tier) int { return int(a.AbovePrompt - b.AbovePrompt) })
	return r, nil
}

// set sets the price of a class by its name, or that of a call.
func (r *Rates) set(name, value string) error {
	if name == "call" {
		var err error
		r.PerCall, err = plans.ParseMoney(value)
		return err
	}
	names := classNames()
	class := Class(slices.Index(names[:], name))
	if class >= classes {
		return errors.New("no such kind of token")
	}
	base, tiers, tiered := strings.Cut(value, "/")
	if base != "" || !tiered {
		price, err := parseMillionth(base)
		if err != nil {
			return err
		}
		r.Set(class, price)
	}
	for text := range strings.SplitSeq(tiers, "/") {
		if text == "" {
			continue
		}
		if err := r.setTier(class, text); err != nil {
			return err
		}
	}
	return nil
}

// setTier sets a price for calls whose prompt is longer than a bound.
func (r *Rates) setTier(class Class, text string) error {
	bound, value, _ := strings.Cut(text, ":")
	above, err := strconv.ParseInt(bound, 10, 64)
	if err != nil || above < 0 || above > plans.MaxTokens {
		return fmt.Errorf("%q is no number of tokens", bound)
	}
	price, err := parseMillionth(value)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(r.Tiers, func(t Tier) bool { return t.AbovePrompt == above })
	if i < 0 {
		i, r.Tiers = len(r.Tiers), append(r.Tiers, Tier{AbovePrompt: above})
	}
	r.Tiers[i].Set(class, price)
	return nil
}

// parseMillionth reads the price of a million tokens as the price of one.
func parseMillionth(text string) (plans.Price, error) {
	if strings.ContainsAny(text, "eE") {
		return 0, plans.ErrNotDecimal
	}
	return plans.ParsePrice(text + "e-" + strconv.Itoa(perMillion))
}

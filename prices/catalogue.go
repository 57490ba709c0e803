package prices

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"
)

// Catalogue is published prices by the name of a model. It does not change.
//
// Its text has one model a line: names, a tab, terms. A name with a slash before it counts only
// behind its provider's ("azure/gpt-4o"). One that ends in -#, @#, -## or -0 is for snapshots with
// a date (20250929), a date with signs (2025-09-29) or a version of three digits, one that ends in
// * for all of these and more. Terms are separated by "; ", and the last that holds wins: Rates, a
// date from which they hold or the hours of a day in which they do before them, and a service tier
// that they are for before that.
//
//	version genai-prices 0.2.3 56976c…
//	provider deepseek	Deepseek
//	deepseek-chat	in=0.135 out=0.55; 00:30-16:30 in=0.27 out=1.1; @batch 2026-10-14 in=0.07
type Catalogue struct {
	version   string
	models    []*Model
	names     map[string]*Model // by folded name or form of names, with the provider's before it too
	providers map[string]*Provider
}

// Provider is who sells models.
type Provider struct {
	ID, Name  string
	fallbacks []string // providers whose models it sells too, at their prices
}

// Model is an entry of the catalogue.
type Model struct {
	Provider *Provider
	ID       string
	Names    []string // what it is called by without a provider's name before it
	names    []modelName
	terms    []term
}

// modelName is a name of a model, in lower case.
type modelName struct {
	text string
	bare bool // also without the provider's name before it
}

// isForm reports whether the name stands for those of snapshots.
func (n modelName) isForm() bool {
	return strings.HasSuffix(n.text, "#") || strings.HasSuffix(n.text, "*")
}

// ParseCatalogue reads a catalogue's text. An error names the line.
func ParseCatalogue(text string) (*Catalogue, error) {
	c := &Catalogue{
		names: make(map[string]*Model), providers: make(map[string]*Provider),
	}
	var provider *Provider
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		var err error
		switch head, rest, _ := strings.Cut(line, " "); {
		case line == "":
		case number == 1 && head == "version":
			c.version = rest
		case head == "provider":
			provider, err = c.addProvider(rest)
		case provider == nil:
			err = fmt.Errorf("a model before its provider")
		default:
			err = c.addModel(provider, line)
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", number, err)
		}
	}
	if c.version == "" || len(c.models) == 0 {
		return nil, fmt.Errorf("no catalogue: it begins with its version, and has a model at least")
	}
	c.index()
	return c, nil
}

// addProvider adds a provider's line: its id, its name, and the other names that model names begin
// with.
func (c *Catalogue) addProvider(line string) (*Provider, error) {
	fields := strings.Split(line, "\t")
	if len(fields) < 2 || fields[0] == "" {
		return nil, fmt.Errorf("a provider has an id and a name")
	}
	p := &Provider{ID: fields[0], Name: fields[1]}
	names := []string{p.ID}
	if len(fields) > 2 {
		names = append(names, strings.Fields(fields[2])...)
	}
	if len(fields) > 3 {
		p.fallbacks = strings.Fields(fields[3])
	}
	for _, name := range names {
		if c.providers[name] != nil {
			return nil, fmt.Errorf("provider %s is there twice", name)
		}
		c.providers[name] = p
	}
	return p, nil
}

// addModel adds a model's line: its names, a tab, and its prices.
func (c *Catalogue) addModel(p *Provider, line string) error {
	names, terms, ok := strings.Cut(line, "\t")
	if !ok || names == "" {
		return fmt.Errorf("a model has names, a tab, and prices")
	}
	m := &Model{Provider: p}
	var err error
	if m.terms, err = parseTerms(terms); err != nil {
		return err
	}
	if m.terms[0].tier != "" {
		return fmt.Errorf("the first prices are those of no service tier")
	}
	for name := range strings.FieldsSeq(names) {
		m.addName(name)
	}
	if m.ID == "" {
		return fmt.Errorf("a model without a name")
	}
	c.models = append(c.models, m)
	return nil
}

// addName notes a name as the model's.
func (m *Model) addName(name string) {
	text, only := strings.CutPrefix(name, "/")
	if m.ID == "" {
		m.ID = text
	}
	n := modelName{text: text, bare: !only}
	m.names = append(m.names, n)
	if n.bare && !n.isForm() {
		m.Names = append(m.Names, text)
	}
}

// index makes the look-up. Of models with one name the first has it, and
// PROVIDER/NAME is the provider's own before it is a gateway's name.
func (c *Catalogue) index() {
	add := func(m *Model, text string) {
		if c.names[text] == nil {
			c.names[text] = m
		}
	}
	for _, m := range c.models {
		for _, n := range m.names {
			for form := range m.Provider.forms(n.text) {
				add(m, m.Provider.ID+"/"+form)
				if form != n.text {
					add(m, form)
				}
			}
		}
	}
	for _, m := range c.models {
		for _, n := range m.names {
			if n.bare {
				add(m, n.text)
			}
		}
	}
}

// forms lists the ways in which a provider writes a name. Bedrock puts a region
// and the vendor before it, of which the data set lists some names only without.
func (p *Provider) forms(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(name) || p.ID != "aws" {
			return
		}
		if strings.HasPrefix(name, "claude-") {
			name = "anthropic." + name
			if !yield(name) {
				return
			}
		}
		for _, region := range []string{"us", "eu", "apac", "au", "jp", "in", "ca", "us-gov"} {
			if !yield(region + "." + name) {
				return
			}
		}
	}
}

// Version names the data set that the catalogue was made of, its version and its hash.
func (c *Catalogue) Version() string { return c.version }

// Models returns all entries, by provider.
func (c *Catalogue) Models() []*Model { return c.models }

// Rates returns what a call of the service tier costs at a moment.
func (m *Model) Rates(at time.Time, tier string) Rates {
	at = at.UTC()
	rates := m.terms[0].rates // where none holds, the first does
	for _, t := range m.terms {
		if t.tier == "" && t.holds(at) {
			rates = t.rates
		}
	}
	if tier == "" {
		return rates
	}
	for _, t := range slices.Backward(m.terms) { // the first that names a class wins
		if t.tier == tier && t.holds(at) {
			rates = rates.with(t.rates)
		}
	}
	return rates
}

// with replaces the classes that other prices, with their tiers.
func (r Rates) with(other Rates) Rates {
	tiers := make([]Tier, 0, len(r.Tiers)+len(other.Tiers))
	for _, tier := range r.Tiers {
		kept := Tier{AbovePrompt: tier.AbovePrompt}
		for c := range classes {
			price, ok := tier.Own(c)
			if _, replaced := other.Own(c); ok && !replaced {
				kept.Set(c, price)
			}
		}
		tiers = append(tiers, kept)
	}
	for _, tier := range other.Tiers {
		tiers = insertTier(tiers, tier)
	}
	r.Tiers, r.Table = tiers, r.over(other.Table)
	if other.PerCall != 0 {
		r.PerCall = other.PerCall
	}
	return r
}

// insertTier keeps the tiers sorted. Of two for the same prompt the later one wins where it has a
// price.
func insertTier(tiers []Tier, tier Tier) []Tier {
	for i, t := range tiers {
		switch {
		case t.AbovePrompt == tier.AbovePrompt:
			tiers[i].Table = t.over(tier.Table)
			return tiers
		case t.AbovePrompt > tier.AbovePrompt:
			return append(tiers[:i:i], append([]Tier{tier}, tiers[i:]...)...)
		}
	}
	return append(tiers, tier)
}

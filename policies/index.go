package policies

import (
	"math/bits"
	"slices"
	"strings"
)

// bitset has one bit for each rule of a set, in the order asked.
type bitset [(MaxPolicies + 63) / 64]uint64

// add sets a bit.
func (b *bitset) add(i int) { b[i/64] |= 1 << (i % 64) }

// index finds the rules whose match holds without asking each of them: for
// each thing a match can ask about, the rules that ask nothing of it, and those
// that ask for the value at hand.
type index struct {
	words         int // of a bitset that are in use
	starts, steps bitset
	kinds         dimension
	tools, models dimension
	users         dimension
	tagKeys       []string // sorted
	tags          []dimension
}

// dimension is one thing that a match can ask about.
type dimension struct {
	asked    bool   // by any rule
	free     bitset // the rules that do not ask
	exact    map[string]*bitset
	lengths  []int // of the prefixes
	prefixes map[string]*prefixed
}

// prefixed holds the patterns that begin with the same text before their first
// wildcard: those that end there, and those that go on.
type prefixed struct {
	whole bitset
	globs []glob
}

// glob is a pattern with a wildcard that is not at its end: it has to be tried.
type glob struct {
	pattern string
	rules   bitset
}

// newIndex builds the index of compiled rules: for each dimension (type, user, tool, model), which
// rules a value matches.
func newIndex(rules []*Rule) index {
	x := index{words: (len(rules) + 63) / 64}
	patterns := func(of func(*Rule) []string) dimension {
		var d dimension
		for i, r := range rules {
			d.add(i, of(r))
		}
		return d
	}
	x.kinds = patterns(func(r *Rule) []string { return r.Match.Types })
	x.users = patterns(func(r *Rule) []string { return r.Match.Users })
	// A limit by tool matches only calls that name a tool, and the same holds for models.
	x.tools = patterns(func(r *Rule) []string { return orAny(r.Match.Tools, r.Limit, "tool") })
	x.models = patterns(func(r *Rule) []string { return orAny(r.Match.Models, r.Limit, "model") })
	for _, r := range rules {
		for key := range r.Match.Tags {
			if !slices.Contains(x.tagKeys, key) {
				x.tagKeys = append(x.tagKeys, key)
			}
		}
	}
	// Sorted, so that equal policies have an equal index.
	slices.Sort(x.tagKeys)
	for _, key := range x.tagKeys {
		x.tags = append(x.tags, patterns(func(r *Rule) []string {
			if pattern, ok := r.Match.Tags[key]; ok {
				return []string{pattern}
			}
			return nil
		}))
	}
	for i, r := range rules {
		if r.atStarts() {
			x.starts.add(i)
		}
		if r.atSteps() {
			x.steps.add(i)
		}
	}
	return x
}

// orAny is what a match asks of a tool or model. A limit for each of them is
// about the steps that have one.
func orAny(patterns []string, l *Limit, per string) []string {
	if len(patterns) == 0 && l != nil && l.Per == per {
		return []string{"*"}
	}
	return patterns
}

// add enters what rule i asks; the rules come in their order.
func (d *dimension) add(i int, patterns []string) {
	if len(patterns) == 0 {
		d.free.add(i)
		return
	}
	d.asked = true
	for _, pattern := range patterns {
		prefix, rest, wild := strings.Cut(pattern, "*")
		if !wild {
			if d.exact == nil {
				d.exact = make(map[string]*bitset)
			}
			if d.exact[pattern] == nil {
				d.exact[pattern] = new(bitset)
			}
			d.exact[pattern].add(i)
			continue
		}
		d.addPrefix(i, pattern, prefix, strings.Trim(rest, "*") == "")
	}
}

// addPrefix adds a pattern that only asks for a prefix. Prefixes are found by their length, so a
// look-up tries a few lengths instead of all patterns.
func (d *dimension) addPrefix(i int, pattern, prefix string, whole bool) {
	if d.prefixes == nil {
		d.prefixes = make(map[string]*prefixed)
	}
	p := d.prefixes[prefix]
	if p == nil {
		p = new(prefixed)
		d.prefixes[prefix] = p
		if at, found := slices.BinarySearch(d.lengths, len(prefix)); !found {
			d.lengths = slices.Insert(d.lengths, at, len(prefix))
		}
	}
	if whole {
		p.whole.add(i)
		return
	}
	at := slices.IndexFunc(p.globs, func(g glob) bool { return g.pattern == pattern })
	if at < 0 {
		at = len(p.globs)
		p.globs = append(p.globs, glob{pattern: pattern})
	}
	p.globs[at].rules.add(i)
}

// narrow keeps of the rules those that accept the value, and reports whether
// any is left. What is not there is accepted by those alone that do not ask.
func (d *dimension) narrow(left *bitset, words int, value string, present bool) bool {
	if !d.asked {
		return true
	}
	accept := d.free
	if present {
		accept.join(d.exact[value], words)
		for _, n := range d.lengths {
			if n > len(value) {
				break
			}
			p := d.prefixes[value[:n]]
			if p == nil {
				continue
			}
			accept.join(&p.whole, words)
			for i := range p.globs {
				if matchGlob(p.globs[i].pattern, value) {
					accept.join(&p.globs[i].rules, words)
				}
			}
		}
	}
	var any uint64
	for w := range words {
		left[w] &= accept[w]
		any |= left[w]
	}
	return any != 0
}

// join adds the bits of another set.
func (b *bitset) join(other *bitset, words int) {
	if other == nil {
		return
	}
	for w := range words {
		b[w] |= other[w]
	}
}

// matching returns the rules that match a call, in the order in which they are asked. Each
// dimension narrows the set.
func (x *index) matching(rules []*Rule, f *Facts) []*Rule {
	left := x.steps
	if f.Start {
		left = x.starts
	}
	if !x.kinds.narrow(&left, x.words, f.Type, f.Type != "") ||
		!x.tools.narrow(&left, x.words, f.Tool, f.Tool != "") ||
		!x.models.narrow(&left, x.words, f.Model, f.Model != "") ||
		!x.users.narrow(&left, x.words, f.User, f.User != "") {
		return nil
	}
	for i := range x.tags {
		value, present := f.Tags[x.tagKeys[i]]
		if !x.tags[i].narrow(&left, x.words, value, present) {
			return nil
		}
	}
	n := 0
	for w := range x.words {
		n += bits.OnesCount64(left[w])
	}
	if n == 0 {
		return nil
	}
	found := make([]*Rule, 0, n)
	for w := range x.words {
		for word := left[w]; word != 0; word &= word - 1 {
			found = append(found, rules[w*64+bits.TrailingZeros64(word)])
		}
	}
	return found
}

// matchGlob reports whether the pattern, in which `*` stands for any number of
// characters, fits the whole text. It takes time in proportion to the product of
// their lengths at worst, and no more.
func matchGlob(pattern, text string) bool {
	p, t := 0, 0
	star, from := -1, 0 // the last wildcard, and what it was tried with
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, from = p, t
			p++
		case p < len(pattern) && pattern[p] == text[t]:
			p++
			t++
		case star >= 0:
			from++
			p, t = star+1, from
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

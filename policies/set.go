package policies

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MaxPolicies is how many policies a workspace may have.
const MaxPolicies = 1000

// Set is the enabled policies of a workspace, ready to be asked. It never
// changes, and any number of goroutines may use it.
type Set struct {
	rules []*Rule // in the order asked
	index index

	tags, metadata, input, repeats bool
}

// Compile makes a set of the enabled ones among the policies. The only error is
// that there are too many: a rule whose expression does not compile (it was
// stored by a server that knew more) is in the set, and fails when it is asked.
func Compile(policies []Policy) (*Set, error) { return (*Set)(nil).With(policies) }

// With is Compile where most policies are those of an older set: expressions
// that it has are not compiled again.
func (s *Set) With(policies []Policy) (*Set, error) {
	if len(policies) > MaxPolicies {
		return nil, fmt.Errorf("%d policies are more than %d", len(policies), MaxPolicies)
	}
	// Compiling is what costs. A change of one policy, and a backtest of a few, compile only what
	// is new.
	known := make(map[string]*expression)
	if s != nil {
		for _, r := range s.rules {
			known[r.When] = r.when
		}
	}
	next := &Set{}
	for _, p := range policies {
		if !p.Enabled {
			continue
		}
		when, ok := known[p.When]
		if !ok {
			when = compile(p.When)
			known[p.When] = when
		}
		next.rules = append(next.rules, &Rule{Policy: p, when: when})
	}
	slices.SortStableFunc(next.rules, func(a, b *Rule) int {
		return cmp.Or(cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
	})
	// From here on the order of rules is fixed: the index names them by their position.
	next.index = newIndex(next.rules)
	for _, r := range next.rules {
		next.tags = next.tags || len(r.Match.Tags) > 0 || r.when.reads("tags") || r.perTag()
		next.metadata = next.metadata || r.when.reads("metadata")
		next.input = next.input || r.when.reads("input")
		next.repeats = next.repeats || r.Limit != nil && r.Limit.Measure == MeasureRepeats
	}
	return next, nil
}

// Matching returns the rules whose match holds, in the order they are asked.
// Whether their expressions hold is theirs to say. It does not allocate where
// there are none.
func (s *Set) Matching(f *Facts) []*Rule {
	if s == nil || len(s.rules) == 0 {
		return nil
	}
	return s.index.matching(s.rules, f)
}

// Rules returns all rules of the set, in the order they are asked.
func (s *Set) Rules() []*Rule {
	if s == nil {
		return nil
	}
	return slices.Clone(s.rules)
}

// Len is the number of rules.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.rules)
}

// NeedsTags reports whether Facts.Tags can make a difference.
func (s *Set) NeedsTags() bool { return s != nil && s.tags }

// NeedsMetadata reports whether Facts.Metadata can make a difference.
func (s *Set) NeedsMetadata() bool { return s != nil && s.metadata }

// NeedsInput reports whether Facts.Input can make a difference.
func (s *Set) NeedsInput() bool { return s != nil && s.input }

// NeedsRepeats reports whether Facts.Repeats can make a difference.
func (s *Set) NeedsRepeats() bool { return s != nil && s.repeats }

// Rule is an enabled policy of a set.
type Rule struct {
	Policy

	when *expression
}

// HasWhen reports whether there is an expression to ask.
func (r *Rule) HasWhen() bool { return r.When != "" }

// UsesRun reports whether the expression reads what changes from one step of a
// run to the next: run.* or now.
func (r *Rule) UsesRun() bool { return r.when.reads("run") || r.when.reads("now") }

// perTag reports whether the rule's limit counts by a tag, which the run's tags are needed for.
func (r *Rule) perTag() bool {
	if r.Limit == nil {
		return false
	}
	_, ok := r.Limit.tag()
	return ok
}

// atStarts reports whether the rule is asked when a run starts: it asks nothing
// of a step, and nothing of a run that is under way.
func (r *Rule) atStarts() bool {
	m := r.Match
	if len(m.Types)+len(m.Tools)+len(m.Models) > 0 || r.Effect == Review || r.when.readsStep() {
		return false
	}
	l := r.Limit
	return l == nil || l.Measure != MeasureCalls && l.Measure != MeasureRepeats && l.Window != WindowRun &&
		l.Per != "run" && l.Per != "tool" && l.Per != "model"
}

// atSteps reports whether the rule is asked for steps: a limit of runs is not,
// or the last run that it allows could take none.
func (r *Rule) atSteps() bool { return r.Limit == nil || r.Limit.Measure != MeasureRuns }

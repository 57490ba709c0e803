package policies

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/pikarc/server/plans"
)

// The bounds of a policy, beside those of its expression and of tags.
const (
	MaxBody = 64 << 10 // bytes
	// Lengths are in characters.
	MaxName        = 64
	MaxDescription = 1000 // characters, of a message too
	MaxPriority    = 1_000_000
	MaxPatterns    = 100 // of one list
	MaxPattern     = 255 // characters
	maxWildcards   = 8   // in one pattern
	// MaxCount is the largest limit of tokens, calls, runs or repeats.
	MaxCount  = 1_000_000_000_000
	MinExpiry = 5 // seconds
	// A review waits for a day at most; an agent that waits longer has given up.
	MaxExpiry = 86_400
)

// Parse reads a policy as the API and files write it, strictly: an unknown field
// is a mistake that nobody may overlook. The name is the one it is saved under;
// where it is "", the body must name itself. The error is an *Invalid.
func Parse(name string, body []byte) (Policy, error) {
	p := &parser{}
	policy := p.policy(name, body)
	if len(p.problems) > 0 {
		return Policy{}, &Invalid{Problems: p.problems}
	}
	return policy, nil
}

// ParseStored reads a policy that Parse has accepted before, perhaps of an older
// version. Its expression is not looked at: one that no longer compiles is the
// rule's own trouble, when it is asked, and nobody else's.
func ParseStored(name string, body []byte) (Policy, error) {
	p := &parser{stored: true}
	policy := p.policy(name, body)
	if len(p.problems) > 0 {
		return Policy{}, &Invalid{Problems: p.problems}
	}
	return policy, nil
}

// parser collects what is wrong with one policy.
type parser struct {
	problems []Problem
	stored   bool
}

// report adds a problem of a field. All are reported at once, so that a person mends a file in one
// go.
func (p *parser) report(kind, field, format string, args ...any) {
	p.problems = append(p.problems, Problem{Type: kind, Field: field, Message: fmt.Sprintf(format, args...)})
}

// policy reads a whole policy.
func (p *parser) policy(name string, body []byte) Policy {
	if len(body) > MaxBody {
		p.report("value_error", "", "the policy has %d bytes, %d are the most", len(body), MaxBody)
		return Policy{}
	}
	in, ok := p.object("", body, "name", "description", "enabled", "priority", "match", "when", "limit",
		"effect", "message", "review")
	if !ok {
		return Policy{}
	}
	policy := Policy{
		Name:        p.name(name, in["name"]),
		Description: p.text("description", in["description"], MaxDescription),
		Enabled:     p.boolean("enabled", in["enabled"], true),
		Priority:    p.integer("priority", in["priority"], DefaultPriority, 0, MaxPriority),
		Match:       p.match(in["match"]),
		When:        strings.TrimSpace(p.when(in["when"])),
		Limit:       p.limit(in["limit"]),
		Message:     p.text("message", in["message"], MaxDescription),
	}
	policy.Effect = choose(p, "effect", in["effect"], effects)
	policy.Review = p.review(in["review"], policy.Effect)
	p.together(policy)
	return policy
}

// nameForm is what a name looks like: it stands in paths, files and messages.
var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// name reads the policy's name, from the path or the body; both must agree.
func (p *parser) name(name string, raw json.RawMessage) string {
	own := p.text("name", raw, MaxName)
	switch {
	case name == "" && own == "":
		p.report("missing", "name", "a policy needs a name")
		return ""
	case name == "":
		name = own
	case own != "" && own != name:
		p.report("value_error", "name", "is another than that in the path")
	}
	if len(name) > MaxName || !nameForm.MatchString(name) {
		p.report("value_error", "name",
			"must be 1 to %d letters, digits, dots, dashes or underscores, and begin with a letter or digit", MaxName)
	}
	return name
}

// match reads which calls a policy is asked about.
func (p *parser) match(raw json.RawMessage) Match {
	in, ok := p.optional("match", raw, "types", "tools", "models", "users", "tags")
	if !ok {
		return Match{}
	}
	m := Match{
		Types:  p.patterns("match.types", in["types"]),
		Tools:  p.patterns("match.tools", in["tools"]),
		Models: p.patterns("match.models", in["models"]),
		Users:  p.patterns("match.users", in["users"]),
	}
	for i, pattern := range m.Types {
		if !slices.ContainsFunc(StepTypes(), func(t string) bool { return matchGlob(pattern, t) }) {
			p.report("value_error", fmt.Sprintf("match.types.%d", i), "is none of the types of steps: %s",
				strings.Join(StepTypes(), ", "))
		}
	}
	m.Tags = p.tagPatterns(in["tags"])
	return m
}

// tagPatterns reads patterns for the values of tags.
func (p *parser) tagPatterns(raw json.RawMessage) map[string]string {
	if isNull(raw) {
		return nil
	}
	in, ok := p.members("match.tags", raw)
	if !ok || len(in) == 0 {
		return nil
	}
	if len(in) > MaxTags {
		p.report("value_error", "match.tags", "%d tags are the most", MaxTags)
		return nil
	}
	tags := make(map[string]string, len(in))
	for key, value := range in {
		field := "match.tags." + shorten(key)
		p.tagKey(field, key)
		var pattern string
		if isNull(value) || json.Unmarshal(value, &pattern) != nil {
			p.report("string_type", field, "must be a text")
			continue
		}
		p.pattern(field, pattern, MaxTagValue)
		tags[key] = pattern
	}
	return tags
}

// tagKey checks a tag's key as runs may have it.
func (p *parser) tagKey(field, key string) {
	if key == "" || len([]rune(key)) > MaxTagKey || hasControl(key) {
		p.report("value_error", field, "a tag's key has 1 to %d characters, none of them invisible", MaxTagKey)
	}
}

// patterns reads a list of patterns, of which one must match.
func (p *parser) patterns(field string, raw json.RawMessage) []string {
	if isNull(raw) {
		return nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		p.report("list_type", field, "must be a list of texts")
		return nil
	}
	if len(list) > MaxPatterns {
		p.report("too_long", field, "%d entries are the most", MaxPatterns)
		return nil
	}
	var patterns []string
	for i, raw := range list {
		at := fmt.Sprintf("%s.%d", field, i)
		var pattern string
		if isNull(raw) || json.Unmarshal(raw, &pattern) != nil {
			p.report("string_type", at, "must be a text")
			continue
		}
		p.pattern(at, pattern, MaxPattern)
		patterns = append(patterns, pattern)
	}
	return patterns
}

// pattern checks one pattern.
func (p *parser) pattern(field, pattern string, longest int) {
	switch {
	case pattern == "" && longest == MaxPattern:
		p.report("string_too_short", field, "must have at least 1 character")
	case len([]rune(pattern)) > longest:
		p.report("string_too_long", field, "must have at most %d characters", longest)
	case hasControl(pattern):
		p.report("value_error", field, "must not contain invisible characters")
	case strings.Count(pattern, "*") > maxWildcards:
		p.report("value_error", field, "must have at most %d wildcards", maxWildcards)
	}
}

// when reads the condition. A stored policy's was checked before; a later release that is stricter
// must not lose it.
func (p *parser) when(raw json.RawMessage) string {
	if isNull(raw) {
		return ""
	}
	var when string
	if json.Unmarshal(raw, &when) != nil {
		p.report("string_type", "when", "must be a text")
		return ""
	}
	if strings.TrimSpace(when) == "" || p.stored {
		return when
	}
	_, problems := check(when)
	p.problems = append(p.problems, problems...)
	return when
}

// limit reads a limit. What it measures decides which windows and scopes make sense.
func (p *parser) limit(raw json.RawMessage) *Limit {
	in, ok := p.optional("limit", raw, "measure", "per", "window", "amount", "rolling")
	if !ok {
		return nil
	}
	before := len(p.problems)
	l := &Limit{
		Measure: choose(p, "limit.measure", in["measure"], measures),
		Per:     p.per(in["per"]),
		Rolling: p.boolean("limit.rolling", in["rolling"], false),
	}
	if l.Measure == MeasureRepeats && isNull(in["window"]) {
		l.Window = WindowRun
	} else {
		l.Window = choose(p, "limit.window", in["window"], windows)
	}
	l.Amount = p.amount(l.Measure, in["amount"])
	if len(p.problems) == before {
		p.limitTogether(l)
	}
	return l
}

// per reads what a limit counts by.
func (p *parser) per(raw json.RawMessage) string {
	per := p.required("limit.per", raw)
	switch per {
	case "", "workspace", "user", "run", "tool", "model":
		return per
	}
	key, ok := strings.CutPrefix(per, "tag:")
	if !ok {
		p.report("value_error", "limit.per", "must be workspace, user, run, tool, model or tag:KEY")
		return per
	}
	p.tagKey("limit.per", key)
	return per
}

// amount reads a limit's amount in the unit of its measure: nano-USD, or a count.
func (p *parser) amount(m Measure, raw json.RawMessage) int64 {
	const field = "limit.amount"
	text := p.number(field, raw)
	if text == "" {
		return 0
	}
	if m == MeasureUSD {
		amount, err := plans.ParseMoney(text)
		p.decimal(field, err, plans.MaxMoney.String())
		return int64(amount)
	}
	amount, err := plans.ParseTokens(text)
	p.decimal(field, err, fmt.Sprint(int64(MaxCount)))
	if m == MeasureRepeats && err == nil && (amount < 2 || amount > MaxRepeats) {
		p.report("value_error", field, "must be 2 to %d repeats", MaxRepeats)
	}
	return amount
}

// decimal adds the problem of an amount of money, if it has one.
func (p *parser) decimal(field string, err error, most string) {
	switch {
	case err == nil:
	case errors.Is(err, plans.ErrTooLarge):
		p.report("less_than_equal", field, "must be at most %s", most)
	case errors.Is(err, plans.ErrNegative):
		p.report("greater_than_equal", field, "must be 0 or more")
	default:
		p.report("value_error", field, "%v", err)
	}
}

// limitTogether refuses limits whose parts contradict each other.
func (p *parser) limitTogether(l *Limit) {
	endless := l.Window == WindowRun || l.Window == WindowTotal
	switch {
	case l.Measure == MeasureRepeats && (l.Window != WindowRun || l.Per != "run"):
		p.report("value_error", "limit", "repeats are counted per run, in the window of the run")
	case l.Measure == MeasureRuns && (l.Window == WindowRun || l.Per == "run" || l.Per == "tool" || l.Per == "model"):
		p.report("value_error", "limit", "runs are counted when they start: per workspace, user or tag, and over time")
	case l.Rolling && endless:
		p.report("value_error", "limit.rolling", "the window of a run and the total do not roll")
	}
}

// review reads the terms of a review, which only the effect review has.
func (p *parser) review(raw json.RawMessage, effect Effect) ReviewTerms {
	in, ok := p.optional("review", raw, "expires_seconds", "approvals", "on_expiry")
	if ok && effect != Review && effect != 0 {
		p.report("value_error", "review", "is for the effect review alone")
	}
	if effect != Review {
		return ReviewTerms{}
	}
	terms := DefaultReview()
	terms.ExpiresSeconds = p.integer("review.expires_seconds", in["expires_seconds"],
		terms.ExpiresSeconds, MinExpiry, MaxExpiry)
	terms.Approvals = p.integer("review.approvals", in["approvals"], terms.Approvals, 1, 1)
	if on := p.text("review.on_expiry", in["on_expiry"], MaxName); on != "" && on != terms.OnExpiry {
		p.report("literal_error", "review.on_expiry", "must be %s", terms.OnExpiry)
	}
	return terms
}

// together refuses what no step and no start could ever meet.
func (p *parser) together(policy Policy) {
	l := policy.Limit
	if l == nil || l.Measure != MeasureRuns {
		return
	}
	m := policy.Match
	switch {
	case policy.Effect == Review:
		p.report("value_error", "effect", "a run's start cannot wait for a person: deny or log")
	case len(m.Types)+len(m.Tools)+len(m.Models) > 0:
		p.report("value_error", "match", "runs are counted when they start, where there is no type, tool or model")
	}
}

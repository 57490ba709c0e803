package policyfile

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/pikarc/server/policies"
)

// Write writes policies as Read reads them, without what is the default.
func Write(all []policies.Policy) ([]byte, error) {
	items := &yaml.Node{Kind: yaml.SequenceNode}
	for _, p := range all {
		items.Content = append(items.Content, policy(p))
	}
	if len(all) == 0 {
		items.Style = yaml.FlowStyle
	}
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	err := enc.Encode(object{}.with("policies", items).node())
	if err == nil {
		err = enc.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("write policies: %w", err)
	}
	return out.Bytes(), nil
}

// object is a YAML object under construction: keys and values.
type object []*yaml.Node

// with adds a member, unless its value is left out.
func (o object) with(key string, value *yaml.Node) object {
	if value == nil {
		return o
	}
	return append(o, text(key), value)
}

// node returns the mapping, nil for an empty one.
func (o object) node() *yaml.Node {
	if len(o) == 0 {
		return nil
	}
	return &yaml.Node{Kind: yaml.MappingNode, Content: o}
}

// text writes a text. Where white space could be taken for YAML's own, it is quoted.
func text(s string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s}
	if strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && !unicode.IsPrint(r) }) ||
		slices.ContainsFunc(strings.Split(s, "\n"), func(line string) bool { return strings.TrimSpace(line) != line }) ||
		strings.HasPrefix(s, "\n") || strings.HasSuffix(s, "\n") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

// optional leaves out an empty text.
func optional(s string) *yaml.Node {
	if s == "" {
		return nil
	}
	return text(s)
}

// plain is a scalar without quotes.
func plain(tag, value string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: value}
}

// texts writes a list on one line.
func texts(list []string) *yaml.Node {
	if len(list) == 0 {
		return nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range list {
		n.Content = append(n.Content, text(s))
	}
	return n
}

// policy writes a policy. What has its default value is left out, so that files stay short.
func policy(p policies.Policy) *yaml.Node {
	o := object{}.with("name", text(p.Name)).with("description", optional(p.Description))
	if !p.Enabled {
		o = o.with("enabled", plain("!!bool", "false"))
	}
	if p.Priority != policies.DefaultPriority {
		o = o.with("priority", plain("!!int", strconv.FormatInt(p.Priority, 10)))
	}
	o = o.with("match", match(p.Match)).with("when", optional(p.When)).with("limit", limit(p.Limit)).
		with("effect", text(p.Effect.String())).with("message", optional(p.Message))
	if p.Effect == policies.Review && p.Review != policies.DefaultReview() {
		o = o.with("review", object{}.
			with("expires_seconds", plain("!!int", strconv.FormatInt(p.Review.ExpiresSeconds, 10))).
			with("approvals", plain("!!int", strconv.FormatInt(p.Review.Approvals, 10))).
			with("on_expiry", text(p.Review.OnExpiry)).node())
	}
	return o.node()
}

// match writes the patterns, those of tags sorted by key.
func match(m policies.Match) *yaml.Node {
	tags := object{}
	keys := make([]string, 0, len(m.Tags))
	for key := range m.Tags {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, cmp.Compare)
	for _, key := range keys {
		tags = tags.with(key, text(m.Tags[key]))
	}
	return object{}.with("types", texts(m.Types)).with("tools", texts(m.Tools)).with("models", texts(m.Models)).
		with("users", texts(m.Users)).with("tags", tags.node()).node()
}

// limit writes a limit, nil for none.
func limit(l *policies.Limit) *yaml.Node {
	if l == nil {
		return nil
	}
	o := object{}.with("measure", text(l.Measure.String())).with("per", text(l.Per)).
		with("window", text(l.Window.String())).with("amount", plain("!!float", l.AmountText()))
	if l.Rolling {
		o = o.with("rolling", plain("!!bool", "true"))
	}
	return o.node()
}

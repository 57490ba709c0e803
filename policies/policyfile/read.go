// Package policyfile reads and writes policies as a YAML file that people keep
// with their code, and says what two of them do differently.
package policyfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pikarc/server/policies"
)

// MaxFile is how many bytes a file may have.
const MaxFile = 8 << 20

// Read reads a file of policies:
//
//	policies:
//	  - name: large-refund
//	    effect: review
//
// The error names all that is wrong, each with its line.
func Read(text []byte) ([]policies.Policy, error) {
	if len(text) > MaxFile {
		return nil, fmt.Errorf("the file has more than %d MiB", MaxFile>>20)
	}
	items, err := list(text)
	if err != nil {
		return nil, err
	}
	var all []policies.Policy
	var wrong []error
	lines := make(map[string]int)
	for _, item := range items {
		p, err := one(item)
		if err != nil {
			// The others are read on, so that a file is mended in one go.
			wrong = append(wrong, err)
			continue
		}
		if line, twice := lines[p.Name]; twice {
			wrong = append(wrong, fmt.Errorf("line %d: %s is on line %d already", item.Line, p.Name, line))
			continue
		}
		lines[p.Name] = item.Line
		all = append(all, p)
	}
	if len(all) > policies.MaxPolicies {
		wrong = append(wrong, fmt.Errorf("the file has %d policies, %d are the most", len(all), policies.MaxPolicies))
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return all, nil
}

// list finds the policies of the file.
func list(text []byte) ([]*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	const form = "the file must be an object with `policies:`, a list"
	if len(doc.Content) == 0 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New(form)
	}
	top := doc.Content[0].Content
	for i := 0; i < len(top); i += 2 {
		// Content has keys and values in turn.
		if top[i].Value != "policies" || i > 0 {
			return nil, fmt.Errorf("line %d: %s, and nothing else", top[i].Line, form)
		}
	}
	if len(top) == 0 || top[1].Kind != yaml.SequenceNode {
		return nil, errors.New(form)
	}
	return top[1].Content, nil
}

// one parses a policy of the file. It is converted to JSON first, so that a file and a request are
// parsed by one parser; problems then get the lines of the file.
func one(item *yaml.Node) (policies.Policy, error) {
	var body bytes.Buffer
	if err := writeJSON(&body, item, 0); err != nil {
		return policies.Policy{}, err
	}
	p, err := policies.Parse("", body.Bytes())
	var invalid *policies.Invalid
	if !errors.As(err, &invalid) {
		return p, err
	}
	var wrong []error
	for _, problem := range invalid.Problems {
		wrong = append(wrong, fmt.Errorf("line %d: %s", lineOf(item, problem.Field), problem))
	}
	return p, errors.Join(wrong...)
}

// writeJSON writes a YAML value as JSON, its numbers as they are written.
func writeJSON(out *bytes.Buffer, n *yaml.Node, depth int) error {
	// No policy is nested so deeply; a file that is may be meant to exhaust the stack.
	const deepest = 20
	switch {
	case depth > deepest:
		return fmt.Errorf("line %d: nested too deeply", n.Line)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return fmt.Errorf("line %d: write it out: anchors and aliases are not read", n.Line)
	case n.Kind == yaml.MappingNode:
		return writeObject(out, n, depth)
	case n.Kind == yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			if i > 0 {
				out.WriteByte(',')
			}
			if err := writeJSON(out, item, depth+1); err != nil {
				return err
			}
		}
		out.WriteByte(']')
		return nil
	default:
		return writeScalar(out, n)
	}
}

// writeObject writes a mapping. Merge keys are refused: what a policy says should stand in it.
func writeObject(out *bytes.Buffer, n *yaml.Node, depth int) error {
	out.WriteByte('{')
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode || key.Tag == "!!merge" {
			return fmt.Errorf("line %d: a key must be a text", key.Line)
		}
		if i > 0 {
			out.WriteByte(',')
		}
		writeText(out, key.Value)
		out.WriteByte(':')
		if err := writeJSON(out, n.Content[i+1], depth+1); err != nil {
			return err
		}
	}
	out.WriteByte('}')
	return nil
}

// writeScalar writes a scalar by its YAML type.
func writeScalar(out *bytes.Buffer, n *yaml.Node) error {
	switch n.Tag {
	case "!!null":
		out.WriteString("null")
	case "!!bool":
		var b bool
		if err := n.Decode(&b); err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
		fmt.Fprint(out, b)
	case "!!int", "!!float":
		// As it is written: a float64 would lose digits of an amount.
		if number := strings.TrimPrefix(n.Value, "+"); json.Valid([]byte(number)) {
			out.WriteString(number)
			return nil
		}
		writeText(out, n.Value) // 0x10, .inf: said to be no number where one is wanted
	default:
		writeText(out, n.Value)
	}
	return nil
}

// writeText writes a JSON string.
func writeText(out *bytes.Buffer, text string) {
	quoted, err := json.Marshal(text)
	if err != nil {
		return // a text can always be written
	}
	out.Write(quoted)
}

// lineOf is the line of a field such as limit.amount, or of what is nearest.
func lineOf(n *yaml.Node, field string) int {
	line := n.Line
	for part := range strings.SplitSeq(field, ".") {
		next := child(n, part)
		if next == nil {
			return line
		}
		n, line = next, next.Line
	}
	return line
}

// child finds a part of a path in a node; nil if it is not there.
func child(n *yaml.Node, part string) *yaml.Node {
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			if n.Content[i].Value == part {
				return n.Content[i+1]
			}
		}
		return nil
	}
	var at int
	if _, err := fmt.Sscanf(part, "%d", &at); err == nil && n.Kind == yaml.SequenceNode && at < len(n.Content) {
		return n.Content[at]
	}
	return nil
}

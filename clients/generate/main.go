// Command generate makes the wire types of the client libraries from the server's
// OpenAPI document: what the calls of agents send and are answered, and nothing else.
//
//	go run . ../..
//
// extra.json adds what the clients read that this server's document does not name
// yet, because later servers and the published clients do; what it does name is
// refused there.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// schemas are those that are generated, in this order.
func schemas() []string {
	return []string{
		"Decision", "StartRunRequest", "StartedRun", "CreateStepRequest", "CreatedStep", "UpdateStepRequest", "EndRunRequest",
	}
}

// main writes the wire types of all clients below the root.
func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate ROOT")
		os.Exit(2)
	}
	files, err := generate(os.Args[1])
	for name, content := range files {
		err = errors.Join(err, os.WriteFile(name, content, 0o644))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

// generate returns the files of all clients by their names.
func generate(root string) (map[string][]byte, error) {
	types, err := read(filepath.Join(root, "server", "openapi.json"), filepath.Join(root, "clients", "generate", "extra.json"))
	if err != nil {
		return nil, err
	}
	golang, err := goTypes(types)
	if err != nil {
		return nil, err
	}
	clients := filepath.Join(root, "clients")
	return map[string][]byte{
		filepath.Join(clients, "go", "wire.go"):                       golang,
		filepath.Join(clients, "python", "src", "pikarc", "_wire.py"): pythonTypes(types),
		filepath.Join(clients, "typescript", "src", "wire.ts"):        typescriptTypes(types),
	}, nil
}

// object is a type with members.
type object struct {
	name, text string
	members    []member
}

// member is a field of an object, in terms that each language can express.
type member struct {
	name, text string
	kind       string // string, integer, number, boolean, strings, any, or an object's name
	enum       []string
	required   bool
	nullable   bool
}

// schema is as much of OpenAPI's as the document makes use of here.
type schema struct {
	Ref         string `json:"$ref"`
	Type        string
	Description string
	Nullable    bool
	Enum        []any // texts, and null
	Required    []string
	Properties  properties
	Items       *schema
}

// properties keep their order.
type properties struct {
	names  []string
	byName map[string]schema
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *properties) UnmarshalJSON(raw []byte) error {
	if err := json.Unmarshal(raw, &p.byName); err != nil {
		return err
	}
	// A second time, token by token: a map has lost the order, in which clients should list
	// them.
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return err
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		p.names = append(p.names, name.(string))
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}

// read reads the schemas that the clients need from the OpenAPI document, and from a file with what
// it leaves open.
func read(document, extra string) ([]object, error) {
	var doc struct {
		Components struct{ Schemas map[string]schema }
	}
	var more struct {
		Decision properties
		Outcome  []string
	}
	for file, into := range map[string]any{document: &doc, extra: &more} {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(content, into); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	all := doc.Components.Schemas
	decision, outcome := all["Decision"], all["Outcome"]
	if decision.Properties.byName == nil {
		return nil, errors.New("the document has no schema Decision with properties")
	}
	for _, name := range more.Decision.names {
		// Once the document names it, its description there is the one that counts.
		if _, named := decision.Properties.byName[name]; named {
			return nil, fmt.Errorf("the document names Decision.%s by now: take it out of extra.json", name)
		}
		decision.Properties.names = append(decision.Properties.names, name)
		decision.Properties.byName[name] = more.Decision.byName[name]
	}
	for _, value := range more.Outcome {
		if slices.Contains(outcome.Enum, any(value)) {
			return nil, fmt.Errorf("the document names the outcome %s by now: take it out of extra.json", value)
		}
		outcome.Enum = append(outcome.Enum, value)
	}
	all["Decision"], all["Outcome"] = decision, outcome

	var objects []object
	for _, name := range schemas() {
		s, there := all[name]
		if !there {
			return nil, fmt.Errorf("the document has no schema %s", name)
		}
		o := object{name: name, text: s.Description}
		for _, property := range s.Properties.names {
			m, err := memberOf(all, s.Properties.byName[property])
			if err != nil {
				return nil, fmt.Errorf("%s.%s: %w", name, property, err)
			}
			m.name, m.required = property, slices.Contains(s.Required, property)
			o.members = append(o.members, m)
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// memberOf resolves references and nullable types.
func memberOf(all map[string]schema, s schema) (member, error) {
	if s.Ref != "" {
		name := filepath.Base(s.Ref)
		target, there := all[name]
		if !there {
			return member{}, fmt.Errorf("there is no %s", s.Ref)
		}
		// An object stays a type of its own; other references stand for what they name.
		if target.Type == "object" {
			if !slices.Contains(schemas(), name) {
				return member{}, fmt.Errorf("%s is not among the schemas that are generated", name)
			}
			return member{kind: name, text: s.Description}, nil
		}
		return memberOf(all, target)
	}
	m := member{text: s.Description, nullable: s.Nullable}
	for _, value := range s.Enum {
		if text, is := value.(string); is {
			m.enum = append(m.enum, text)
		}
	}
	switch s.Type {
	case "string", "integer", "number", "boolean":
		m.kind = s.Type
	// An object without a name is the caller's own data, of any form.
	case "", "object":
		m.kind = "any"
	case "array":
		item, err := memberOf(all, *s.Items)
		if err != nil || item.kind != "string" {
			return m, fmt.Errorf("a list of other than texts: %w", err)
		}
		m.kind = "strings"
	default:
		return m, fmt.Errorf("the type %s is not known", s.Type)
	}
	return m, nil
}

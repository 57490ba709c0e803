package main

import (
	"bytes"
	"fmt"
	"go/format"
	"strings"
	"unicode"
)

// header warns people off.
const header = "Generated from server/openapi.json by `make clients`. Do not edit."

// goTypes are unexported, and of the standard library's types alone. What is null or
// absent is the zero value; numbers keep their decimals.
func goTypes(objects []object) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// Code generated from server/openapi.json by `make clients`. DO NOT EDIT.\n\npackage pikarc\n\nimport \"encoding/json\"\n")
	kinds := map[string]string{
		"string": "string", "integer": "int64", "number": "json.Number", "boolean": "bool", "strings": "[]string", "any": "any",
	}
	for _, o := range objects {
		fmt.Fprintf(&b, "\n%stype %s struct {\n", comment("// ", o.name, o.text), lower(o.name))
		for _, m := range o.members {
			kind, known := kinds[m.kind]
			if !known {
				kind = lower(m.kind)
			}
			options := ""
			if !m.required {
				options = ",omitempty"
			}
			fmt.Fprintf(&b, "\t%s %s `json:\"%s%s\"`\n", camel(m.name), kind, m.name, options)
		}
		b.WriteString("}\n")
	}
	return format.Source(b.Bytes())
}

// pythonTypes writes TypedDicts.
func pythonTypes(objects []object) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "\"\"\"What is sent and answered. %s\"\"\"\n\nfrom __future__ import annotations\n\nfrom typing import Any, Literal, NotRequired, TypedDict\n", header)
	kinds := map[string]string{
		"string": "str", "integer": "int", "number": "float", "boolean": "bool", "strings": "list[str]", "any": "Any",
	}
	for _, o := range objects {
		fmt.Fprintf(&b, "\n\nclass %s(TypedDict):\n%s", o.name, docstring(o.text))
		for _, m := range o.members {
			kind, known := kinds[m.kind]
			if !known {
				kind = m.kind
			}
			if len(m.enum) > 0 {
				kind = `Literal["` + strings.Join(m.enum, `", "`) + `"]`
			}
			if m.nullable && kind != "Any" {
				kind += " | None"
			}
			if !m.required {
				kind = "NotRequired[" + kind + "]"
			}
			fmt.Fprintf(&b, "    %s: %s\n", m.name, kind)
		}
	}
	return b.Bytes()
}

// typescriptTypes writes interfaces.
func typescriptTypes(objects []object) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "// What is sent and answered. %s\n", header)
	kinds := map[string]string{"integer": "number", "strings": "string[]", "any": "unknown"}
	for _, o := range objects {
		b.WriteString("\n")
		if o.text != "" {
			fmt.Fprintf(&b, "/** %s */\n", o.text)
		}
		fmt.Fprintf(&b, "export interface %s {\n", o.name)
		for _, m := range o.members {
			kind, known := kinds[m.kind]
			if !known {
				kind = m.kind
			}
			if len(m.enum) > 0 {
				kind = `"` + strings.Join(m.enum, `" | "`) + `"`
			}
			if m.nullable && kind != "unknown" {
				kind += " | null"
			}
			optional := ""
			if !m.required {
				optional = "?"
			}
			fmt.Fprintf(&b, "  %s%s: %s;\n", m.name, optional, kind)
		}
		b.WriteString("}\n")
	}
	return b.Bytes()
}

// docstring writes a description for Python.
func docstring(text string) string {
	if text == "" {
		return ""
	}
	return `    """` + strings.ReplaceAll(text, `"`, "'") + "\"\"\"\n\n"
}

// comment writes a description for Go.
func comment(prefix, name, text string) string {
	if text == "" {
		return ""
	}
	return prefix + lower(name) + ": " + text + "\n"
}

// camel makes a Go name of a member's: review_id is ReviewID.
func camel(name string) (made string) {
	for word := range strings.SplitSeq(name, "_") {
		switch word {
		case "id", "usd":
			made += strings.ToUpper(word)
		default:
			made += string(unicode.ToUpper(rune(word[0]))) + word[1:]
		}
	}
	return made
}

// lower lowers a text's first letter.
func lower(name string) string { return strings.ToLower(name[:1]) + name[1:] }

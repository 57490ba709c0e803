package links

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"strings"
	"unicode"
	"unicode/utf8"
)

//go:embed page.html
var layout string

//go:embed page.css
var style string

// Page is what a link leads to: a question, or a sentence.
type Page struct {
	Title, Text string
	Good        bool // nothing was refused
	Asks        bool // has the form
	Approve     bool // which of the two it asks
	MaxNote     int  // characters of a denial's words
	Facts       []Fact
	Input       string // of the action, by Input
}

// Fact is a line of a page.
type Fact struct{ Name, Value string }

// Add adds a fact whose text may be anybody's; an empty one is left out.
func (p *Page) Add(name, value string) {
	if value != "" {
		p.Facts = append(p.Facts, Fact{name, visible(value)})
	}
}

// HTML writes the page.
func (p Page) HTML() ([]byte, error) {
	t, err := template.New("page").Parse(layout)
	if err != nil {
		return nil, fmt.Errorf("parse the page of a link: %w", err)
	}
	var out bytes.Buffer
	err = t.Execute(&out, struct {
		Page
		Style template.CSS
	}{p, template.CSS(style)}) //nolint:gosec // our own file
	if err != nil {
		return nil, fmt.Errorf("write the page of a link: %w", err)
	}
	return out.Bytes(), nil
}

// SecurityPolicy is the page's Content-Security-Policy: it runs no script, loads
// nothing, and sends its form to this server alone.
func SecurityPolicy() string {
	sum := sha256.Sum256([]byte(style))
	return "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
}

// maxInput is how much of an action's input a page shows, in bytes.
const maxInput = 16 << 10

// Input is an action's input in readable form.
func Input(input []byte) string {
	var out bytes.Buffer
	if len(input) == 0 || json.Indent(&out, input, "", "  ") != nil {
		return ""
	}
	text := out.String()
	if len(text) <= maxInput {
		return visible(text)
	}
	cut := maxInput
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return visible(text[:cut]) + fmt.Sprintf("\n… and %d bytes more: open the dashboard to see all of it", len(text)-cut)
}

// visible writes out what would show a text as another one: control characters,
// and marks that change the direction of what follows or cannot be seen.
func visible(s string) string {
	var b strings.Builder
	for _, r := range s {
		if r != '\n' && r != ' ' && (r == utf8.RuneError || unicode.Is(unicode.Cf, r) || !unicode.IsPrint(r)) {
			fmt.Fprintf(&b, "\\u{%x}", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}

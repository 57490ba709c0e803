package policies

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// written is the JSON form of a policy, in the order people read it.
type written struct {
	Name        string         `json:"name"`
	Description string         `json:"description"`
	Enabled     bool           `json:"enabled"`
	Priority    int64          `json:"priority"`
	Match       writtenMatch   `json:"match"`
	When        string         `json:"when,omitempty"`
	Limit       *writtenLimit  `json:"limit,omitempty"`
	Effect      string         `json:"effect"`
	Message     string         `json:"message"`
	Review      *writtenReview `json:"review,omitempty"`
}

// writtenMatch is the JSON form of Match.
type writtenMatch struct {
	Types  []string          `json:"types,omitempty"`
	Tools  []string          `json:"tools,omitempty"`
	Models []string          `json:"models,omitempty"`
	Users  []string          `json:"users,omitempty"`
	Tags   map[string]string `json:"tags,omitempty"`
}

// writtenLimit is the JSON form of Limit. The amount is written as a number without an exponent.
type writtenLimit struct {
	Measure string          `json:"measure"`
	Per     string          `json:"per"`
	Window  string          `json:"window"`
	Amount  json.RawMessage `json:"amount"`
	Rolling bool            `json:"rolling"`
}

// writtenReview is the JSON form of ReviewTerms.
type writtenReview struct {
	ExpiresSeconds int64  `json:"expires_seconds"`
	Approvals      int64  `json:"approvals"`
	OnExpiry       string `json:"on_expiry"`
}

// MarshalJSON writes the policy as Parse reads it: without its version and id,
// and with every field but a `when`, limit or review that it does not have.
func (p Policy) MarshalJSON() ([]byte, error) {
	out := written{
		Name: p.Name, Description: p.Description, Enabled: p.Enabled, Priority: p.Priority,
		Match: writtenMatch(p.Match), When: p.When, Effect: p.Effect.String(), Message: p.Message,
	}
	if l := p.Limit; l != nil {
		out.Limit = &writtenLimit{
			Measure: l.Measure.String(), Per: l.Per, Window: l.Window.String(), Rolling: l.Rolling,
			Amount: json.RawMessage(l.AmountText()),
		}
	}
	if p.Effect == Review {
		review := writtenReview(p.Review)
		out.Review = &review
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // an expression is full of < and &
	if err := enc.Encode(out); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// JSON is MarshalJSON for those who have nothing to do with an error: there is none.
func (p Policy) JSON() []byte {
	body, err := p.MarshalJSON()
	if err != nil {
		return nil // texts, numbers and lists of them can always be written
	}
	return body
}

// AmountText writes the amount as the API does: dollars, or a count.
func (l *Limit) AmountText() string {
	if l.Measure == MeasureUSD {
		return l.Money().String()
	}
	return strconv.FormatInt(l.Amount, 10)
}

package wire

import (
	"encoding/hex"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/storage"
)

// Answers that agents wait for, and the parts of them that lists repeat, are
// written here piece by piece: encoding/json takes several times as long.

// appendAnswer appends an answer without its closing brace, for what a start or a step adds.
func appendAnswer(b []byte, a storage.Answer) []byte {
	b = AppendID(append(b, `{"id":`...), a.ID)
	b = append(append(b, `,"status":"`...), a.Status...)
	return AppendDecision(append(b, `","decision":`...), a.Decision, false)
}

// EncodeAnswer writes the answer to a start or a heartbeat.
func EncodeAnswer(a storage.Answer) []byte {
	return append(appendAnswer(make([]byte, 0, 256), a), '}')
}

// EncodeStepAnswer adds the review that the step waits for; null for none.
func EncodeStepAnswer(a storage.Answer) []byte {
	b := appendAnswer(make([]byte, 0, 256), a)
	if a.Review == uuid.Nil {
		return append(b, `,"review_id":null}`...)
	}
	return append(AppendID(append(b, `,"review_id":`...), a.Review), '}')
}

// AppendRepaired adds to an object, of which something was repaired, what it was.
func AppendRepaired(object []byte, fields []string) []byte {
	if len(fields) == 0 {
		return object
	}
	b := append(object[:len(object)-1], `,"repaired":`...)
	return append(append(b, MustEncode(fields)...), '}')
}

// WithRepaired makes an encoder say what was repaired.
func WithRepaired(encode func(storage.Answer) []byte, fields []string) func(storage.Answer) []byte {
	if len(fields) == 0 {
		return encode
	}
	return func(a storage.Answer) []byte { return AppendRepaired(encode(a), fields) }
}

// AppendDecision writes a decision; of a DENY also what the objecting rule
// compared, null where it compares nothing, and of a recorded one the rules
// that were looked at.
func AppendDecision(b []byte, d guard.Decision, recorded bool) []byte {
	if !d.Denied() {
		b = append(append(append(b, `{"outcome":"`...), d.Outcome()...), `","reason":null`...)
	} else {
		b = append(append(b, `{"outcome":"DENY","reason":"`...), d.Reason.String()...)
		b = append(b, `","limit":`...)
		b = appendCompared(b, d, d.Limit)
		b = append(b, `,"used":`...)
		b = appendCompared(b, d, d.Used)
		b = append(b, `,"resets_at":`...)
		b = AppendTime(b, d.ResetsAt)
	}
	if d.Policy != nil {
		b = append(append(b, `,"policy_name":`...), MustEncode(d.Policy.Name)...)
		b = append(append(b, `,"message":`...), MustEncode(NullString(d.Policy.Message))...)
	}
	if recorded {
		b = append(b, `,"evaluated":[`...)
		for i, rule := range d.Evaluated {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '"'), rule.String()...), '"')
		}
		for _, name := range d.Policies {
			b = append(append(b, ','), MustEncode(PolicyPrefix+name)...)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// PolicyPrefix stands before the names of policies among what was evaluated.
const PolicyPrefix = "policy:"

// appendCompared appends a limit or what is used of it: money as decimal USD, other limits as
// integers, null for a rule that compares nothing.
func appendCompared(b []byte, d guard.Decision, n int64) []byte {
	switch {
	case d.IsMoney():
		return append(b, plans.Money(n).String()...)
	case d.Reason.HasLimit():
		return strconv.AppendInt(b, n, 10)
	default:
		return append(b, "null"...)
	}
}

// Step is a step in an answer.
type Step storage.Step

// MarshalJSON is append, for lists, which also say what was repaired.
func (s Step) MarshalJSON() ([]byte, error) {
	return AppendRepaired(s.Append(make([]byte, 0, 1024)), s.Repairs.Fields()), nil
}

// Append writes the step, without what was repaired.
func (s Step) Append(b []byte) []byte {
	b = AppendID(append(b, `{"id":`...), s.ID)
	b = strconv.AppendInt(append(b, `,"sequence":`...), s.Sequence, 10)
	b = append(append(b, `,"type":"`...), s.Type.String()...)
	b = append(append(b, `","status":"`...), s.Status.String()...)
	b = appendText(append(b, `","model":`...), s.Model)
	b = appendText(append(b, `,"tool_name":`...), s.ToolName)
	b = appendRaw(append(b, `,"input_data":`...), s.InputData)
	b = appendRaw(append(b, `,"output_data":`...), s.OutputData)
	b = appendText(append(b, `,"error":`...), s.Error)
	// Members that only some steps have are left out of the others, as omitempty would do.
	b = AppendDecision(append(b, `,"decision":`...), s.Decision, true)
	if s.Review != nil {
		b = appendReview(append(b, `,"review":`...), *s.Review)
	}
	if len(s.Grants) > 0 {
		b = appendGrants(append(b, `,"grants":`...), s.Grants)
	}
	b = strconv.AppendInt(append(b, `,"prompt_tokens":`...), s.PromptTokens, 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), s.CompletionTokens, 10)
	b = appendMoney(append(b, `,"cost_usd":`...), s.Cost)
	b = appendMoney(append(b, `,"input_cost_per_token":`...), s.InputPrice)
	b = appendMoney(append(b, `,"output_cost_per_token":`...), s.OutputPrice)
	// A cost of 0 may be a price of 0 or no price; this tells which.
	b = append(append(b, `,"priced":`...), priced(s)...)
	b = appendOrigin(b, s.Price)
	b = appendParts(b, s.Parts)
	if s.UsageData != nil {
		b = append(append(b, `,"usage":`...), s.UsageData...)
	}
	if s.Capped {
		b = append(b, `,"capped":true`...)
	}
	b = AppendTime(append(b, `,"created_at":`...), s.CreatedAt)
	b = AppendTime(append(b, `,"completed_at":`...), s.CompletedAt)
	b = append(b, `,"duration_ms":`...)
	if s.DurationMillis == nil {
		b = append(b, "null"...)
	} else {
		b = strconv.AppendInt(b, *s.DurationMillis, 10)
	}
	return append(b, '}')
}

// appendReview writes what became of the question whether the step may be taken.
func appendReview(b []byte, r storage.StepReview) []byte {
	b = AppendID(append(b, `{"id":`...), r.ID)
	b = append(append(b, `,"policy_name":`...), MustEncode(r.PolicyName)...)
	b = append(append(append(b, `,"status":"`...), r.Resolution.Status()...), '"')
	b = append(append(b, `,"resolution":`...), MustEncode(NullString(r.Resolution.String()))...)
	b = append(append(b, `,"decided_by":`...), MustEncode(NullString(r.DecidedBy))...)
	b = AppendTime(append(b, `,"decided_at":`...), r.DecidedAt)
	b = AppendTime(append(b, `,"expires_at":`...), r.ExpiresAt)
	b = appendText(append(b, `,"note":`...), r.Note)
	return append(b, '}')
}

// appendGrants writes what has let the step pass without asking a person.
func appendGrants(b []byte, grants []storage.StepGrant) []byte {
	for i, g := range grants {
		b = AppendID(append(append(b, "[,"[min(i, 1)]), `{"id":`...), g.ID)
		b = append(append(b, `,"policy_name":`...), MustEncode(g.PolicyName)...)
		b = append(append(append(b, `,"granted_by":`...), MustEncode(NullString(g.GrantedBy))...), '}')
	}
	return append(b, ']')
}

// appendOrigin writes which entry a price is of; all null without one.
func appendOrigin(b []byte, o storage.PriceOrigin) []byte {
	if o.Source == 0 {
		return append(b, `,"price_source":null,"price_name":null,"price_version":null`...)
	}
	b = append(append(b, `,"price_source":"`...), o.Source.String()...)
	if o.Name == "" {
		return append(b, `","price_name":null,"price_version":null`...)
	}
	b = appendText(append(b, `","price_name":`...), &o.Name)
	if o.Version == "" {
		return append(b, `,"price_version":null`...)
	}
	return appendText(append(b, `,"price_version":`...), &o.Version)
}

// appendParts writes what was used beside prompt and completion: nothing where there is nothing of
// it.
func appendParts(b []byte, p storage.Parts) []byte {
	for _, part := range []struct {
		name   string
		tokens int64
	}{
		{`,"cached_tokens":`, p.Cached}, {`,"cache_write_tokens":`, p.CacheWrite},
		{`,"cache_write_1h_tokens":`, p.CacheWrite1h}, {`,"reasoning_tokens":`, p.Reasoning},
	} {
		if part.tokens != 0 {
			b = strconv.AppendInt(append(b, part.name...), part.tokens, 10)
		}
	}
	if p.Tier != 0 {
		b = append(append(append(b, `,"service_tier":"`...), p.Tier.String()...), '"')
	}
	if p.ReportedCost != nil {
		b = appendMoney(append(b, `,"reported_cost_usd":`...), p.ReportedCost)
	}
	return b
}

// priced says whether the step's usage has a price: null while there is none of it.
func priced(s Step) string {
	switch {
	case !s.Booked:
		return "null"
	case s.Cost == nil:
		return "false"
	default:
		return "true"
	}
}

// AppendID writes an id in its 36-character form, between quotes.
func AppendID(b []byte, id uuid.UUID) []byte {
	var text [36]byte
	hex.Encode(text[:], id[:4])
	hex.Encode(text[9:], id[4:6])
	hex.Encode(text[14:], id[6:8])
	hex.Encode(text[19:], id[8:10])
	hex.Encode(text[24:], id[10:])
	text[8], text[13], text[18], text[23] = '-', '-', '-', '-'
	return append(append(append(b, '"'), text[:]...), '"')
}

// AppendTime writes an instant as the API does; the zero time is null.
func AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return append(b, "null"...)
	}
	return t.UTC().AppendFormat(b, `"2006-01-02T15:04:05.000Z"`)
}

// appendText appends a text or null. Plain ASCII, which names nearly always are, needs no escaping.
func appendText(b []byte, text *string) []byte {
	switch {
	case text == nil:
		return append(b, "null"...)
	case request.IsPlainASCII(*text):
		return append(append(append(b, '"'), *text...), '"')
	default:
		return append(b, MustEncode(*text)...)
	}
}

// appendRaw appends JSON that is known to be valid.
func appendRaw(b, raw []byte) []byte {
	if raw == nil {
		return append(b, "null"...)
	}
	return append(b, raw...)
}

// appendMoney appends an amount as a JSON number, or null.
func appendMoney[T interface{ String() string }](b []byte, amount *T) []byte {
	if amount == nil {
		return append(b, "null"...)
	}
	return append(b, (*amount).String()...)
}

package pikarc

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"reflect"
)

// encode makes JSON of a body. What is no JSON becomes its text: describing a call
// never fails it.
func encode(body any) []byte {
	if content, err := marshal(body); err == nil {
		return content
	}
	p := plainer{left: 100_000, around: make(map[uintptr]bool)}
	content, err := marshal(p.plain(reflect.ValueOf(body)))
	if err != nil {
		return []byte("null")
	}
	return content
}

// marshal is json.Marshal, to which a panic in a method of a value is an error.
func marshal(value any) (content []byte, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = fmt.Errorf("%v", problem)
		}
	}()
	return json.Marshal(value)
}

// plainer makes of a value one that is JSON. It stops at what holds itself.
type plainer struct {
	left   int // values that may still be looked at
	around map[uintptr]bool
}

// plain converts a value to what encoding/json can encode, whatever a caller's arguments hold:
// channels and functions become texts, a cycle is cut, and it stops after a bounded number of
// values.
func (p *plainer) plain(v reflect.Value) any {
	if p.left--; !v.IsValid() || p.left < 0 {
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() {
			return nil
		}
		if p.around[v.Pointer()] {
			return "(itself)"
		}
		if v.Kind() != reflect.Slice || v.Len() > 0 { // empty slices may have one address
			p.around[v.Pointer()] = true
			defer delete(p.around, v.Pointer())
		}
	}
	if v.CanInterface() {
		if content, err := marshal(v.Interface()); err == nil {
			return json.RawMessage(content)
		}
	}
	// It is looked into, so that one bad part costs no other.
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		return p.plain(v.Elem())
	case reflect.Map:
		made := make(map[string]any, v.Len())
		for _, key := range v.MapKeys() {
			made[text(key)] = p.plain(v.MapIndex(key))
		}
		return made
	case reflect.Slice, reflect.Array:
		made := make([]any, v.Len())
		for i := range made {
			made[i] = p.plain(v.Index(i))
		}
		return made
	case reflect.Struct:
		made := make(map[string]any, v.NumField())
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() {
				made[field.Name] = p.plain(v.Field(i))
			}
		}
		return made
	}
	return text(v)
}

// text describes what is no JSON, by its kind where its value would be an address.
func text(v reflect.Value) string {
	if v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch v.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64, reflect.Complex64, reflect.Complex128,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return fmt.Sprint(v)
	}
	return fmt.Sprintf("(%s)", v.Type())
}

// maxPayload is the size beyond which a payload is described instead of sent.
const maxPayload = 4 << 20

// payload encodes a value as it is sent: one that is too large by its size and its beginning, as
// the server would keep it.
func payload(value any) any {
	if value == nil {
		return nil
	}
	content := encode(value)
	if len(content) <= maxPayload {
		return json.RawMessage(content)
	}
	return map[string]any{"omitted_bytes": len(content), "preview": string(content[:1000])}
}

// newKey returns an idempotency key: a request that is sent again gets its first answer.
func newKey() string { return rand.Text() }

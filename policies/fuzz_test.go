package policies_test

import (
	"encoding/json"
	"errors"
	"runtime/metrics"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/pikarc/server/policies"
)

// Whatever is sent, the answer is a policy that reads back the same, or a list
// of problems.
func FuzzParse(f *testing.F) {
	f.Add("refunds", []byte(full))
	for _, p := range policies.Ready() {
		f.Add("", p.JSON())
	}
	f.Add("x", []byte(`{"effect":"deny","limit":{"measure":"calls","per":"tag:a","window":"hour","amount":"5e2"}}`))
	f.Add("x", []byte(`{"effect":"deny","match":{"tags":{"a\u0000":"*"},"tools":["*a*"]},"when":"run.spent_usd>usd(1)"}`))
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		p, err := policies.Parse(name, body)
		if err != nil {
			var invalid *policies.Invalid
			if !errors.As(err, &invalid) || len(invalid.Problems) == 0 {
				t.Fatalf("%v is no list of problems", err)
			}
			return
		}
		again, err := policies.Parse(name, p.JSON())
		if err != nil {
			t.Fatalf("%s: %v", p.JSON(), err)
		}
		if diff := cmp.Diff(p, again); diff != "" {
			t.Fatalf("%s reads back as another: -first +second\n%s", p.JSON(), diff)
		}
	})
}

// allocated is how much memory the process has ever asked for.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// maxAllocated is what one evaluation may allocate, garbage included: the cost
// limit bounds it, and nothing else does.
const maxAllocated = 64 << 20

// An expression that is accepted can be evaluated over anything an agent sends,
// within its bounds; the test's own timeout shows if it takes too long.
func FuzzHolds(f *testing.F) {
	input := `{"amount": 120.5, "items": [{"price": 1}], "text": "aaaa", "a": {"b": [1, "2", null, true]}}`
	for _, when := range []string{
		`input.amount > 100 && !(input.currency in ['EUR'])`,
		`usd(input.amount) > run.spent_usd + usd("0.1")`,
		`input.items.exists(i, i.price > 20)`,
		`input.a.b.map(x, [x, x]).all(y, size(y) == 2)`,
		`input.text.matches("(a+)+$")`,
		`now.getHours("Europe/Berlin") >= 22 || run.steps % 7 == 3`,
		`tags.agent.startsWith("b") ? has(metadata.x) : input.?a.?b[0].orValue(1) == 1`,
		`(input.text + input.text + input.text).size() > 3`,
		`duration("1h") < now - run.started_at`,
		`input.items.filter(i, i.price > 0).size() * 1000000007 > 3`,
		`string(input.amount).contains("1") && int(input.amount) < 200`,
	} {
		f.Add(when, []byte(input))
	}
	f.Fuzz(evaluateBounded)
}

// compiles returns a set of one policy with the expression, and nil where it is refused.
func compiles(t *testing.T, when string) *policies.Set {
	body, err := json.Marshal(map[string]any{"effect": "deny", "when": when})
	if err != nil {
		t.Fatal(err)
	}
	p, err := policies.Parse("x", body)
	if err != nil {
		return nil
	}
	set, err := policies.Compile([]policies.Policy{p})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// interrupted reports whether an evaluation met its deadline.
func interrupted(err error) bool {
	return err != nil && strings.Contains(err.Error(), "interrupted")
}

// evaluateBounded evaluates an expression twice, if it is accepted.
func evaluateBounded(t *testing.T, when string, input []byte) {
	set := compiles(t, when)
	if set == nil {
		return
	}
	facts := someFacts()
	facts.Input = input
	for _, r := range set.Rules() {
		before := allocated()
		first, firstErr := r.Holds(t.Context(), facts)
		if n := allocated() - before; n > maxAllocated {
			t.Errorf("%q over %d bytes allocates %d bytes", when, len(input), n)
		}
		second, secondErr := r.Holds(t.Context(), facts)
		if interrupted(firstErr) || interrupted(secondErr) {
			continue // the machine is busy
		}
		if first != second || (firstErr == nil) != (secondErr == nil) {
			t.Errorf("%q: first %v, %v, then %v, %v", when, first, firstErr, second, secondErr)
		}
		if firstErr != nil && first {
			t.Errorf("%q: it holds, and errs: %v", when, firstErr)
		}
	}
}

package outcomes_test

import (
	"math"
	"slices"
	"testing"

	"github.com/pikarc/server/storage/outcomes"
)

// What is written is read again, and is the text that SQL expects.
func TestTextsAreReadAsTheyWereWritten(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		all  []outcomes.Outcome
		text string
	}{
		{nil, ""},
		{[]outcomes.Outcome{{Policy: 7, Outcome: 1}}, `[[7,1]]`},
		{
			[]outcomes.Outcome{
				{Policy: 1, Outcome: 4},
				{Policy: math.MaxInt64, Outcome: 1, Measure: 3, CountsFrom: 2, Scope: "12", Bucket: 1_793_404_800_000},
				{Policy: 3, Outcome: 2, Measure: 1, CountsFrom: 1, Bucket: -1},
			},
			`[[1,4],[9223372036854775807,1,3,2,"12",1793404800000],[3,2,1,1,"",-1]]`,
		},
		{
			[]outcomes.Outcome{{Policy: 1, Outcome: 1, Measure: 2, CountsFrom: 1, Scope: "a \"b\" \\ <é>\n"}},
			`[[1,1,2,1,"a \"b\" \\ \u003cé\u003e\n",0]]`,
		},
	} {
		if got := outcomes.Encode(c.all); got != c.text {
			t.Errorf("wrote %s, want %s", got, c.text)
		}
		if got, err := outcomes.Decode(c.text); err != nil || !slices.Equal(got, c.all) {
			t.Errorf("read %+v, %v, want %+v", got, err, c.all)
		}
	}
}

// What is no such text is an error, and not a call that nothing counts.
func TestOtherTextsAreErrors(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"[", "{}", "[7]", `[["x",1]]`, "[[1,2,3,4,5,6]]"} {
		if all, err := outcomes.Decode(text); err == nil {
			t.Errorf("%s was read as %+v", text, all)
		}
	}
}

package report

import (
	"math"
	"strings"
	"testing"
)

func TestTheMedianIsTheMiddle(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Summary
	}{
		{[]float64{3, 1, 2}, Summary{1, 2, 3}},
		{[]float64{4, 1, 2, 3}, Summary{1, 2.5, 4}},
		{[]float64{7}, Summary{7, 7, 7}},
	} {
		if got := Summarize(c.values); got != c.want {
			t.Errorf("%v: %v, want %v", c.values, got, c.want)
		}
	}
	if got := Summarize(nil); !math.IsNaN(got.Median) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestWhatWasNotMeasuredIsLeftOutOfTheMedian(t *testing.T) {
	same := func(v float64) float64 { return v }
	if got := Median([]float64{math.NaN(), 3, 1, 2}, same); got != 2 {
		t.Errorf("%v", got)
	}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		goal Goal
		want string
	}{
		{Goal{Value: 0.31, Goal: 0.3, Floor: 0.2, Higher: true}, "goal reached"},
		{Goal{Value: 0.3, Goal: 0.3, Floor: 0.2, Higher: true}, "goal reached"},
		{Goal{Value: 0.29, Goal: 0.3, Floor: 0.2, Higher: true}, "above the floor"},
		{Goal{Value: 0.19, Goal: 0.3, Floor: 0.2, Higher: true}, "BELOW THE FLOOR"},
		{Goal{Value: 3, Goal: 3, Floor: 5}, "goal reached"},
		{Goal{Value: 4, Goal: 3, Floor: 5}, "above the floor"},
		{Goal{Value: 6, Goal: 3, Floor: 5}, "BELOW THE FLOOR"},
		{Goal{Value: math.NaN(), Goal: 3, Floor: 5}, "not measured"},
	} {
		if got := c.goal.Verdict(); got != c.want {
			t.Errorf("%+v: %s, want %s", c.goal, got, c.want)
		}
	}
}

func TestColumnsAreAligned(t *testing.T) {
	table := Table{Columns: []string{"name", "a", "bb"}}
	table.Add("größe", "12345", "1")
	table.Add("x", "1")
	var b strings.Builder
	if err := table.Write(&b); err != nil {
		t.Fatal(err)
	}
	const want = "name       a  bb\n-----  -----  --\ngröße  12345   1\nx          1\n\n"
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestNumbersHaveThreeDigitsThatCount(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.0314: "0.031", 0.5: "0.500", 3.14159: "3.14", 31.4159: "31.4", 314.159: "314", 3141.59: "3142",
		31415.9: "31,416", 1234567: "1,234,567", -12345: "-12,345", 12: "12", math.NaN(): "-", math.Inf(1): "-",
	} {
		if got := Number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// Package report turns what rounds measured into tables and verdicts.
package report

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Summary is the minimum, median and maximum of what the rounds measured.
type Summary struct {
	Min    float64 `json:"min"`
	Median float64 `json:"median"`
	Max    float64 `json:"max"`
}

// Summarize returns the summary of the values; all NaN if there are none.
func Summarize(values []float64) Summary {
	if len(values) == 0 {
		return Summary{math.NaN(), math.NaN(), math.NaN()}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := sorted[len(sorted)/2]
	if len(sorted)%2 == 0 {
		middle = (middle + sorted[len(sorted)/2-1]) / 2
	}
	return Summary{sorted[0], middle, sorted[len(sorted)-1]}
}

// Goal is what the project promises of a figure: at most Goal, or at least Goal if Higher. Floor is
// the worst value that is acceptable.
type Goal struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit,omitempty"`
	Value  float64 `json:"value"`
	Goal   float64 `json:"goal"`
	Floor  float64 `json:"floor"`
	Higher bool    `json:"higher_is_better"`
}

// Verdict compares the value with the goal and the floor.
func (g Goal) Verdict() string {
	value, goal, floor := g.Value, g.Goal, g.Floor
	if g.Higher {
		value, goal, floor = -value, -goal, -floor
	}
	switch {
	case math.IsNaN(value):
		return "not measured"
	case value <= goal:
		return "goal reached"
	case value <= floor:
		return "above the floor"
	default:
		return "BELOW THE FLOOR"
	}
}

// Goals prints a line for each goal that was measured.
func Goals(w io.Writer, goals []Goal) error {
	t := Table{Columns: []string{"goal", "measured", "goal", "floor", ""}}
	for _, g := range goals {
		if !math.IsNaN(g.Value) {
			t.Add(g.Name, Number(g.Value)+g.Unit, Number(g.Goal)+g.Unit, Number(g.Floor)+g.Unit,
				g.Verdict())
		}
	}
	return t.Write(w)
}

// Table is a text table. The first column is left-aligned, the others right-aligned.
type Table struct {
	Columns []string
	rows    [][]string
}

// Add adds a row, which may have fewer cells than there are columns.
func (t *Table) Add(cells ...string) { t.rows = append(t.rows, cells) }

// Write prints the table; nothing when it has no rows.
func (t *Table) Write(w io.Writer) error {
	if len(t.rows) == 0 {
		return nil
	}
	widths := make([]int, len(t.Columns))
	for _, row := range slices.Concat([][]string{t.Columns}, t.rows) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	rule := make([]string, len(widths))
	for i, n := range widths {
		rule[i] = strings.Repeat("-", n)
	}
	for _, row := range slices.Concat([][]string{t.Columns, rule}, t.rows) {
		if _, err := fmt.Fprintln(w, line(row, widths)); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// line writes a row: the first column to the left, numbers to the right.
func line(row []string, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
		if i == 0 {
			b.WriteString(cell + gap)
		} else {
			b.WriteString("  " + gap + cell)
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// Number formats a figure with three significant digits; "-" if it is NaN or infinite.
func Number(v float64) string {
	switch size := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return "-"
	case size >= 10_000:
		return thousands(v)
	case size >= 100 || v == math.Trunc(v):
		return fmt.Sprintf("%.0f", v)
	case size >= 10:
		return fmt.Sprintf("%.1f", v)
	case size >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// thousands writes an integer with commas.
func thousands(v float64) string {
	digits := fmt.Sprintf("%.0f", v)
	for i := len(digits) - 3; i > 0 && digits[i-1] != '-'; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

// Median is the median of f over the items, without those for which f is NaN; NaN if none is left.
func Median[T any](items []T, f func(T) float64) float64 {
	return Summarize(Values(items, f)).Median
}

// Values returns f of each item, without NaN.
func Values[T any](items []T, f func(T) float64) (values []float64) {
	for _, item := range items {
		if v := f(item); !math.IsNaN(v) {
			values = append(values, v)
		}
	}
	return values
}

package load

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEveryValueLiesInItsBucket(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 1000, 123_456, 1 << 40, 1<<63 - 1} {
		b := bucketOf(v)
		if upperBound(b) < v || b > 0 && upperBound(b-1) >= v {
			t.Errorf("%d is put in bucket %d: (%d, %d]", v, b, upperBound(b-1), upperBound(b))
		}
	}
}

func TestQuantilesAreThoseOfTheSortedValues(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var h Histogram
	var all []time.Duration
	for range 10_000 {
		d := time.Duration(r.ExpFloat64() * float64(time.Millisecond))
		h.Add(d)
		all = append(all, d)
	}
	slices.Sort(all)
	for q, rank := range map[float64]int{0.5: 5000, 0.99: 9900, 0.999: 9990, 1: 10_000} {
		want, got := all[rank-1], h.Quantile(q)
		if got < want || got > want+want/precision+1 {
			t.Errorf("quantile %v is %v, want %v", q, got, want)
		}
	}
	if h.Max() != all[len(all)-1] {
		t.Errorf("max is %v, want %v", h.Max(), all[len(all)-1])
	}
}

func TestAnEmptyHistogramHasNoQuantiles(t *testing.T) {
	var h Histogram
	if h.Quantile(0.5) != 0 || h.Count() != 0 {
		t.Errorf("quantile %v of %d values", h.Quantile(0.5), h.Count())
	}
}

func TestMergedHistogramsCountEverything(t *testing.T) {
	var a, b Histogram
	a.Add(time.Millisecond)
	b.Add(time.Second)
	b.Add(-time.Second)
	a.Merge(&b)
	if a.Count() != 3 || a.Max() != time.Second || a.Quantile(0.1) != 0 {
		t.Errorf("count %d, max %v, lowest %v", a.Count(), a.Max(), a.Quantile(0.1))
	}
}

package load

import (
	"math/bits"
	"time"
)

// precision is the number of buckets in each doubling: values are kept to 1/64.
const (
	precisionBits = 6
	precision     = 1 << precisionBits
)

// Histogram counts durations in buckets that grow with the value, so that it
// holds millions of them without an allocation. The zero value is empty.
type Histogram struct {
	buckets [(64 - precisionBits + 1) * precision]int64
	count   int64
	max     time.Duration
}

// Add counts a duration; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.buckets[bucketOf(uint64(d))]++
	h.count++
	h.max = max(h.max, d)
}

// Merge adds what another histogram counted.
func (h *Histogram) Merge(other *Histogram) {
	for i, n := range other.buckets {
		h.buckets[i] += n
	}
	h.count += other.count
	h.max = max(h.max, other.max)
}

// Count is how many durations were added.
func (h *Histogram) Count() int64 { return h.count }

// Max is the longest duration, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is a duration that the part q of all does not exceed, at most 1/64
// too high; 0 when there are none.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.count == 0 {
		return 0
	}
	rank := int64(q * float64(h.count))
	if float64(rank) < q*float64(h.count) {
		rank++
	}
	rank = min(max(rank, 1), h.count)
	var seen int64
	for i, n := range h.buckets {
		if seen += n; seen >= rank {
			return min(time.Duration(upperBound(i)), h.max)
		}
	}
	return h.max
}

// bucketOf numbers the bucket of a value: exact below 2*precision, then
// precision buckets for each power of two.
func bucketOf(v uint64) int {
	if v < 2*precision {
		return int(v)
	}
	shift := bits.Len64(v) - precisionBits - 1
	return shift*precision + int(v>>shift)
}

// upperBound is the largest value of a bucket.
func upperBound(bucket int) uint64 {
	if bucket < 2*precision {
		return uint64(bucket)
	}
	shift := bucket/precision - 1
	return (uint64(bucket%precision+precision)+1)<<shift - 1
}

package limit

import (
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// limitedSubjects bounds a limiter's memory: the subject heard from longest ago is forgotten first.
const limitedSubjects = 50_000

// rateBurst is for how many seconds' worth of requests a subject may come at once.
const rateBurst = 2

// Rate lets each subject make so many requests a second. A nil one lets all through.
type Rate[K comparable] struct {
	now    func() time.Time
	limit  rate.Limit
	burst  int
	mu     sync.Mutex
	bucket *lru.LRU[K, *rate.Limiter]
}

// NewRate makes one for requests; nil when there is no limit.
func NewRate[K comparable](perSecond int, now func() time.Time) *Rate[K] {
	if perSecond <= 0 {
		return nil
	}
	return newRate[K](rate.Limit(perSecond), rateBurst*perSecond, now)
}

// newRate returns a limiter of so many events a second for each key, with so many at once. It
// remembers the keys seen last; one that was forgotten begins with a full bucket.
func newRate[K comparable](limit rate.Limit, burst int, now func() time.Time) *Rate[K] {
	buckets, err := lru.NewLRU[K, *rate.Limiter](limitedSubjects, nil)
	if err != nil {
		panic(err) // only of a size that is not positive
	}
	return &Rate[K]{now: now, limit: limit, burst: burst, bucket: buckets}
}

// Wait takes one request of a subject's, or says how long until it has one. A
// request that is turned away takes nothing.
func (l *Rate[K]) Wait(subject K) time.Duration {
	if l == nil {
		return 0
	}
	_, wait := l.take(subject, l.now())
	return wait
}

// take is wait at a moment. What it took can be given back by CancelAt that
// same moment; it is nil when the subject has to wait.
func (l *Rate[K]) take(subject K, now time.Time) (*rate.Reservation, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.bucket.Get(subject)
	if !known {
		b = rate.NewLimiter(l.limit, l.burst)
		l.bucket.Add(subject, b)
	}
	taken := b.ReserveN(now, 1)
	if wait := taken.DelayFrom(now); wait > 0 {
		taken.CancelAt(now)
		return nil, wait
	}
	return taken, 0
}

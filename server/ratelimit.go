package server

import (
	"net/http"
	"net/netip"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// limitedSubjects bounds a limiter's memory: the subject heard from longest ago is forgotten first.
const limitedSubjects = 50_000

// rateBurst is for how many seconds' worth of requests a subject may come at once.
const rateBurst = 2

// rateLimiter lets each subject make so many requests a second. A nil one lets all through.
type rateLimiter[K comparable] struct {
	now    func() time.Time
	limit  rate.Limit
	mu     sync.Mutex
	bucket *lru.LRU[K, *rate.Limiter]
}

func newRateLimiter[K comparable](perSecond int, now func() time.Time) *rateLimiter[K] {
	if perSecond <= 0 {
		return nil
	}
	buckets, err := lru.NewLRU[K, *rate.Limiter](limitedSubjects, nil)
	if err != nil {
		panic(err) // only of a size that is not positive
	}
	return &rateLimiter[K]{now: now, limit: rate.Limit(perSecond), bucket: buckets}
}

// wait takes one request of a subject's, or says how long until it has one. A
// request that is turned away takes nothing.
func (l *rateLimiter[K]) wait(subject K) time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b, known := l.bucket.Get(subject)
	if !known {
		b = rate.NewLimiter(l.limit, rateBurst*int(l.limit))
		l.bucket.Add(subject, b)
	}
	now := l.now()
	taken := b.ReserveN(now, 1)
	wait := taken.DelayFrom(now)
	if wait > 0 {
		taken.CancelAt(now)
	}
	return wait
}

// limitAddress turns away an address that asks for too much. This machine is
// not limited: an agent beside its server may ask as fast as it can.
func (s *Server) limitAddress(c *call) error {
	if !c.from.IsValid() {
		return nil
	}
	near := c.from.IsLoopback() || c.from.IsPrivate()
	if near && len(s.TrustedProxies) == 0 && forwarded(c.r) {
		s.hintAtProxy.Do(func() {
			s.Log.Warn("a proxy seems to stand before this server: name it with --trusted-proxies, or all its clients look like one",
				"address", c.remote())
		})
	}
	if c.from.IsLoopback() {
		return nil
	}
	return tooMany(s.addresses.wait(neighbourhood(c.from)), "this address")
}

// limitKey turns away an API key that asks for too much. It is asked after the
// key has proven right, so that nobody can use up another's share.
func (s *Server) limitKey(c *call) error {
	if !c.who.byKey || c.from.IsLoopback() {
		return nil
	}
	return tooMany(s.keys.wait(c.who.prefix), "this API key")
}

func tooMany(wait time.Duration, whose string) error {
	if wait <= 0 {
		return nil
	}
	return retryLater(http.StatusTooManyRequests, "Too many requests from "+whose+". Nothing was recorded; slow down.", seconds(wait))
}

// The limiters of a server.
type limiters struct {
	addresses *rateLimiter[netip.Prefix]
	keys      *rateLimiter[string]
}

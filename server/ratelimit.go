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
	burst  int
	mu     sync.Mutex
	bucket *lru.LRU[K, *rate.Limiter]
}

// newRateLimiter makes one for requests; nil when there is no limit.
func newRateLimiter[K comparable](perSecond int, now func() time.Time) *rateLimiter[K] {
	if perSecond <= 0 {
		return nil
	}
	return newLimiter[K](rate.Limit(perSecond), rateBurst*perSecond, now)
}

func newLimiter[K comparable](limit rate.Limit, burst int, now func() time.Time) *rateLimiter[K] {
	buckets, err := lru.NewLRU[K, *rate.Limiter](limitedSubjects, nil)
	if err != nil {
		panic(err) // only of a size that is not positive
	}
	return &rateLimiter[K]{now: now, limit: limit, burst: burst, bucket: buckets}
}

// wait takes one request of a subject's, or says how long until it has one. A
// request that is turned away takes nothing.
func (l *rateLimiter[K]) wait(subject K) time.Duration {
	if l == nil {
		return 0
	}
	_, wait := l.take(subject, l.now())
	return wait
}

// take is wait at a moment. What it took can be given back by CancelAt that
// same moment; it is nil when the subject has to wait.
func (l *rateLimiter[K]) take(subject K, now time.Time) (*rate.Reservation, time.Duration) {
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

// limitAddress turns away an address that asks for too much. This machine is
// not limited: an agent beside its server may ask as fast as it can.
func (s *Server) limitAddress(c *call) error {
	if !c.from.IsValid() {
		return nil
	}
	s.hintAtUnnamedProxy(c)
	if c.from.IsLoopback() {
		return nil
	}
	return tooMany(s.addresses.wait(neighbourhood(c.from)), "this address")
}

// hintAtUnnamedProxy says in the log, once, that a proxy forwards whose word is
// not taken: all its clients then share its address, and whatever is counted by address.
func (s *Server) hintAtUnnamedProxy(c *call) {
	near := c.from.IsLoopback() || c.from.IsPrivate()
	if !near || !forwarded(c.r) {
		return
	}
	if peer, err := netip.ParseAddrPort(c.r.RemoteAddr); err != nil || trusted(s.TrustedProxies, plainAddr(peer.Addr())) {
		return
	}
	s.hintAtProxy.Do(func() {
		s.Log.Warn("a proxy seems to stand before this server: name it with --trusted-proxies, or all its clients look like one",
			"address", c.remote())
	})
}

// limitKey turns away an API key that asks for too much. It is asked after the
// key has proven right, so that nobody can use up another's share.
func (s *Server) limitKey(c *call) error {
	if !c.who.byKey() || c.from.IsLoopback() {
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

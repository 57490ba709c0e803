package server

import (
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	loginFailures = 10
	loginWindow   = 15 * time.Minute
	// loginSubjects bounds the limiter's memory; beyond it half of the windows are forgotten.
	loginSubjects = 100_000
)

// loginLimiter counts failed logins by email and by address. An attempt
// counts from its beginning, so that parallel guesses cannot slip through.
type loginLimiter struct {
	now      func() time.Time
	mu       sync.Mutex
	attempts map[string][]time.Time // by subject, oldest first, at most loginFailures each
}

func newLoginLimiter(now func() time.Time) *loginLimiter {
	return &loginLimiter{now: now, attempts: make(map[string][]time.Time)}
}

// loginAttempt is one that counts as failed until it is forgiven.
type loginAttempt struct {
	limiter  *loginLimiter
	subjects []string
	at       time.Time
}

// begin counts an attempt, or says how long to wait first.
func (l *loginLimiter) begin(email, address string) (*loginAttempt, time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := &loginAttempt{limiter: l, at: l.now(), subjects: []string{"email:" + strings.ToLower(email), "address:" + address}}
	for _, subject := range a.subjects {
		recent := l.recent(subject, a.at)
		if len(recent) >= loginFailures {
			return nil, recent[0].Add(loginWindow).Sub(a.at)
		}
	}
	for _, subject := range a.subjects {
		l.attempts[subject] = append(l.recent(subject, a.at), a.at)
	}
	if len(l.attempts) > loginSubjects {
		l.shrink(a.at)
	}
	return a, 0
}

// forgive takes the attempt back.
func (a *loginAttempt) forgive() {
	l := a.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, subject := range a.subjects {
		times := l.attempts[subject]
		for i, at := range times {
			if at.Equal(a.at) {
				l.set(subject, append(times[:i:i], times[i+1:]...))
				break
			}
		}
	}
}

// recent drops what is older than the window, and what a clock set back has left in the future.
func (l *loginLimiter) recent(subject string, now time.Time) []time.Time {
	times := l.attempts[subject]
	for len(times) > 0 && (now.Sub(times[0]) >= loginWindow || times[0].After(now)) {
		times = times[1:]
	}
	return times
}

func (l *loginLimiter) set(subject string, times []time.Time) {
	if len(times) == 0 {
		delete(l.attempts, subject)
		return
	}
	l.attempts[subject] = times
}

// shrink forgets the subjects whose window is over, and, if that is not
// enough, half of the others, so that a flood of made-up emails is bounded.
func (l *loginLimiter) shrink(now time.Time) {
	for subject := range l.attempts {
		l.set(subject, l.recent(subject, now))
	}
	for subject := range l.attempts {
		if len(l.attempts) <= loginSubjects/2 {
			return
		}
		delete(l.attempts, subject)
	}
}

// seconds writes a wait for Retry-After, rounded up.
func seconds(wait time.Duration) string {
	return strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10)
}

package limit

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"
)

// Wrong passwords slow down whoever sends them, and shut nobody out.
//
// They are counted for an email and a network together, so that nobody can
// close an account's door from elsewhere. An address from which the account has
// signed in before is counted alone, so that its neighbours cannot either. A
// network that tries many emails is slowed down as a whole, but for those
// addresses. No wait is longer than some seconds: behind a proxy that is not
// named all people share one address, and a right password must pass there too.
const (
	failureWindow = 15 * time.Minute

	pairFailures = 10 // for an email from a network
	pairPause    = 8 * time.Second

	networkFailures = 100 // from a network, for any emails
	networkPause    = time.Second
)

// Logins counts failed attempts. An attempt counts from its beginning,
// so that parallel guesses cannot slip through.
type Logins struct {
	now             func() time.Time
	pairs, networks failureLimiter
}

// NewLogins counts none yet.
func NewLogins(now func() time.Time) *Logins {
	return &Logins{
		now:      now,
		pairs:    newFailureLimiter(pairFailures, pairPause, now),
		networks: newFailureLimiter(networkFailures, networkPause, now),
	}
}

// failureLimiter lets a subject fail so many times in failureWindow, and then
// once after each pause.
type failureLimiter struct{ window, paused *Rate[string] }

// newFailureLimiter allows some failures in a window; whoever has used them up may try once every
// pause.
func newFailureLimiter(failures int, pause time.Duration, now func() time.Time) failureLimiter {
	return failureLimiter{
		window: newRate[string](rate.Limit(float64(failures)/failureWindow.Seconds()), failures,
			now),
		paused: newRate[string](rate.Every(pause), 1, now),
	}
}

// take counts an attempt, or says how long to wait first.
func (f failureLimiter) take(
	subject string, now time.Time,
) (taken []*rate.Reservation, wait time.Duration) {
	window, windowWait := f.window.take(subject, now)
	paused, pausedWait := f.paused.take(subject, now)
	if windowWait > 0 && pausedWait > 0 {
		return nil, min(windowWait, pausedWait)
	}
	return append(present(window), present(paused)...), 0
}

// present is a list of r, if there is one.
func present(r *rate.Reservation) []*rate.Reservation {
	if r == nil {
		return nil
	}
	return []*rate.Reservation{r}
}

// Reservation is an attempt that counts as failed until it is canceled.
type Reservation struct {
	at    time.Time
	taken []*rate.Reservation
}

// Attempt is what an attempt to prove a password is counted for.
type Attempt struct {
	// Account is what was named: an email, or the id of who is signed in.
	Account string
	// Version changes with the password, which makes a new account of it here:
	// so a password that was set anew has no failures, whichever process set it.
	Version int64
	Address netip.Addr
	// Known says that the account has signed in from the address before.
	Known bool
}

// Begin counts an attempt, or says how long to wait first.
func (l *Logins) Begin(by Attempt) (*Reservation, time.Duration) {
	a := &Reservation{at: l.now()}
	from := Subnet(by.Address)
	if by.Known {
		from = ClientNetwork(by.Address)
	}
	account := strings.ToLower(by.Account) + "/" + strconv.FormatInt(by.Version, 10)
	taken, wait := l.pairs.take(account+" from "+from.String(), a.at)
	if wait > 0 {
		return nil, wait
	}
	a.taken = taken
	// This machine, or all clients of a proxy that is not named
	if by.Known || by.Address.IsLoopback() {
		return a, 0
	}
	if taken, wait = l.networks.take(from.String(), a.at); wait > 0 {
		a.Cancel()
		return nil, wait
	}
	a.taken = append(a.taken, taken...)
	return a, 0
}

// Cancel takes the attempt back.
func (a *Reservation) Cancel() {
	for _, r := range a.taken {
		r.CancelAt(a.at)
	}
}

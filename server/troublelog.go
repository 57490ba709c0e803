package server

import (
	"sync"
	"time"
)

// troubleEvery is how often one kind of trouble is written to the log: a full
// disk has every request fail, and the log is often on that disk.
const troubleEvery = time.Minute

// troubleLog remembers when each kind of trouble was last logged. Kinds are the
// few sentences of the error table.
type troubleLog struct {
	mu    sync.Mutex
	kinds map[string]*trouble
}

type trouble struct {
	logged  time.Time
	skipped int // requests since
}

// due reports whether this kind is to be logged now, and how many requests had
// it since it last was.
func (l *troubleLog) due(kind string, now time.Time) (due bool, skipped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = make(map[string]*trouble)
	}
	t := l.kinds[kind]
	if t != nil {
		if since := now.Sub(t.logged); since >= 0 && since < troubleEvery {
			t.skipped++
			return false, 0
		}
		skipped = t.skipped
	}
	l.kinds[kind] = &trouble{logged: now}
	return true, skipped
}

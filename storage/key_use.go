package storage

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// keyUse remembers when keys were last used, until RecordKeyUse writes it. So
// the use of a key costs a call two atomic reads, and the file a small write a
// minute for all keys together.
type keyUse struct{ keys sync.Map } // KeyID to *lastUse

// lastUse counts in minutes since 1970.
type lastUse struct{ minute, written atomic.Int64 }

const millisPerMinute = 60_000

// KeyUsed records that a call was made with a key, to the minute.
func (s *Store) KeyUsed(id KeyID) {
	found, known := s.keyUse.keys.Load(id)
	if !known {
		found, _ = s.keyUse.keys.LoadOrStore(id, &lastUse{})
	}
	use := found.(*lastUse)
	minute := s.now().UnixMilli() / millisPerMinute
	if use.minute.Load() < minute {
		use.minute.Store(minute) // two at once differ by a minute at most
	}
}

// last is when a key was last used, as far as is remembered.
func (u *keyUse) last(id KeyID) time.Time {
	if found, known := u.keys.Load(id); known {
		return time.UnixMilli(found.(*lastUse).minute.Load() * millisPerMinute).UTC()
	}
	return time.Time{}
}

// keyUsed is a key's use that is to be written.
type keyUsed struct {
	id     KeyID
	minute int64
	use    *lastUse
}

// pending lists what is to be written, and forgets keys that were not used lately.
func (u *keyUse) pending(now time.Time) (list []keyUsed) {
	const remembered = 60 // minutes
	current := now.UnixMilli() / millisPerMinute
	u.keys.Range(func(key, value any) bool {
		use := value.(*lastUse)
		minute := use.minute.Load()
		switch {
		case minute != use.written.Load():
			list = append(list, keyUsed{key.(KeyID), minute, use})
		case minute < current-remembered:
			u.keys.CompareAndDelete(key, value)
		}
		return true
	})
	return list
}

// RecordKeyUse writes when keys were last used, and returns of how many. What
// it has not come to when it fails is written by the next call.
func (s *Store) RecordKeyUse(ctx context.Context) (recorded int, err error) {
	list := s.keyUse.pending(s.now())
	for recorded < len(list) {
		done := recorded
		err := s.slice(ctx, dropping, func(tx *Tx) (bool, error) {
			if done == len(list) {
				return false, nil
			}
			_, err := tx.exec(`UPDATE api_keys SET last_used_at = $2 WHERE id = $1 AND coalesce(last_used_at, 0) < $2`,
				list[done].id, list[done].minute*millisPerMinute)
			done++
			return err == nil, err
		})
		if err != nil {
			return recorded, fmt.Errorf("record when keys were used: %w", err)
		}
		for ; recorded < done; recorded++ {
			list[recorded].use.written.Store(list[recorded].minute)
		}
	}
	return recorded, nil
}

package storage

import (
	"context"
	"time"
)

// A start that is denied makes its user known, so that whoever sends names
// could fill the table with them. Retention deletes a user of whom nothing is
// left: no run, none ever allowed (so no figure either), and no block.

// unusedUser is a user who looked unused.
type unusedUser struct {
	idKey
	name string
}

// unused is what holds of an unused user u.
const unused = `u.run_count = 0 AND u.blocked_at IS NULL
	AND NOT EXISTS (SELECT 1 FROM runs r WHERE r.workspace_id = u.workspace_id AND r.user_id = u.id)`

// expireUsers deletes unused users whom nobody has seen for the time that their
// workspace keeps history. Readers look for them, so that the writer is only
// asked for those that there are.
func (s *Store) expireUsers(ctx context.Context, kept []retention) error {
	days := make(map[WorkspaceKey]int64, len(kept))
	for _, k := range kept {
		days[k.ws] = k.days
	}
	for after := int64(0); ; {
		found, last, err := s.unusedUsers(ctx, after)
		if err != nil || last == after {
			return err
		}
		after = last
		for len(found) > 0 {
			err := s.slice(ctx, dropping, func(tx *Tx) (bool, error) {
				if len(found) == 0 {
					return false, nil
				}
				u := found[0]
				found = found[1:]
				return true, expireUser(tx, u, tx.now.AddDate(0, 0, -int(days[u.ws])))
			})
			if err != nil {
				return err
			}
		}
	}
}

// unusedUsers looks at the users after an id, and returns the last one that it has looked at.
func (s *Store) unusedUsers(ctx context.Context, after int64) (found []unusedUser, last int64, err error) {
	const lookedAt = 5000
	err = s.read(ctx, func(tx *Tx) error {
		err := tx.get(`SELECT coalesce(max(id), $1) FROM (SELECT id FROM users WHERE id > $1 ORDER BY id LIMIT $2) i`,
			[]any{after, lookedAt}, &last)
		if err != nil {
			return err
		}
		return tx.each(`SELECT u.workspace_id, u.id, u.external_id FROM users u WHERE u.id > $1 AND u.id <= $2 AND `+unused,
			[]any{after, last}, func(row scanner) error {
				var u unusedUser
				err := row.Scan(&u.ws, &u.id, &u.name)
				found = append(found, u)
				return err
			})
	})
	return found, last, err
}

// expireUser looks again: the user may have come back since.
func expireUser(tx *Tx, u unusedUser, before time.Time) error {
	n, err := tx.exec(`DELETE FROM users AS u WHERE u.id = $1 AND u.workspace_id = $2
		AND coalesce(u.last_seen_at, u.created_at) < $3 AND `+unused, u.id, u.ws, before.UnixMilli())
	if err != nil || n == 0 {
		return err
	}
	tx.memory.users.drop(u.idKey)
	tx.memory.userIDs.drop(name{u.ws, u.name})
	return nil
}

package storage

import (
	"context"
	"encoding/binary"
	"math"
	"strconv"
	"strings"

	"github.com/pikarc/server/plans"
)

// UserFilter narrows and orders a list of users; zero values ask for all, the
// latest known first.
type UserFilter struct {
	Query   string // part of the user id, whatever the case of ASCII letters
	Blocked *bool
	BySpend bool // in the last 30 days, dearest first; then those who spent nothing, the latest known first
	Limit   int64
	Cursor  string
}

// userPlace is where in a list a user stands; the next page begins below it.
type userPlace struct {
	spend plans.Money // 0 in the list that is not by spend
	id    int64
}

// Users lists users, and the cursor of the next page ("" at the end). By
// spend, a user whose spend grows between two pages may be seen twice, or not.
func (s *Store) Users(ctx context.Context, ws WorkspaceKey, f UserFilter) (users []User, next string, err error) {
	place, err := placeOf(ws, f)
	if err != nil {
		return nil, "", err
	}
	var last userPlace
	err = s.read(ctx, func(tx *Tx) error {
		use := func(u User, id int64) {
			if int64(len(users)) < f.Limit {
				users, last = append(users, u), userPlace{u.Last30Days.Spend, id}
			} else if next == "" {
				next = last.cursor(ws, f.BySpend)
			}
		}
		if !f.BySpend {
			return eachNewestUser(tx, ws, f, place, false, use)
		}
		if place.spend > 0 {
			if err := eachDearestUser(tx, ws, f, place, use); err != nil || next != "" {
				return err
			}
			place = userPlace{0, math.MaxInt64}
		}
		return eachNewestUser(tx, ws, f, place, true, use)
	})
	return users, next, err
}

// placeOf is above every user, or where the cursor says.
func placeOf(ws WorkspaceKey, f UserFilter) (userPlace, error) {
	place := userPlace{math.MaxInt64, math.MaxInt64}
	if f.Cursor == "" {
		return place, nil
	}
	if !f.BySpend {
		key, err := parseCursor(listUsers, int64(ws), f.Cursor, 8)
		if err != nil {
			return place, err
		}
		return userPlace{0, int64(binary.BigEndian.Uint64(key))}, nil
	}
	key, err := parseCursor(listUsersBySpend, int64(ws), f.Cursor, 16)
	if err != nil {
		return place, err
	}
	return userPlace{plans.Money(binary.BigEndian.Uint64(key)), int64(binary.BigEndian.Uint64(key[8:]))}, nil
}

func (p userPlace) cursor(ws WorkspaceKey, bySpend bool) string {
	if !bySpend {
		return cursor(listUsers, int64(ws), binary.BigEndian.AppendUint64(nil, uint64(p.id)))
	}
	key := binary.BigEndian.AppendUint64(nil, uint64(p.spend))
	return cursor(listUsersBySpend, int64(ws), binary.BigEndian.AppendUint64(key, uint64(p.id)))
}

// eachNewestUser reads users below a place, one more than a page; thrifty asks
// for those alone who spent nothing in the 30 days.
func eachNewestUser(tx *Tx, ws WorkspaceKey, f UserFilter, below userPlace, thrifty bool, use func(User, int64)) error {
	where, args := f.where(`u.workspace_id = $1 AND u.id < $4`, []any{below.id, f.Limit + 1})
	if thrifty {
		where += ` AND u.id NOT IN (SELECT user_id FROM user_days
			WHERE workspace_id = $1 AND day >= $3 AND day <= $2 AND spend_nanos > 0)`
	}
	return eachUser(tx, ws, `FROM users u`, where+` ORDER BY u.id DESC LIMIT $5`, args, use)
}

// eachDearestUser reads users below a place by their spend in the 30 days, one
// more than a page, as far as they spent anything.
func eachDearestUser(tx *Tx, ws WorkspaceKey, f UserFilter, below userPlace, use func(User, int64)) error {
	where, args := f.where(`(d.spend < $6 OR d.spend = $6 AND u.id < $4)`,
		[]any{below.id, f.Limit + 1, int64(below.spend)})
	const from = `FROM (SELECT user_id, sum(spend_nanos) AS spend FROM user_days
			WHERE workspace_id = $1 AND day >= $3 AND day <= $2 GROUP BY user_id HAVING sum(spend_nanos) > 0) d
		JOIN users u ON u.id = d.user_id`
	return eachUser(tx, ws, from, where+` ORDER BY d.spend DESC, u.id DESC LIMIT $5`, args, use)
}

// where adds the filter's own conditions. The first three parameters are eachUser's.
func (f UserFilter) where(conditions string, args []any) (string, []any) {
	if f.Query != "" {
		args = append(args, "%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Query)+"%")
		conditions += ` AND u.external_id LIKE $` + strconv.Itoa(3+len(args)) + ` ESCAPE '\'`
	}
	switch {
	case f.Blocked != nil && *f.Blocked:
		conditions += ` AND u.blocked_at IS NOT NULL`
	case f.Blocked != nil:
		conditions += ` AND u.blocked_at IS NULL`
	}
	return conditions, args
}

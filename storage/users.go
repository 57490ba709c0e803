package storage

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pikarc/server/plans"
)

// User is an end user for whom agents run, with what that has cost.
type User struct {
	UserID        string
	Blocked       bool
	BlockedAt     time.Time // zero when not blocked
	BlockedReason *string
	Today         UserSpend
	Last30Days    UserSpend
	RunCount      int64     // allowed runs, ever
	LastSeenAt    time.Time // zero when never seen
	ErasedAt      time.Time // zero unless erased; UserID is then a made-up one
}

// UserSpend is what a user cost in a window of days.
type UserSpend struct {
	Spend          plans.Money
	UnpricedTokens int64 // used besides, that no price was known for
}

// findUser returns 0 for a user whom the workspace has never seen.
func findUser(tx *Tx, ws WorkspaceKey, externalID string) (int64, error) {
	u, err := tx.cache.userIDs.get(tx, nameKey{ws, externalID})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return u.id, nil
}

// insertUser stores a user that an agent has named for the first time.
func insertUser(tx *Tx, ws WorkspaceKey, externalID string) (int64, error) {
	u := &cachedID{}
	err := tx.get(`INSERT INTO users (workspace_id, external_id, run_count, last_seen_at, created_at)
		VALUES ($1, $2, 0, $3, $3) RETURNING id`, []any{ws, externalID, tx.now.UnixMilli()}, &u.id)
	if err == nil {
		tx.cache.userIDs.put(tx, nameKey{ws, externalID}, u)
	}
	return u.id, err
}

// BlockUser blocks a user, seen before or not. Blocking again replaces the
// reason and keeps the time.
func (s *Store) BlockUser(ctx context.Context, ws WorkspaceKey, externalID string, reason *string) (u User, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionBlockUser, target: externalID, after: blockAttributes(true, reason)}
		if event.before, err = storedBlockAttributes(tx, ws, externalID); err != nil {
			return event, err
		}
		var id int64
		if u, id, err = blockUser(tx, ws, externalID, reason); err != nil {
			return event, err
		}
		closing, err := closeReviews(tx, ws, Cancelled, `r.user_id = $2`, id)
		closing.apply(tx)
		return event, err
	})
	return u, err
}

// blockUser blocks a user, also one who was never seen. Blocking again keeps since when, and
// replaces the reason.
func blockUser(tx *Tx, ws WorkspaceKey, externalID string, reason *string) (u User, id int64, err error) {
	err = tx.get(`INSERT INTO users (workspace_id, external_id, blocked_at, blocked_reason, run_count, created_at)
		VALUES ($1, $2, $3, $4, 0, $3) ON CONFLICT (workspace_id, external_id) DO UPDATE SET
			blocked_at = coalesce(users.blocked_at, excluded.blocked_at), blocked_reason = excluded.blocked_reason
		RETURNING id`, []any{ws, externalID, tx.now.UnixMilli(), reason}, &id)
	if err != nil {
		return User{}, 0, err
	}
	tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartUsers})
	u, err = readUser(tx, ws, id)
	return u, id, err
}

// UnblockUser lifts a block, if there is one. ErrNotFound for a user never seen.
func (s *Store) UnblockUser(ctx context.Context, ws WorkspaceKey, externalID string) (u User, err error) {
	err = s.configure(ctx, ws, func(tx *Tx) (auditEvent, error) {
		event := auditEvent{ws: ws, action: ActionUnblockUser, target: externalID, after: blockAttributes(false, nil)}
		var id int64
		if event.before, err = storedBlockAttributes(tx, ws, externalID); err != nil {
			return event, err
		}
		err := tx.get(`UPDATE users SET blocked_at = NULL, blocked_reason = NULL
			WHERE workspace_id = $1 AND external_id = $2 RETURNING id`, []any{ws, externalID}, &id)
		if err != nil {
			return event, err
		}
		tx.recordChange(Change{Workspace: ws, Kind: ConfigChanged, Part: PartUsers})
		u, err = readUser(tx, ws, id)
		return event, err
	})
	return u, err
}

// storedBlockAttributes reads a user's block for the audit log. A user never
// seen is not blocked.
func storedBlockAttributes(tx *Tx, ws WorkspaceKey, externalID string) (attributes, error) {
	var blockedAt sql.NullInt64
	var reason sql.NullString
	err := tx.get(`SELECT blocked_at, blocked_reason FROM users WHERE workspace_id = $1 AND external_id = $2`,
		[]any{ws, externalID}, &blockedAt, &reason)
	return blockAttributes(blockedAt.Valid, stringPtr(reason)), ignoreNotFound(err)
}

// blockAttributes is what the audit log records of a block.
func blockAttributes(blocked bool, reason *string) attributes {
	return attributes{"blocked": blocked, "reason": reason}
}

// readUser reads one user as lists show it.
func readUser(tx *Tx, ws WorkspaceKey, id int64) (u User, err error) {
	found := ErrNotFound
	err = eachUser(tx, ws, `FROM users u`, `u.workspace_id = $1 AND u.id = $4`, []any{id}, func(row User, _ int64) { u, found = row, nil })
	return u, errors.Join(err, found)
}

// eachUser reads users with their spend. The 30 days are 30 point reads a
// user: the days' b-tree is ordered by day first, for budgets and rankings.
// They answer four figures in one text, so that each row is read once.
// from names the users u; $1 to $3 are the workspace, today and the first of the 30 days.
func eachUser(tx *Tx, ws WorkspaceKey, from, where string, args []any, use func(u User, id int64)) error {
	today := dayOf(tx.now)
	const selectUser = `SELECT u.id, u.external_id, u.blocked_at, u.blocked_reason, u.run_count, u.last_seen_at, u.erased_at,
			(WITH RECURSIVE days (day) AS (SELECT $3 + CAST(0 AS BIGINT) UNION ALL SELECT day + 1 FROM days WHERE day < $2)
				SELECT coalesce(sum(CASE WHEN d.day = $2 THEN d.spend_nanos END), 0)
					|| ' ' || coalesce(sum(CASE WHEN d.day = $2 THEN d.unpriced_tokens END), 0)
					|| ' ' || coalesce(sum(d.spend_nanos), 0) || ' ' || coalesce(sum(d.unpriced_tokens), 0)
				FROM days JOIN user_days d
				ON d.workspace_id = u.workspace_id AND d.day = days.day AND d.user_id = u.id) `
	args = append([]any{ws, today, today - usageDays + 1}, args...)
	return tx.each(selectUser+from+` WHERE `+where, args, func(rows scanner) error {
		var u User
		var id int64
		var blockedAt, seenAt, erasedAt sql.NullInt64
		var reason sql.NullString
		var figures string
		err := rows.Scan(&id, &u.UserID, &blockedAt, &reason, &u.RunCount, &seenAt, &erasedAt, &figures)
		if err == nil {
			_, err = fmt.Sscan(figures, (*int64)(&u.Today.Spend), &u.Today.UnpricedTokens,
				(*int64)(&u.Last30Days.Spend), &u.Last30Days.UnpricedTokens)
		}
		u.Blocked, u.BlockedAt, u.BlockedReason = blockedAt.Valid, timeOf(blockedAt), stringPtr(reason)
		u.LastSeenAt, u.ErasedAt = timeOf(seenAt), timeOf(erasedAt)
		if err == nil {
			use(u, id)
		}
		return err
	})
}

// UserFilter narrows and orders a list of users; zero values ask for all, the
// latest known first.
type UserFilter struct {
	Query   string // part of the user id, whatever the case of ASCII letters
	Prefix  string // of the user id; then the list is in the order of ids
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
// A page of a Query may have fewer users than asked for, or none, and a cursor
// all the same: no more were looked at.
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
				next = last.cursor(ws, f)
			}
		}
		if f.Prefix != "" {
			end, err := s.readByName(tx, ws, f, place, use)
			if err == nil && end > 0 && next == "" {
				next = userPlace{0, end}.cursor(ws, f)
			}
			return err
		}
		if f.BySpend && place.spend > 0 {
			if err := eachUserBySpend(tx, ws, f, place, use); err != nil || next != "" {
				return err
			}
			place = userPlace{0, math.MaxInt64}
		}
		floor, err := s.searchedUsers(tx, ws, f, place)
		if err != nil {
			return err
		}
		err = eachNewestUser(tx, ws, f, place, floor, use)
		if floor > 0 && next == "" {
			next = userPlace{0, floor}.cursor(ws, f)
		}
		return err
	})
	return users, next, err
}

// searchedUsers is the last user below a place whom a page looks at; 0 when it may look at all.
func (s *Store) searchedUsers(tx *Tx, ws WorkspaceKey, f UserFilter, below userPlace) (floor int64, err error) {
	if f.Query == "" {
		return 0, nil
	}
	err = tx.get(`SELECT id FROM users WHERE workspace_id = $1 AND id < $2 ORDER BY id DESC LIMIT 1 OFFSET $3`,
		[]any{ws, below.id, s.searched - 1}, &floor)
	return floor, ignoreNotFound(err)
}

// placeOf is above every user, or where the cursor says.
func placeOf(ws WorkspaceKey, f UserFilter) (userPlace, error) {
	place := userPlace{math.MaxInt64, math.MaxInt64}
	if f.Cursor == "" {
		return place, nil
	}
	if kind := f.list(); kind != listUsersBySpend {
		key, err := parseCursor(kind, int64(ws), f.Cursor, 8)
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

// list is the kind of the filter's cursors: those of another order fit no other.
func (f UserFilter) list() cursorKind {
	switch {
	case f.Prefix != "":
		return listUsersByName
	case f.BySpend:
		return listUsersBySpend
	}
	return listUsers
}

// cursor encodes the place in a filter's list.
func (p userPlace) cursor(ws WorkspaceKey, f UserFilter) string {
	if kind := f.list(); kind != listUsersBySpend {
		return cursor(kind, int64(ws), binary.BigEndian.AppendUint64(nil, uint64(p.id)))
	}
	key := binary.BigEndian.AppendUint64(nil, uint64(p.spend))
	return cursor(listUsersBySpend, int64(ws), binary.BigEndian.AppendUint64(key, uint64(p.id)))
}

// readByName reads users whose ids begin with the filter's prefix, in the order of ids, one more
// than a page: those after a place, if it is one. end is the last user whom a page of a Query
// looks at; 0 when it may look at all.
func (s *Store) readByName(
	tx *Tx, ws WorkspaceKey, f UserFilter, after userPlace, use func(User, int64),
) (end int64, err error) {
	above, last := ">=", f.Prefix
	if f.Cursor != "" {
		above = ">"
		err := tx.get(`SELECT external_id FROM users WHERE workspace_id = $1 AND id = $2`, []any{ws, after.id}, &last)
		if errors.Is(err, ErrNotFound) || err == nil && !strings.HasPrefix(last, f.Prefix) {
			err = ErrBadCursor // erased or deleted since: nobody knows any more where the page ended
		}
		if err != nil {
			return 0, err
		}
	}
	below, until := "<", f.Prefix+"\U0010ffff"
	if f.Query != "" {
		err := tx.get(`SELECT id, external_id FROM users WHERE workspace_id = $1 AND external_id `+above+` $2
			AND external_id < $3 ORDER BY external_id LIMIT 1 OFFSET $4`, []any{ws, last, until, s.searched - 1}, &end, &until)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return 0, err
		}
		if end > 0 {
			below = "<="
		}
	}
	where, args := f.where(`u.workspace_id = $1 AND u.external_id `+above+` $4 AND u.external_id `+below+` $5`,
		[]any{last, until, f.Limit + 1})
	return end, eachUser(tx, ws, `FROM users u`, where+` ORDER BY u.external_id LIMIT $6`, args, use)
}

// eachNewestUser reads users below a place down to a floor, one more than a
// page; by spend, those alone who spent nothing in the 30 days.
func eachNewestUser(tx *Tx, ws WorkspaceKey, f UserFilter, below userPlace, floor int64, use func(User, int64)) error {
	where, args := f.where(`u.workspace_id = $1 AND u.id < $4 AND u.id >= $6`, []any{below.id, f.Limit + 1, floor})
	if f.BySpend {
		where += ` AND u.id NOT IN (SELECT user_id FROM user_days
			WHERE workspace_id = $1 AND day >= $3 AND day <= $2 AND spend_nanos > 0)`
	}
	return eachUser(tx, ws, `FROM users u`, where+` ORDER BY u.id DESC LIMIT $5`, args, use)
}

// eachUserBySpend reads users below a place by their spend in the 30 days, one
// more than a page, as far as they spent anything.
func eachUserBySpend(tx *Tx, ws WorkspaceKey, f UserFilter, below userPlace, use func(User, int64)) error {
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
		conditions += ` AND lower(u.external_id) LIKE lower($` + strconv.Itoa(3+len(args)) + `) ESCAPE '\'`
	}
	switch {
	case f.Blocked != nil && *f.Blocked:
		conditions += ` AND u.blocked_at IS NOT NULL`
	case f.Blocked != nil:
		conditions += ` AND u.blocked_at IS NULL`
	}
	return conditions, args
}

// SpendOfUser is what a user spent today.
type SpendOfUser struct {
	UserID string
	Spend  plans.Money
}

// nearestUser finds who is nearest to the daily budget of a user.
func (b *Burn) nearestUser(tx *Tx, w Workspace) error {
	if !w.UserDailyBudget.Set {
		return nil
	}
	var u SpendOfUser
	err := tx.get(`SELECT coalesce(max(spend_nanos), 0), coalesce(sum(CASE WHEN spend_nanos >= $3 THEN 1 ELSE 0 END), 0)
		FROM user_days WHERE workspace_id = $1 AND day = $2`,
		[]any{w.key, dayOf(tx.now), int64(w.UserDailyBudget.Limit)}, &u.Spend, &b.UsersAtBudget)
	if err != nil || u.Spend == 0 {
		return err
	}
	b.NearestUser = &u
	return tx.get(`SELECT u.external_id FROM user_days d JOIN users u ON u.id = d.user_id
		WHERE d.workspace_id = $1 AND d.day = $2 AND d.spend_nanos = $3 LIMIT 1`,
		[]any{w.key, dayOf(tx.now), int64(u.Spend)}, &u.UserID)
}

// SpendByHour reads what was spent in each hour of a period that begins with one, as far back as
// that is kept; nil for a period of before. Calls that were reported on a later day than they were
// made are in no hour.
func (s *Store) SpendByHour(ctx context.Context, ws WorkspaceKey, from, to time.Time) (hours []plans.Money, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		var kept int64
		if err := tx.get(`SELECT spend_from FROM workspaces WHERE id = $1`, []any{ws}, &kept); err != nil {
			return err
		}
		first, end := minuteOf(from), minuteOf(to)
		if _, quarter := foldedBefore(tx.now); first < max(kept, quarter*minutesPerPart) {
			return nil
		}
		hours = make([]plans.Money, (end-first+minutesPerHour-1)/minutesPerHour)
		add := func(row scanner) error {
			var minute int64
			var spend plans.Money
			err := row.Scan(&minute, &spend)
			hours[(minute-first)/minutesPerHour] += spend
			return err
		}
		err := tx.each(`SELECT quarter * 15, spend_nanos FROM spend_quarter_hours WHERE workspace_id = $1 AND quarter >= $2 AND quarter < $3`,
			[]any{ws, first / minutesPerPart, end / minutesPerPart}, add)
		if err != nil {
			return err
		}
		return tx.each(`SELECT minute, spend_nanos FROM spend_minutes WHERE workspace_id = $1 AND minute >= $2 AND minute < $3`,
			[]any{ws, first, end}, add)
	})
	return hours, err
}

// topUsers is how many users the usage page lists.
const topUsers = 100

// UserUsage is a user's part of the last 30 days.
type UserUsage struct {
	UserID         string
	Spend          plans.Money
	Runs           int64
	UnpricedTokens int64
}

// userUsage lists the users with the highest spend in these days.
func userUsage(tx *Tx, ws WorkspaceKey, from, to int64) (usage []UserUsage, err error) {
	err = tx.each(`SELECT u.external_id, d.spend, d.runs, d.unpriced
		FROM (SELECT user_id, sum(spend_nanos) AS spend, sum(run_count) AS runs, sum(unpriced_tokens) AS unpriced
			FROM user_days WHERE workspace_id = $1 AND day >= $2 AND day <= $3
			GROUP BY user_id ORDER BY spend DESC, user_id LIMIT $4) d
		JOIN users u ON u.id = d.user_id ORDER BY d.spend DESC, d.user_id`, []any{ws, from, to, topUsers}, func(rows scanner) error {
		var r UserUsage
		err := rows.Scan(&r.UserID, &r.Spend, &r.Runs, &r.UnpricedTokens)
		usage = append(usage, r)
		return err
	})
	return usage, err
}

// byPrefix adds up the users whose ids begin with the same text up to the first
// "/". It reads the days of all of them: as many rows as usage by user does.
func (u *usageBy) byPrefix() (parts []UsagePart, err error) {
	found := map[string]*UsagePart{}
	err = u.eachPeriod(`SELECT d.day, u.external_id, d.spend_nanos, d.run_count
		FROM user_days d JOIN users u ON u.id = d.user_id WHERE d.workspace_id = $1 AND d.day >= $2 AND d.day <= $3`,
		func(rows scanner, isBefore bool) error {
			var day int64
			var user string
			var sums UsageSums
			err := rows.Scan(&day, &user, &sums.Spend, &sums.Runs)
			prefix, _, has := strings.Cut(user, "/")
			if err != nil || !has {
				return err
			}
			p := found[prefix]
			if p == nil {
				made := u.newPart(prefix + "/")
				p = &made
				found[prefix] = p
			}
			u.place(p, isBefore, day, sums)
			return nil
		})
	for _, p := range found {
		if p.Spend != 0 || p.Runs != 0 {
			parts = append(parts, *p)
		}
	}
	slices.SortFunc(parts, func(a, b UsagePart) int {
		return cmp.Or(cmp.Compare(b.Spend, a.Spend), cmp.Compare(b.Runs, a.Runs), cmp.Compare(a.Value, b.Value))
	})
	return parts[:min(len(parts), int(u.limit))], err
}

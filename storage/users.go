package storage

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"math"
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
	Today         plans.Money
	Last30Days    plans.Money
	RunCount      int64     // allowed runs, ever
	LastSeenAt    time.Time // zero when never seen
}

// findUser returns 0 for a user whom the workspace has never seen.
func findUser(tx *Tx, ws WorkspaceKey, externalID string) (int64, error) {
	u, err := tx.memory.userIDs.get(tx, name{ws, externalID})
	if errors.Is(err, ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return u.id, nil
}

func insertUser(tx *Tx, ws WorkspaceKey, externalID string) (int64, error) {
	u := &heldID{}
	err := tx.get(`INSERT INTO users (workspace_id, external_id, run_count, last_seen_at, created_at)
		VALUES ($1, $2, 0, $3, $3) RETURNING id`, []any{ws, externalID, tx.now.UnixMilli()}, &u.id)
	if err == nil {
		tx.memory.userIDs.put(tx, name{ws, externalID}, u)
	}
	return u.id, err
}

// BlockUser blocks a user, seen before or not. Blocking again replaces the
// reason and keeps the time.
func (s *Store) BlockUser(ctx context.Context, ws WorkspaceKey, externalID string, reason *string) (u User, err error) {
	err = s.configure(ctx, func(tx *Tx) (deed, error) {
		done := deed{ws: ws, action: ActionBlockUser, target: externalID, became: factsOfBlock(true, reason)}
		var id int64
		if done.was, err = blockFacts(tx, ws, externalID); err != nil {
			return done, err
		}
		err := tx.get(`INSERT INTO users (workspace_id, external_id, blocked_at, blocked_reason, run_count, created_at)
			VALUES ($1, $2, $3, $4, 0, $3) ON CONFLICT (workspace_id, external_id) DO UPDATE SET
				blocked_at = coalesce(users.blocked_at, excluded.blocked_at), blocked_reason = excluded.blocked_reason
			RETURNING id`, []any{ws, externalID, tx.now.UnixMilli(), reason}, &id)
		if err != nil {
			return done, err
		}
		u, err = readUser(tx, ws, id)
		return done, err
	})
	return u, err
}

// UnblockUser lifts a block, if there is one. ErrNotFound for a user never seen.
func (s *Store) UnblockUser(ctx context.Context, ws WorkspaceKey, externalID string) (u User, err error) {
	err = s.configure(ctx, func(tx *Tx) (deed, error) {
		done := deed{ws: ws, action: ActionUnblockUser, target: externalID, became: factsOfBlock(false, nil)}
		var id int64
		if done.was, err = blockFacts(tx, ws, externalID); err != nil {
			return done, err
		}
		err := tx.get(`UPDATE users SET blocked_at = NULL, blocked_reason = NULL
			WHERE workspace_id = $1 AND external_id = $2 RETURNING id`, []any{ws, externalID}, &id)
		if err != nil {
			return done, err
		}
		u, err = readUser(tx, ws, id)
		return done, err
	})
	return u, err
}

// blockFacts is what the audit log says of a user's block. Nobody is blocked
// before they are seen.
func blockFacts(tx *Tx, ws WorkspaceKey, externalID string) (facts, error) {
	var blockedAt sql.NullInt64
	var reason sql.NullString
	err := tx.get(`SELECT blocked_at, blocked_reason FROM users WHERE workspace_id = $1 AND external_id = $2`,
		[]any{ws, externalID}, &blockedAt, &reason)
	return factsOfBlock(blockedAt.Valid, optional(reason)), ignoreNotFound(err)
}

func factsOfBlock(blocked bool, reason *string) facts {
	return facts{"blocked": blocked, "reason": reason}
}

// UserFilter narrows a list of users; zero values ask for all.
type UserFilter struct {
	Query   string // part of the user id, whatever the case of ASCII letters
	Blocked *bool
	Limit   int64
	Cursor  string
}

// Users lists users, the latest known first, and the cursor of the next page ("" at the end).
func (s *Store) Users(ctx context.Context, ws WorkspaceKey, f UserFilter) (users []User, next string, err error) {
	before := int64(math.MaxInt64)
	if f.Cursor != "" {
		key, err := parseCursor(listUsers, int64(ws), f.Cursor, 8)
		if err != nil {
			return nil, "", err
		}
		before = int64(binary.BigEndian.Uint64(key))
	}
	where, args := `u.workspace_id = $1 AND u.id < $4`, []any{before, f.Limit + 1}
	if f.Query != "" {
		where += ` AND u.external_id LIKE $6 ESCAPE '\'`
		args = append(args, "%"+strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(f.Query)+"%")
	}
	switch {
	case f.Blocked != nil && *f.Blocked:
		where += ` AND u.blocked_at IS NOT NULL`
	case f.Blocked != nil:
		where += ` AND u.blocked_at IS NULL`
	}
	err = s.read(ctx, func(tx *Tx) error {
		var last int64
		return eachUser(tx, ws, where+` ORDER BY u.id DESC LIMIT $5`, args, func(u User, id int64) {
			if int64(len(users)) == f.Limit {
				next = cursor(listUsers, int64(ws), binary.BigEndian.AppendUint64(nil, uint64(last)))
				return
			}
			users, last = append(users, u), id
		})
	})
	return users, next, err
}

func readUser(tx *Tx, ws WorkspaceKey, id int64) (u User, err error) {
	found := ErrNotFound
	err = eachUser(tx, ws, `u.workspace_id = $1 AND u.id = $4`, []any{id}, func(row User, _ int64) { u, found = row, nil })
	return u, errors.Join(err, found)
}

// eachUser reads users with their spend. The 30 days are 30 point reads a
// user: the days' b-tree is ordered by day first, for budgets and rankings.
// $1 to $3 are the workspace, today and the first of the 30 days.
func eachUser(tx *Tx, ws WorkspaceKey, where string, args []any, use func(u User, id int64)) error {
	today := dayOf(tx.now)
	const selectUser = `SELECT u.id, u.external_id, u.blocked_at, u.blocked_reason, u.run_count, u.last_seen_at,
			coalesce((SELECT d.spend_nanos FROM user_days d
				WHERE d.workspace_id = u.workspace_id AND d.day = $2 AND d.user_id = u.id), 0),
			coalesce((WITH RECURSIVE days (day) AS (SELECT $3 UNION ALL SELECT day + 1 FROM days WHERE day < $2)
				SELECT sum(d.spend_nanos) FROM days JOIN user_days d
				ON d.workspace_id = u.workspace_id AND d.day = days.day AND d.user_id = u.id), 0)
		FROM users u WHERE `
	args = append([]any{ws, today, today - usageDays + 1}, args...)
	return tx.each(selectUser+where, args, func(rows *sql.Rows) error {
		var u User
		var id int64
		var blockedAt, seenAt sql.NullInt64
		var reason sql.NullString
		err := rows.Scan(&id, &u.UserID, &blockedAt, &reason, &u.RunCount, &seenAt, &u.Today, &u.Last30Days)
		u.Blocked, u.BlockedAt, u.BlockedReason = blockedAt.Valid, timeOf(blockedAt), optional(reason)
		u.LastSeenAt = timeOf(seenAt)
		if err == nil {
			use(u, id)
		}
		return err
	})
}

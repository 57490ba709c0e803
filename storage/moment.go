package storage

import (
	"context"
	"slices"
	"strconv"
	"strings"
)

// Moment is how a workspace stands, in one snapshot.
type Moment struct {
	Today       Totals
	RunningRuns int64
	Runs        map[int64]Run // those asked for that exist, by internal id
}

// Moment reads how a workspace stands, and summaries of some of its runs, by
// the internal ids that changes carry.
func (s *Store) Moment(ctx context.Context, ws WorkspaceKey, runs []int64) (m Moment, err error) {
	m.Runs = make(map[int64]Run, len(runs))
	err = s.read(ctx, func(tx *Tx) error {
		today := dayOf(tx.now)
		if m.Today, err = totalsOf(tx, ws, today, today); err != nil {
			return err
		}
		if m.RunningRuns, err = runningRuns(tx, ws); err != nil {
			return err
		}
		for part := range slices.Chunk(runs, runsAtOnce) {
			if err := readRuns(tx, ws, part, m.Runs); err != nil {
				return err
			}
		}
		return nil
	})
	return m, err
}

// runsAtOnce is how many runs one query reads.
const runsAtOnce = 50

// readRuns reads up to runsAtOnce runs. One query for all takes a tenth of the
// time of one for each; those that are not there are left out.
func readRuns(tx *Tx, ws WorkspaceKey, ids []int64, into map[int64]Run) error {
	// Asked for the workspace as it is, SQLite walks all of its runs.
	query := strings.NewReplacer("FROM runs r", `, r.id FROM runs r`, "r.workspace_id = $1", `r.workspace_id + 0 = $1 AND r.id IN (`).Replace(selectRun)
	args := []any{ws}
	for i := range runsAtOnce { // always as many, so that it is always the same query
		id := int64(0)
		if i < len(ids) {
			id = ids[i]
		}
		if i > 0 {
			query += ", "
		}
		args = append(args, id)
		query += "$" + strconv.Itoa(len(args))
	}
	return tx.each(query+`)`, args, func(rows scanner) error {
		var id int64
		r, err := scanRun(rows.Scan, &id)
		into[id] = r
		return err
	})
}

// Config is what other processes, the commands, can change of a workspace.
// Two of them can be compared.
type Config struct {
	Workspace Workspace
	Keys      KeysVersion
}

// KeysVersion is another one when a key was made, revoked or given another end.
type KeysVersion struct{ newest, open, ending int64 }

// Config reads a workspace with the version of its keys.
func (s *Store) Config(ctx context.Context, ws WorkspaceKey) (c Config, err error) {
	err = s.read(ctx, func(tx *Tx) error {
		if c.Workspace, err = workspace(tx, ws); err != nil {
			return err
		}
		return tx.get(`SELECT coalesce(max(id), 0), count(*), coalesce(sum(expires_at), 0) FROM api_keys
			WHERE workspace_id = $1 AND revoked_at IS NULL`, []any{ws}, &c.Keys.newest, &c.Keys.open, &c.Keys.ending)
	})
	return c, err
}

package transfer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// copied are the tables that are copied, each after those whose rows it refers to.
func copied() []string {
	return []string{
		"accounts", "ended_sessions", "sessions", "sign_in_addresses",
		"workspaces", "users", "api_keys", "models", "price_points", "plan_changes", "subscriptions", "saved_views",
		"alerts", "policies", "policy_versions", "policy_counters", "policy_days", "endpoints", "deliveries",
		"audit_entries", "capped_steps", "denial_days", "denials", "dropped_payloads", "erasures", "expired_history", "grants",
		"idempotency_keys", "key_days", "model_days", "payload_blocks", "repairs", "reviews", "run_actions", "run_index", "run_metadata",
		"run_segments", "run_tags", "run_terms", "runs", "spend_minutes", "spend_quarter_hours",
		"step_grants", "step_payloads",
		"step_usage", "steps", "stripe_events", "tag_days", "unindexed_steps", "user_days", "workspace_days",
	}
}

// seeded is the table that has a row as soon as it is made.
const seeded = "run_index"

// leftOut are the tables of an engine's or of a process's own, with why they stay.
func leftOut() map[string]string {
	return map[string]string{
		"goose_db_version": "each engine's migrations are its own",
		"probes":           "readiness checks rewrite it",
		"ledger_version":   "PostgreSQL's: between nodes, of which there are none yet",
		"writers":          "PostgreSQL's: batches of nodes that have ended",
	}
}

// ownColumns are those that one engine has alone. They begin with their default.
func ownColumns() map[string][]string {
	return map[string][]string{"workspaces": {"version"}} // PostgreSQL's, as ledger_version is
}

// table is a table as it is copied.
type table struct {
	name    string
	columns []string
	key     []string // the primary key, by which rows come in order
}

// found is what a database's catalogue says of a table.
type found struct {
	columns []string
	key     map[int]string // by place, from 1
}

// ErrUnknownTable says that a database has what this package was not told of.
var ErrUnknownTable = fmt.Errorf("nothing is copied, because something would be left behind")

// tablesOf orders what is copied from one database to another. Both have to have
// the same tables with the same columns, but for those that are known to be one's own.
func tablesOf(from, to map[string]found) ([]table, error) {
	// Checked first: a table that a migration has added, and nobody has added here, must not
	// be left behind in silence.
	names := copied()
	for _, side := range []map[string]found{from, to} {
		for _, name := range slices.Sorted(maps.Keys(side)) {
			if leftOut()[name] == "" && !slices.Contains(names, name) {
				return nil, fmt.Errorf("%w: there is a table %s, which is not known here", ErrUnknownTable, name)
			}
		}
	}
	var tables []table
	for _, name := range names {
		a, b := from[name].copied(name), to[name].copied(name)
		// Their order may differ: a column that was added later is the last one in one engine
		// alone.
		if len(a) == 0 || !slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))) {
			return nil, fmt.Errorf("%w: %s has the columns %s here and %s there", ErrUnknownTable, name,
				strings.Join(a, ", "), strings.Join(b, ", "))
		}
		t := table{name: name, columns: a, key: from[name].keyInOrder()}
		// Without the same key, neither would rows come in one order nor could a copy be resumed.
		if len(t.key) == 0 || !slices.Equal(t.key, to[name].keyInOrder()) {
			return nil, fmt.Errorf("%w: %s has not the same primary key in both", ErrUnknownTable, name)
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// copied lists the columns that are copied: not those that an engine has for itself.
func (f found) copied(name string) []string {
	own := ownColumns()[name]
	return slices.DeleteFunc(slices.Clone(f.columns), func(c string) bool { return slices.Contains(own, c) })
}

// keyInOrder lists the columns of the primary key by their place in it.
func (f found) keyInOrder() []string {
	var key []string
	for _, place := range slices.Sorted(maps.Keys(f.key)) {
		key = append(key, f.key[place])
	}
	return key
}

// quoted lists columns for a statement: one of them is named key.
func quoted(columns []string) string { return `"` + strings.Join(columns, `", "`) + `"` }

// selectRows reads a table in the order of its key, after so many values of a key
// and up to as many of another one.
func (t table) selectRows(s span, limit int) (query string, args []any) {
	var where []string
	bound := func(op string, key []any) {
		if key == nil {
			return
		}
		marks := make([]string, len(key))
		for i := range key {
			args = append(args, key[i])
			marks[i] = fmt.Sprint("$", len(args))
		}
		where = append(where, "("+quoted(t.key)+") "+op+" ("+strings.Join(marks, ", ")+")")
	}
	// Row values, which both engines compare column by column and look up in the key's index.
	bound(">", s.after)
	bound("<=", s.upTo)
	query = "SELECT " + quoted(t.columns) + " FROM " + t.name
	if len(where) > 0 {
		query += " WHERE " + strings.Join(where, " AND ")
	}
	query += " ORDER BY " + quoted(t.key) + fmt.Sprint(" LIMIT ", limit)
	return query, args
}

// keyOf is the key of a row.
func (t table) keyOf(row []any) []any {
	key := make([]any, len(t.key))
	for i, name := range t.key {
		key[i] = row[slices.Index(t.columns, name)]
	}
	return key
}

// span is a part of a table. Nil is an open end.
type span struct{ after, upTo []any }

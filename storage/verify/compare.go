package verify

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// diffTable is the temporary table that takes the rows of a counter table that differ: the
// key, what is stored and what should be, and whether that is a lower bound.
func (b counterTable) diffTable() string { return "wrong_" + b.table }

// createDiffTable returns the statement that makes a table for the differences: key, what is stored
// and what it should be.
func (b counterTable) createDiffTable() string {
	return fmt.Sprintf(`CREATE TEMP TABLE %s AS SELECT %s, 0 AS at_least, %s, %s FROM %s WHERE 0 = 1`, b.diffTable(),
		joined(b.key, "%[1]s"), joined(b.columns, "%[1]s AS was_%[1]s"), joined(b.columns, "%[1]s AS is_%[1]s"), b.table)
}

// compare selects the rows of a counter table that differ, in the columns of its diffTable.
func (b counterTable) compare() string {
	rows, stored, proved := b.joinedToLedger()
	if b.optionalRows {
		rows, stored, proved = b.summedByKey()
	}
	bound, history := "0 = 1", ""
	if b.atLeast != "" {
		bound, history = b.atLeast, "LEFT JOIN expired_history x ON x.workspace_id = t.workspace_id"
	}
	should := "CASE WHEN " + bound + " AND " + stored + " > " + proved + " THEN " + stored + " ELSE " + proved + " END"
	differs := "CASE WHEN " + bound + " THEN " + stored + " < " + proved + " ELSE " + stored + " <> " + proved + " END"
	return fmt.Sprintf(`SELECT %s, CASE WHEN %s THEN 1 ELSE 0 END, %s, %s FROM %s %s WHERE %s`,
		joined(b.key, "t.%[1]s"), bound, joined(b.columns, stored), joined(b.columns, should),
		rows, history, joinedWith(b.columns, differs, " OR "))
}

// joinedToLedger joins to each row of the table what the ledger says.
func (b counterTable) joinedToLedger() (rows, stored, proved string) {
	table := b.table
	if b.chunked {
		table = fmt.Sprintf(`(SELECT * FROM %s WHERE id > $1 AND id <= $2)`, b.table)
	}
	on := joinedWith(b.key, "t.%[1]s = l.%[1]s", " AND ")
	return fmt.Sprintf("%s t LEFT JOIN (%s) l ON %s", table, b.ledger, on), "t.%[1]s", "coalesce(l.%[1]s, 0)"
}

// summedByKey adds both up by their key, so that a row may be missing on either
// side. It is a sort, where a full join would look for every row in all others.
func (b counterTable) summedByKey() (rows, stored, proved string) {
	key, kept := joined(b.key, "%[1]s"), ""
	if b.kept != "" {
		kept = " WHERE " + b.kept
	}
	return fmt.Sprintf(`(SELECT %s, %s FROM (SELECT %s, %s FROM %s%s UNION ALL SELECT %s, %s FROM (%s) l) b GROUP BY %s) t`,
		key, joined(b.columns, "sum(was_%[1]s) AS was_%[1]s, sum(is_%[1]s) AS is_%[1]s"),
		key, joined(b.columns, "%[1]s AS was_%[1]s, 0 AS is_%[1]s"), b.table, kept,
		key, joined(b.columns, "0, coalesce(%[1]s, 0)"), b.ledger, key), "t.was_%[1]s", "t.is_%[1]s"
}

// fix writes what the diffTable says that the counters should be.
func (b counterTable) fix() string {
	if b.optionalRows {
		return fmt.Sprintf(`INSERT INTO %s (%s, %s%s) SELECT %s, %s%s FROM %s WHERE true ON CONFLICT (%s) DO UPDATE SET %s`,
			b.table, joined(b.key, "%[1]s"), joined(b.columns, "%[1]s"), joinedWith(b.unproved, ", %[1]s", ""),
			joined(b.key, "%[1]s"), joined(b.columns, "is_%[1]s"), strings.Repeat(", 0", len(b.unproved)), b.diffTable(), joined(b.key, "%[1]s"), joined(b.columns, "%[1]s = excluded.%[1]s"))
	}
	same := joinedWith(b.key, "w.%[1]s = "+b.table+".%[1]s", " AND ")
	from := fmt.Sprintf("FROM %s w WHERE %s", b.diffTable(), same)
	return fmt.Sprintf(`UPDATE %s SET %s WHERE EXISTS (SELECT 1 %s)`,
		b.table, joined(b.columns, "%[1]s = (SELECT w.is_%[1]s "+from+")"), from)
}

// joined formats each name, with commas between.
func joined(names []string, format string) string { return joinedWith(names, format, ", ") }

// joinedWith formats each name and joins them.
func joinedWith(names []string, format, between string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = fmt.Sprintf(format, name)
	}
	return strings.Join(all, between)
}

// checkCounters compares a counter table, or a chunk of it, and in a repair sets it right.
func (v *verification) checkCounters(b counterTable, chunk []any) error {
	if err := v.exec([]string{"DELETE FROM " + b.diffTable()}); err != nil {
		return err
	}
	if err := v.exec([]string{"INSERT INTO " + b.diffTable() + " " + b.compare()}, chunk...); err != nil {
		return err
	}
	found := v.report.Found
	err := eachRow(v.ctx, v.conn, "SELECT * FROM "+b.diffTable(), nil, func(_ []string, values []any) {
		v.report.add(b.difference(values, v.repair))
	})
	if err != nil || !v.repair || v.report.Found == found {
		return err
	}
	return v.exec([]string{b.fix()})
}

// checkListing compares run_segments with where steps are. A step that it does
// not list is seen by no other check, so this comes first; a repair lists it,
// and takes out what lists nothing.
func (v *verification) checkListing() error {
	const perPiece = 50_000 // steps
	found := v.report.Found
	err := v.eachChunk(`SELECT segment FROM steps WHERE segment > $1 ORDER BY segment LIMIT 1 OFFSET $2`, perPiece, func(low, high int64) error {
		return v.reportRows("listed nowhere", "listed under the run", `SELECT run_id, segment, count(*) AS steps FROM steps s
			WHERE segment > $1 AND segment <= $2 GROUP BY segment, run_id
			HAVING NOT EXISTS (SELECT 1 FROM run_segments l WHERE l.run_id = s.run_id AND l.segment = s.segment)`, low, high)
	})
	if err != nil {
		return err
	}
	err = v.reportRows("listed", "no such entry", `SELECT run_id, segment, 0 AS steps FROM run_segments l
		WHERE NOT EXISTS (SELECT 1 FROM steps s WHERE s.segment = l.segment AND s.run_id = l.run_id)`)
	if err != nil || !v.repair || v.report.Found == found {
		return err
	}
	return v.exec([]string{
		`INSERT INTO run_segments SELECT DISTINCT run_id, segment FROM steps WHERE true ON CONFLICT (run_id, segment) DO NOTHING`,
		`DELETE FROM run_segments WHERE NOT EXISTS
			(SELECT 1 FROM steps s WHERE s.segment = run_segments.segment AND s.run_id = run_segments.run_id)`,
	})
}

// reportRows reports the segments of runs that a query selects, with their steps.
func (v *verification) reportRows(is, should, query string, args ...any) error {
	return eachRow(v.ctx, v.conn, query, args, func(columns []string, values []any) {
		v.report.add(Difference{
			Check: "run_segments", Row: describe(columns[:2], values[:2]), Repaired: v.repair,
			Stored: describe(columns[2:], values[2:]) + ", " + is, ShouldBe: should,
		})
	})
}

// difference reads a row of the diffTable.
func (b counterTable) difference(values []any, repaired bool) Difference {
	d := Difference{Check: b.name(), Row: describe(b.key, values[:len(b.key)]), Repaired: repaired}
	atLeast, values := values[len(b.key)] == int64(1), values[len(b.key)+1:]
	var names []string
	var stored, should []any
	for i, name := range b.columns {
		if was, is := values[i], values[len(b.columns)+i]; was != is {
			names, stored, should = append(names, name), append(stored, was), append(should, is)
		}
	}
	d.Stored, d.ShouldBe = describe(names, stored), describe(names, should)
	if atLeast {
		d.ShouldBe += " or more"
	}
	return d
}

// eachRow calls use with every row of a query.
func eachRow(ctx context.Context, conn Querier, query string, args []any, use func(columns []string, values []any)) (err error) {
	rows, err := conn.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			return err
		}
		use(columns, values)
	}
	return rows.Err()
}

// describe writes columns for people: days as dates, ids in hexadecimal digits.
func describe(columns []string, values []any) string {
	words := make([]string, len(columns))
	for i, name := range columns {
		var text string
		switch v := values[i].(type) {
		case nil:
			text = "null"
		case []byte:
			text = hex.EncodeToString(v)
		case int64:
			text = fmt.Sprint(v)
			if name == "day" || name == "booked_day" {
				text = time.Unix(v%1_000_000*24*60*60, 0).UTC().Format(time.DateOnly)
				if v >= 1_000_000 {
					text += " in the workspace's zone"
				}
			}
		default:
			text = fmt.Sprint(v)
		}
		words[i] = name + " " + text
	}
	return strings.Join(words, ", ")
}

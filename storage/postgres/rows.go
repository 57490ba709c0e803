package postgres

import (
	"database/sql"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// A batch queues a statement for each row: one of steps for each call, one of
// runs for each run that changed. What a small statement costs is mostly to begin
// and to end it. So those of one text are sent as one statement of many rows,
// whose parameters are arrays.

// rowText is what is known of a text whose statements can be sent as one: it
// inserts a row, or updates the row of a key, and reads nothing else.
type rowText struct {
	table string
	// keyed says by which columns a statement names its row, in order; key which
	// parameters these are. An INSERT without ON CONFLICT names none.
	keyed string
	key   []int
	adds  bool // it inserts, and names no row

	before, after string // of the parameters, in the text of many rows
	params        []int  // those that the text names, from 0
	kinds         []byte // of these, as the first statement has them
	sql           string // of many rows; "" until it is first sent
}

// What rowsOf understands: values are parameters and literals, and rows are named
// by comparing columns with parameters.
var (
	insertion = regexp.MustCompile(`(?s)^INSERT INTO (\w+)\s*(\([\w\s,]+\))\s*VALUES\s*\(([^()']*)\)\s*(ON CONFLICT \(([\w\s,]+)\)\s*DO (?:NOTHING|UPDATE\s+SET [^$]*))?$`)
	keyUpdate = regexp.MustCompile(`(?s)^UPDATE (\w+) SET ([^()]*?)\s+WHERE (\w+ = \$\d+(?: AND \w+ = \$\d+)*)$`)
	equality  = regexp.MustCompile(`(\w+) = \$(\d+)`)
)

// rowsOf analyses a text; nil if its statements are sent one by one.
func rowsOf(query string) *rowText {
	if m := insertion.FindStringSubmatch(query); m != nil {
		return insertionOf(m[1], m[2], m[3], m[4], m[5])
	}
	if m := keyUpdate.FindStringSubmatch(query); m != nil {
		return updateOf(m[1], m[2], m[3])
	}
	return nil
}

// insertionOf analyses an INSERT; conflict names the columns of its ON CONFLICT, if it has one.
func insertionOf(table, columns, values, onConflict, conflict string) *rowText {
	names, given := strings.Split(strings.Trim(columns, "()"), ","), strings.Split(values, ",")
	if len(names) != len(given) {
		return nil
	}
	params := make(map[string]int)
	for i, name := range names {
		if value := strings.TrimSpace(given[i]); value[0] == '$' {
			params[strings.TrimSpace(name)], _ = strconv.Atoi(value[1:])
		}
	}
	r := &rowText{
		table: table, adds: conflict == "", params: paramsOf(values),
		before: "INSERT INTO " + table + " " + columns + " SELECT " + values + " FROM unnest(", after: " " + onConflict,
	}
	if !r.adds && !r.nameRows(strings.Split(conflict, ","), params) {
		return nil
	}
	return r
}

// updateOf analyses an UPDATE of what a condition compares with parameters.
func updateOf(table, set, where string) *rowText {
	params := make(map[string]int)
	var names []string
	for _, e := range equality.FindAllStringSubmatch(where, -1) {
		params[e[1]], _ = strconv.Atoi(e[2])
		names = append(names, e[1])
	}
	r := &rowText{
		table: table, params: paramsOf(set + where),
		before: "UPDATE " + table + " SET " + set + " FROM unnest(", after: " WHERE " + where,
	}
	r.nameRows(names, params)
	return r
}

// paramsOf lists the parameters of a text, each once.
func paramsOf(text string) (list []int) {
	for _, p := range parameters.FindAllString(text, -1) {
		n, _ := strconv.Atoi(p[1:])
		list = append(list, n-1)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// nameRows sets by which columns a row is named; false if one of them is no parameter.
func (r *rowText) nameRows(names []string, params map[string]int) bool {
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	slices.Sort(names)
	r.keyed = strings.Join(names, ",")
	for _, name := range names {
		if params[name] == 0 {
			return false
		}
		r.key = append(r.key, params[name]-1)
	}
	return true
}

// The kinds of parameters, by the array that has them.
const (
	kindInteger = 'i'
	kindBytes   = 'b'
	kindText    = 't'
	kindOther   = 0
)

// kindOf returns the kind of an argument.
func kindOf(arg any) byte {
	switch arg.(type) {
	case int64, sql.NullInt64, *int64:
		return kindInteger
	case string, sql.NullString, *string:
		return kindText
	case []byte:
		return kindBytes
	case nil:
		return kindOther
	}
	switch reflect.TypeOf(arg).Kind() { // a type with a name
	case reflect.Int, reflect.Int64, reflect.Uint8:
		return kindInteger
	case reflect.String:
		return kindText
	}
	return kindOther
}

// fits reports whether a statement can be one of several rows.
func (r *rowText) fits(args []any) bool {
	if r.kinds == nil {
		for _, p := range r.params {
			r.kinds = append(r.kinds, kindOf(args[p]))
		}
	}
	for i, p := range r.params {
		if kind := kindOf(args[p]); kind == kindOther || kind != r.kinds[i] {
			return false
		}
	}
	return true
}

// many is the text of many rows.
func (r *rowText) many() string {
	if r.sql != "" {
		return r.sql
	}
	arrays, names, named := r.arrays()
	r.sql = named(r.before) + arrays + ") AS v (" + names + ")" + named(r.after)
	return r.sql
}

// arrays lists the parameters as arrays, and the names that one row of them has;
// named names them so in a text.
func (r *rowText) arrays() (arrays, names string, named func(string) string) {
	types := map[byte]string{kindInteger: "bigint[]", kindBytes: "bytea[]", kindText: "text[]"}
	var list, of []string
	for i, p := range r.params {
		list, of = append(list, fmt.Sprintf("$%d::%s", i+1, types[r.kinds[i]])), append(of, "p"+strconv.Itoa(p+1))
	}
	return strings.Join(list, ", "), strings.Join(of, ", "), func(text string) string {
		return parameters.ReplaceAllString(text, "v.p$1")
	}
}

// columns are the parameters of some rows.
func (r *rowText) columns(rows [][]any) []any {
	list := make([]any, len(r.params))
	for i, p := range r.params {
		list[i] = column{rows, p}
	}
	return list
}

// appendKey appends what names the row of a statement, so that two are equal only for one row.
func (r *rowText) appendKey(to []byte, args []any) []byte {
	for _, p := range r.key {
		switch v := plain(args[p]).(type) {
		case int64:
			to = strconv.AppendInt(to, v, 36)
		case []byte:
			to = strconv.AppendInt(to, int64(len(v)), 36)
			to = append(append(to, ':'), v...)
		case string:
			to = strconv.AppendInt(to, int64(len(v)), 36)
			to = append(append(to, ':'), v...)
		default:
			to = fmt.Append(to, v)
		}
		to = append(to, ' ')
	}
	return to
}

// plain is an argument without what a driver wraps around it; nil for null.
func plain(arg any) any {
	switch v := arg.(type) {
	case sql.NullInt64:
		if !v.Valid {
			return nil
		}
		return v.Int64
	case *int64:
		if v == nil {
			return nil
		}
		return *v
	case sql.NullString:
		if !v.Valid {
			return nil
		}
		return v.String
	case *string:
		if v == nil {
			return nil
		}
		return *v
	case []byte:
		if v == nil {
			return nil
		}
		return v
	case int64, string:
		return v
	}
	v := reflect.ValueOf(arg)
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(v.Uint())
	case v.Kind() == reflect.String:
		return v.String()
	}
	return arg
}

// column is one parameter of many rows, as pgx takes an array.
type column struct {
	rows [][]any
	arg  int
}

// Dimensions is the array's length.
func (c column) Dimensions() []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(len(c.rows)), LowerBound: 1}}
}

// Index is the argument of one row.
func (c column) Index(i int) any { return plain(c.rows[i][c.arg]) }

// IndexType is that of all of them.
func (c column) IndexType() any {
	for i := range c.rows {
		if v := c.Index(i); v != nil {
			return v
		}
	}
	return nil
}

// unit is a statement as it is sent, for one that was queued or for several of one text.
type unit struct {
	queued
	text *rowText // nil where it takes no others in
	rows [][]any  // the arguments of each
	keys map[string]struct{}
}

// finish reads the result of a statement that was queued. Nobody waited for it, so
// its caller has gone on as if it had worked: after an error the transaction is lost.
func (u *unit) finish(results pgx.BatchResults) error {
	if u.each != nil {
		err := readRows(results, u.each)
		if err != nil && u.failed != nil {
			err = u.failed(err)
		}
		return err
	}
	tag, err := results.Exec()
	if err == nil && u.must && tag.RowsAffected() < int64(max(1, len(u.rows))) {
		err = ErrNothingChanged
	}
	return err
}

// joined makes of what was queued as few statements as do the same. They keep
// their order, except that one may move ahead to others of its text, over
// statements that have nothing to do with its row. Of the tables to which others
// refer (REFERENCES), no row is ever inserted by a statement that is queued.
//
// Before a savepoint that is being placed, only texts that are prepared are used:
// see placeSavepoint.
func (c *Conn) joined(list []queued) []unit {
	units := c.units[:0]
	latest := make(map[*rowText]int) // the unit that takes others of a text in
	for _, q := range list {
		r := c.textOf(q.query, len(q.args)).rows
		if r == nil || !r.fits(q.args) || c.savepoint != noSavepoint && r.sql == "" {
			clear(latest) // nothing moves over what is not understood
			units = append(units, unit{queued: q})
			continue
		}
		c.key = r.appendKey(c.key[:0], q.args)
		i, found := latest[r]
		if found && units[i].must == q.must && mayMove(units[i:], r, c.key) {
			u := &units[i]
			if !r.adds {
				u.keys[string(c.key)] = struct{}{}
			}
			u.rows = append(u.rows, q.args)
			continue
		}
		u := unit{queued: q, text: r, rows: [][]any{q.args}}
		if !r.adds {
			u.keys = map[string]struct{}{string(c.key): {}}
		}
		latest[r] = len(units)
		units = append(units, u)
	}
	c.units = units
	return units
}

// mayMove reports whether a statement may join the first of some units, although
// it comes after all of them.
func mayMove(units []unit, r *rowText, key []byte) bool {
	for i, u := range units {
		if u.text.table != r.table {
			continue
		}
		_, same := u.keys[string(key)]
		switch {
		case i == 0 && r.adds: // another new row
		case u.text.keyed == r.keyed && !r.adds && !u.text.adds && !same: // other rows
		case r.adds && !u.text.adds && u.must: // rows that were there before
		default:
			return false
		}
	}
	return true
}

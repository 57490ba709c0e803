package sqlite

import (
	"database/sql"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// statement is a prepared one.
type statement struct {
	handle  uintptr // sqlite3_stmt*
	columns int
	params  []int // for each of SQLite's parameters, which counts them as they come, the argument: of $2 it is 1
}

// prepare returns the statement for a query text, prepared once. The texts
// are constants or built from a handful of constants, so the map stays small.
func (c *Conn) prepare(query string) (*statement, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	text, err := libc.CString(query)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, text)
	if rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, text, int32(len(query)), c.out, 0); rc != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("prepare %s: %w", FirstWords(query), c.lastError(rc))
	}
	s := &statement{handle: *(*uintptr)(address(c.out))}
	s.columns = int(sqlite3.Xsqlite3_column_count(c.tls, s.handle))
	for i := range sqlite3.Xsqlite3_bind_parameter_count(c.tls, s.handle) {
		name := libc.GoString(sqlite3.Xsqlite3_bind_parameter_name(c.tls, s.handle, i+1))
		number, err := strconv.Atoi(strings.TrimPrefix(name, "$"))
		if err != nil || number < 1 {
			sqlite3.Xsqlite3_finalize(c.tls, s.handle)
			return nil, fmt.Errorf("prepare %s: parameter %q is not numbered as $1 is", FirstWords(query), name)
		}
		s.params = append(s.params, number-1)
	}
	c.stmts[query] = s
	return s, nil
}

// bind sets every parameter, so that none keeps pointing at earlier texts.
func (c *Conn) bind(s *statement, args []any) error {
	if len(s.params) != len(args) {
		return fmt.Errorf("%d parameters, %d values", len(s.params), len(args))
	}
	size := 0
	for _, arg := range args {
		size += textSize(arg)
	}
	if err := c.reserve(size); err != nil {
		return err
	}
	at := c.texts
	for i, arg := range s.params {
		if arg >= len(args) {
			return fmt.Errorf("there is no value for $%d", arg+1)
		}
		rc, used, err := c.bindOne(s.handle, int32(i+1), args[arg], at)
		if err != nil {
			return err
		}
		if rc != sqlite3.SQLITE_OK {
			return c.lastError(rc)
		}
		at += uintptr(used)
	}
	return nil
}

// textSize is how many bytes of texts an argument takes.
func textSize(arg any) int {
	switch v := arg.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	case sql.NullString:
		return len(v.String)
	case *string:
		if v != nil {
			return len(*v)
		}
	}
	return 0
}

// reserve makes room for texts: usually there is enough, and what one large
// payload took is given back by the next statement.
func (c *Conn) reserve(size int) error {
	const usual = 16 << 10
	size = max(size, usual)
	if size == c.textsSize || size < c.textsSize && c.textsSize == usual {
		return nil
	}
	libc.Xfree(c.tls, c.texts)
	c.texts, c.textsSize = 0, 0
	var err error
	if c.texts, err = c.malloc(size); err == nil {
		c.textsSize = size
	}
	return err
}

// bindOne binds a value of the few kinds that a store needs.
func (c *Conn) bindOne(stmt uintptr, i int32, arg any, at uintptr) (rc int32, used int, err error) {
	switch v := arg.(type) {
	case int64:
		return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, v), 0, nil
	case int:
		return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, int64(v)), 0, nil
	case sql.NullInt64:
		if v.Valid {
			return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, v.Int64), 0, nil
		}
	case string:
		return c.bindText(stmt, i, v, at), len(v), nil
	case sql.NullString:
		if v.Valid {
			return c.bindText(stmt, i, v.String, at), len(v.String), nil
		}
	case *string:
		if v != nil {
			return c.bindText(stmt, i, *v, at), len(*v), nil
		}
	case []byte:
		if v != nil {
			copy(unsafe.Slice((*byte)(address(at)), len(v)), v)
			return sqlite3.Xsqlite3_bind_blob(c.tls, stmt, i, at, int32(len(v)), sqliteStatic), len(v), nil
		}
	case nil:
	default:
		if number := reflect.ValueOf(arg); number.Kind() == reflect.Int64 { // a named type, such as an id
			return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, number.Int()), 0, nil
		}
		return 0, 0, fmt.Errorf("parameter %d is a %T, which is bound as nothing", i, arg)
	}
	return sqlite3.Xsqlite3_bind_null(c.tls, stmt, i), 0, nil
}

// sqliteStatic tells SQLite that the bytes stay where they are while it needs them.
const sqliteStatic = 0

// bindText copies a text into C memory and binds it there: SQLite does not copy it again, so it
// must stay until the statement is reset.
func (c *Conn) bindText(stmt uintptr, i int32, text string, at uintptr) int32 {
	copy(unsafe.Slice((*byte)(address(at)), len(text)), text)
	return sqlite3.Xsqlite3_bind_text(c.tls, stmt, i, at, int32(len(text)), sqliteStatic)
}

// FirstWords names a query in an error, without its values (there are none in
// the text) and without its length.
func FirstWords(query string) string {
	words := strings.Fields(query)
	return strings.Join(words[:min(4, len(words))], " ")
}

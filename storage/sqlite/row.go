package sqlite

import (
	"database/sql"
	"fmt"
	"reflect"
	"unsafe"

	sqlite3 "modernc.org/sqlite/lib"
)

// Row is a row that can be read.
type Row = interface{ Scan(dest ...any) error }

// rawRow is the row that a statement stands on.
type rawRow struct {
	c *Conn
	s *statement
}

// Scan copies the columns out, each into a pointer to a number, a flag, a text
// or bytes, to one that can be null, or into an sql.Scanner.
func (r rawRow) Scan(dest ...any) error {
	if len(dest) != r.s.columns {
		return fmt.Errorf("%d columns, %d destinations", r.s.columns, len(dest))
	}
	for i, d := range dest {
		if err := r.scanOne(int32(i), d); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

// scanOne reads one column. It knows the types that the ledger uses.
func (r rawRow) scanOne(i int32, dest any) error {
	null := sqlite3.Xsqlite3_column_type(r.c.tls, r.s.handle, i) == sqlite3.SQLITE_NULL
	switch d := dest.(type) {
	case *sql.NullInt64:
		*d = sql.NullInt64{Int64: r.integer(i), Valid: !null}
		return nil
	case *sql.NullString:
		*d = sql.NullString{String: string(r.bytes(i)), Valid: !null}
		return nil
	case *[]byte:
		*d = nil
		if !null {
			*d = append(make([]byte, 0), r.bytes(i)...)
		}
		return nil
	case sql.Scanner:
		if null {
			return d.Scan(nil)
		}
		return d.Scan(append([]byte(nil), r.bytes(i)...))
	}
	to := reflect.ValueOf(dest).Elem()
	if to.Kind() == reflect.Pointer {
		to.SetZero()
		if null {
			return nil
		}
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	if null {
		return fmt.Errorf("it is null, which a %T cannot be", dest)
	}
	return r.assign(i, to)
}

// assign sets a value of a named type by its kind.
func (r rawRow) assign(i int32, to reflect.Value) error {
	switch to.Kind() {
	case reflect.Int, reflect.Int64:
		to.SetInt(r.integer(i))
	case reflect.Uint8:
		to.SetUint(uint64(r.integer(i)))
	case reflect.Bool:
		to.SetBool(r.integer(i) != 0)
	case reflect.String:
		to.SetString(string(r.bytes(i)))
	default:
		return fmt.Errorf("nothing is read into a %s", to.Type())
	}
	return nil
}

// integer reads a column as a 64-bit integer; NULL is 0.
func (r rawRow) integer(i int32) int64 {
	return sqlite3.Xsqlite3_column_int64(r.c.tls, r.s.handle, i)
}

// bytes are SQLite's own, until the next step.
func (r rawRow) bytes(i int32) []byte {
	p := sqlite3.Xsqlite3_column_blob(r.c.tls, r.s.handle, i)
	n := int(sqlite3.Xsqlite3_column_bytes(r.c.tls, r.s.handle, i))
	if n == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(address(p)), n)
}

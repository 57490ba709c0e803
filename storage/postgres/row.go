package postgres

import (
	"database/sql"
	"encoding/binary"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// row is the row that a query stands on.
type row struct {
	fields []pgconn.FieldDescription
	values [][]byte
}

// Scan copies the columns out, each into a pointer to a number, a flag, a text
// or bytes, to one that can be null, or into an sql.Scanner. A flag may be kept
// as a number, as SQLite keeps it.
func (r *row) Scan(dest ...any) error {
	if len(dest) != len(r.values) {
		return fmt.Errorf("%d columns, %d destinations", len(r.values), len(dest))
	}
	for i, d := range dest {
		if err := r.scanOne(i, d); err != nil {
			return fmt.Errorf("column %d: %w", i, err)
		}
	}
	return nil
}

// scanOne decodes one column from PostgreSQL's binary form. It knows the types that the ledger
// uses.
func (r *row) scanOne(i int, dest any) error {
	raw := r.values[i]
	switch d := dest.(type) {
	case *int64:
		if raw != nil {
			return r.integer(i, d)
		}
	case *sql.NullInt64:
		*d = sql.NullInt64{Valid: raw != nil}
		if raw == nil {
			return nil
		}
		return r.integer(i, &d.Int64)
	case *sql.NullString:
		*d = sql.NullString{String: string(raw), Valid: raw != nil}
		return nil
	case *[]byte:
		*d = nil
		if raw != nil {
			*d = append(make([]byte, 0, len(raw)), raw...)
		}
		return nil
	case sql.Scanner:
		if raw == nil {
			return d.Scan(nil)
		}
		return d.Scan(append([]byte(nil), raw...))
	}
	// What is left are named types, such as an enumeration, and pointers to them.
	to := reflect.ValueOf(dest).Elem()
	if to.Kind() == reflect.Pointer {
		to.SetZero()
		if raw == nil {
			return nil
		}
		to.Set(reflect.New(to.Type().Elem()))
		to = to.Elem()
	}
	if raw == nil {
		return fmt.Errorf("it is null, which a %T cannot be", dest)
	}
	return r.assign(i, to)
}

// assign sets a value of a named type by its kind.
func (r *row) assign(i int, to reflect.Value) error {
	if to.Kind() == reflect.String {
		to.SetString(string(r.values[i]))
		return nil
	}
	var n int64
	if err := r.integer(i, &n); err != nil {
		return err
	}
	switch to.Kind() {
	case reflect.Int, reflect.Int64:
		to.SetInt(n)
	case reflect.Uint8:
		to.SetUint(uint64(n))
	case reflect.Bool:
		to.SetBool(n != 0)
	default:
		return fmt.Errorf("nothing is read into a %s", to.Type())
	}
	return nil
}

// integer reads a number or a flag. A sum of numbers is a numeric.
func (r *row) integer(i int, into *int64) error {
	raw, f := r.values[i], r.fields[i]
	if f.Format == pgtype.BinaryFormatCode {
		switch {
		case f.DataTypeOID == pgtype.Int8OID && len(raw) == 8:
			*into = int64(binary.BigEndian.Uint64(raw))
			return nil
		case f.DataTypeOID == pgtype.Int4OID && len(raw) == 4:
			*into = int64(int32(binary.BigEndian.Uint32(raw)))
			return nil
		case f.DataTypeOID == pgtype.BoolOID && len(raw) == 1:
			*into = int64(raw[0])
			return nil
		}
	}
	var n pgtype.Int8
	if err := numerics.Scan(f.DataTypeOID, f.Format, raw, &n); err != nil {
		return fmt.Errorf("it is no integer: %w", err)
	}
	*into = n.Int64
	return nil
}

// numerics reads what is neither of the usual types. It is only read.
var numerics = pgtype.NewMap()

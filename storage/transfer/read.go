package transfer

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
)

// querier is a connection or a transaction, of either engine.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

const (
	// chunkRows and chunkBytes bound a chunk: what is copied again after a kill.
	chunkRows = 20_000
	// Rows may be large, so their bytes count as well.
	chunkBytes = 8 << 20
)

// chunk is a number of rows that are written together.
type chunk struct {
	rows  [][]any
	bytes int
}

// eachRow reads a part of a table in the order of its key. The values are int64,
// string, []byte and nil, whatever the engine, and belong to fn.
func eachRow(ctx context.Context, q querier, t table, part span, fn func(row []any) error) error {
	for {
		// A query for each chunk, so that no cursor stays open and memory is bounded: the next
		// one begins behind the last key.
		query, args := t.selectRows(part, chunkRows)
		read, last, err := someRows(ctx, q, t, query, args, fn)
		if err != nil {
			return fmt.Errorf("read %s: %w", t.name, err)
		}
		if read < chunkRows {
			return nil
		}
		part.after = t.keyOf(last)
	}
}

// someRows reads one query's rows, and returns how many they were and the key of the last.
func someRows(
	ctx context.Context, q querier, t table, query string, args []any, fn func(row []any) error,
) (read int, last []any, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return 0, nil, err
	}
	defer func() { err = errors.Join(err, rows.Close(), rows.Err()) }()
	into := make([]any, len(t.columns))
	for rows.Next() {
		// A new slice for each row: fn keeps it until its chunk is written.
		row := make([]any, len(t.columns))
		for i := range row {
			into[i] = &row[i]
		}
		if err := rows.Scan(into...); err != nil {
			return read, last, err
		}
		for i, v := range row {
			if b, ok := v.([]byte); ok && b == nil {
				row[i] = []byte{} // an empty one, not null
			}
		}
		if err := fn(row); err != nil {
			return read, last, err
		}
		read, last = read+1, row
	}
	return read, last, nil
}

// lastKey is the key of a table's last row, or nil when it is empty.
func lastKey(ctx context.Context, q querier, t table) ([]any, error) {
	order := quoted(t.key)
	backwards := make([]string, len(t.key))
	for i, c := range t.key {
		backwards[i] = `"` + c + `" DESC`
	}
	key := make([]any, len(t.key))
	into := make([]any, len(t.key))
	for i := range key {
		into[i] = &key[i]
	}
	query := "SELECT " + order + " FROM " + t.name + " ORDER BY " + strings.Join(backwards, ", ") + " LIMIT 1"
	err := q.QueryRowContext(ctx, query).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find the end of %s: %w", t.name, err)
	}
	return key, nil
}

// countRows counts a table's rows, for the progress that is shown.
func countRows(ctx context.Context, q querier, name string) (n int64, err error) {
	if err := q.QueryRowContext(ctx, "SELECT count(*) FROM "+name).Scan(&n); err != nil {
		return 0, fmt.Errorf("count %s: %w", name, err)
	}
	return n, nil
}

// digest is what two tables with the same rows have in common. It does not depend
// on their order.
type digest struct {
	rows int64
	sum  uint64
}

// add adds a row's hash. The sum does not depend on the order of rows.
func (d *digest) add(h uint64) { d.rows, d.sum = d.rows+1, d.sum+h }

// join adds up the digests of two parts.
func (d *digest) join(other digest) { d.rows, d.sum = d.rows+other.rows, d.sum+other.sum }

// hasher makes digests that can be compared with each other.
type hasher struct {
	seed maphash.Seed
}

// of returns a row's hash.
func (h hasher) of(row []any) uint64 {
	buf := make([]byte, 0, 256)
	for _, v := range row {
		switch v := v.(type) {
		case nil:
			buf = append(buf, 0)
		case int64:
			buf = binary.LittleEndian.AppendUint64(append(buf, 1), uint64(v))
		case string:
			buf = append(binary.LittleEndian.AppendUint64(append(buf, 2), uint64(len(v))), v...)
		case []byte:
			buf = append(binary.LittleEndian.AppendUint64(append(buf, 3), uint64(len(v))), v...)
		default:
			panic(fmt.Sprintf("a value of the type %T in a table", v)) // no column has one
		}
	}
	return maphash.Bytes(h.seed, buf)
}

// digestOf reads a part of a table for its digest.
func (h hasher) digestOf(ctx context.Context, q querier, t table, part span, seen func()) (d digest, err error) {
	err = eachRow(ctx, q, t, part, func(row []any) error {
		d.add(h.of(row))
		seen()
		return nil
	})
	return d, err
}

// size is about how many bytes a row takes in memory.
func size(row []any) (n int) {
	n = 16 * len(row)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

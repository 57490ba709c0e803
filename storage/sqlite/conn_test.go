package sqlite

import (
	"context"
	"database/sql"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

func openedConn(t *testing.T) *Conn {
	t.Helper()
	c, err := OpenConn(created(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// Named kinds, as a store has them.
type (
	rowID  int64
	status uint8
	price  int64
	money  int64
)

// values are those of one row, in kinds that the store reads and binds.
type values struct {
	Int    int64
	Key    rowID
	Number int
	None   sql.NullInt64
	Some   sql.NullInt64
	Text   string
	NoText sql.NullString
	Bytes  []byte
	Empty  []byte
	ID     uuid.UUID
	Flag   bool
	Status status
	Price  *price
	Money  *money
	Named  *string
}

// What is bound is read back, in whatever order the parameters stand in the
// query, and again when the statement is used again.
func TestWritersConnectionReadsWhatItBinds(t *testing.T) {
	c := openedConn(t)
	const query = `SELECT $2, $1, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16`
	for i := range 3 {
		large := strings.Repeat("é\x01'", 1+i%2*50_000) // over and back below what is reserved
		want := values{
			Int: math.MinInt64 + int64(i), Key: 7, Number: -1, Some: sql.NullInt64{Int64: 3, Valid: true},
			Text: large, Bytes: []byte("\x00\xff"), Empty: []byte{}, ID: uuid.New(), Flag: i%2 == 0, Status: 4,
			Price: new(price(math.MaxInt64)), Named: new(""),
		}
		var got values
		var null any
		err := c.Query(context.Background(), query, []any{
			want.Key, want.Int, want.Number, want.None, want.Some, want.Text, want.NoText, want.Bytes, want.Empty,
			want.ID[:], int64(1 - i%2), int64(want.Status), int64(*want.Price), nil, want.Named, null,
		}, func(row Row) error {
			var nothing *string
			return row.Scan(&got.Int, &got.Key, &got.Number, &got.None, &got.Some, &got.Text, &got.NoText, &got.Bytes, &got.Empty,
				&got.ID, &got.Flag, &got.Status, &got.Price, &got.Money, &got.Named, &nothing)
		})
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Fatalf("round %d: %v\n%.2000s", i, err, diff)
		}
	}
}

func TestWritersConnectionRefusesWhatItCannotKeep(t *testing.T) {
	c := openedConn(t)
	var n int64
	var text struct{}
	read := func(dest ...any) func(Row) error {
		return func(row Row) error { return row.Scan(dest...) }
	}
	for want, do := range map[string]func() error{
		"1 parameters, 0 values":          func() error { _, err := c.Exec(t.Context(), `SELECT $1`, nil); return err },
		"no value for $3":                 func() error { _, err := c.Exec(t.Context(), `SELECT $3`, []any{1}); return err },
		"not numbered":                    func() error { _, err := c.Exec(t.Context(), `SELECT ?`, []any{1}); return err },
		"float64, which is bound":         func() error { _, err := c.Exec(t.Context(), `SELECT $1`, []any{0.1}); return err },
		"null, which a *int64 cannot be":  func() error { return c.Query(t.Context(), `SELECT NULL`, nil, read(&n)) },
		"2 columns, 1 destinations":       func() error { return c.Query(t.Context(), `SELECT 1, 2`, nil, read(&n)) },
		"nothing is read into a struct":   func() error { return c.Query(t.Context(), `SELECT 1`, nil, read(&text)) },
		"no such table":                   func() error { return c.Run(`SELECT * FROM nowhere`) },
		"UNIQUE constraint failed: probe": func() error { return c.Run(`INSERT INTO probes (id) VALUES (1), (1)`) },
	} {
		for range 2 { // a statement that failed once must work as if new
			if err := do(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
	if err := c.Run(`INSERT INTO probes (id) VALUES (1)`); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestWritersConnectionMakesNoFile(t *testing.T) {
	_, err := OpenConn(filepath.Join(t.TempDir(), "none.db"))
	if err == nil || !strings.Contains(err.Error(), "unable to open") {
		t.Error(err)
	}
}

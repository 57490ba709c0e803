package sqlite

import (
	"bytes"
	"path/filepath"
	"testing"
)

// file is a database of its own, with a writer whose WAL is checkpointed beside it,
// and readers. Its helpers end the test on an error.
type file struct {
	t            *testing.T
	path         string
	writer       *Conn
	checkpointer *Checkpointer
	pool         *Pool
	filled       int // writes of fill
}

func newFile(t *testing.T) *file {
	t.Helper()
	f := &file{t: t, path: created(t), writer: nil}
	var err error
	f.writer, err = OpenConn(f.path)
	f.must(err)
	t.Cleanup(func() { f.must(f.writer.Close()) })
	f.checkpointer, err = NewCheckpointer(f.path, f.writer)
	f.must(err)
	t.Cleanup(func() { f.must(f.checkpointer.Close()) })
	db, err := OpenReaders(f.path)
	f.must(err)
	t.Cleanup(func() { f.must(db.Close()) })
	f.pool, err = NewPool(t.Context(), db, 3)
	f.must(err)
	t.Cleanup(func() {
		select {
		case <-f.pool.closed:
		default:
			f.must(f.pool.Close())
		}
	})
	return f
}

// created makes a file with one table.
func created(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "test.db")
	db, err := OpenDB(path, Pragmas(false)...)
	if err == nil {
		_, err = db.ExecContext(t.Context(), `CREATE TABLE probes (id INTEGER PRIMARY KEY, room BLOB) STRICT`)
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

func (f *file) must(err error) {
	if err != nil {
		f.t.Helper()
		f.t.Fatal(err)
	}
}

// write runs a statement in a transaction, and lets the WAL be checkpointed.
func (f *file) write(query string, args ...any) {
	f.t.Helper()
	f.must(f.writer.Run("BEGIN IMMEDIATE"))
	_, err := f.writer.Exec(f.t.Context(), query, args)
	f.must(err)
	f.must(f.writer.Run("COMMIT"))
	f.checkpointer.Committed()
}

// read counts the rows in a snapshot, which ends when over is closed.
func (f *file) read(over <-chan struct{}) error {
	s, err := f.pool.Begin(f.t.Context())
	if err != nil {
		return err
	}
	var n int64
	err = s.Query(f.t.Context(), `SELECT count(*) FROM probes`, nil, func(row Row) error { return row.Scan(&n) })
	<-over
	if endErr := f.pool.End(f.t.Context(), s); endErr != nil {
		return endErr
	}
	return err
}

// pages is how many frames of the WAL a write of fill takes, or a few more.
const pages = 64

// fill writes as much as many small writes do, and returns the frames before it.
func (f *file) fill() (frames int32) {
	f.t.Helper()
	f.filled++
	frames = f.writer.frames()
	f.write(`INSERT INTO probes (id, room) VALUES (1, $1) ON CONFLICT (id) DO UPDATE SET room = excluded.room`,
		bytes.Repeat([]byte{byte(f.filled)}, pages*4096))
	return frames
}

// fillTo writes until the WAL has that many frames.
func (f *file) fillTo(frames int32) {
	f.t.Helper()
	for f.fill() < frames {
	}
}

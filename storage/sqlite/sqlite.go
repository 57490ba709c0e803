// Package sqlite knows SQLite, and nothing of what is kept in it: the writer's connection on the
// engine itself, sessions and pools for reading, the pragmas of all of them, checkpoints, and
// errors by their code.
//
//   - sqlite.go: pragmas, and opening files through database/sql
//   - conn.go and statement.go: the writer's connection, on the C interface; the only unsafe code
//   - session.go and pool.go: readers with prepared statements
//   - row.go: scanning rows
//   - checkpoint.go: checkpoints beside the writer
//   - errors.go: what an error code means
package sqlite

import (
	"database/sql"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	_ "modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Version is that of the library inside.
const Version = sqlite3.SQLITE_VERSION

// BusyTimeout is how long a connection waits for another process's lock.
const BusyTimeout = 5 * time.Second

// walLimit is the size in bytes to which the WAL is cut back.
const walLimit = 64 << 20

// A Pragma is a name and the value that it is set to.
type Pragma = [2]string

// Pragmas are set on every connection and read back, in this order.
func Pragmas(readOnly bool) []Pragma {
	p := []Pragma{
		BusyTimeoutPragma(),
		{"journal_mode", "wal"},
		{"synchronous", "2"}, // FULL: an answer given is an answer kept
		{"foreign_keys", "1"},
	}
	if readOnly {
		return append(p, QueryOnly())
	}
	return append(p,
		// A WAL that a long read has let grow shrinks again once it is checkpointed.
		Pragma{"journal_size_limit", strconv.Itoa(walLimit)},
		Pragma{"secure_delete", "1"}, // what is deleted is gone from the file too
	)
}

// BusyTimeoutPragma is the pragma that sets BusyTimeout.
func BusyTimeoutPragma() Pragma {
	return Pragma{"busy_timeout", strconv.FormatInt(BusyTimeout.Milliseconds(), 10)}
}

// QueryOnly is the pragma of a connection that may not write.
func QueryOnly() Pragma { return Pragma{"query_only", "1"} }

// AutoVacuumIncremental is the value of the pragma auto_vacuum of a file that
// keeps track of where pages belong, so that it can be cut.
const AutoVacuumIncremental = 2

// IncrementalVacuum is the pragma that has a new file keep track of where pages
// belong. A file that has tables it changes only with a VACUUM.
func IncrementalVacuum() Pragma {
	return Pragma{"auto_vacuum", strconv.Itoa(AutoVacuumIncremental)}
}

// OpenDB opens a database through database/sql, with the pragmas on each of
// its connections. It makes the file if there is none.
func OpenDB(path string, pragmas ...Pragma) (*sql.DB, error) {
	return sql.Open("sqlite", dsn(path, pragmas...))
}

// OpenExisting is OpenDB for a file that must be there.
func OpenExisting(path string, pragmas ...Pragma) (*sql.DB, error) {
	return sql.Open("sqlite", dsn(path, pragmas...)+"&mode=rw")
}

// OpenImmediate is OpenDB whose transactions begin with the write lock.
func OpenImmediate(path string, pragmas ...Pragma) (*sql.DB, error) {
	return sql.Open("sqlite", dsn(path, pragmas...)+"&_txlock=immediate")
}

// dsn is a file URI with a query, to which more can be added. Two slashes at the
// front of a path would begin the name of a host.
func dsn(path string, pragmas ...Pragma) string {
	path = filepath.Clean(path)
	q := url.Values{}
	for _, p := range pragmas {
		q.Add("_pragma", p[0]+"("+p[1]+")")
	}
	return (&url.URL{Scheme: "file", Opaque: (&url.URL{Path: path}).EscapedPath(), ForceQuery: true, RawQuery: q.Encode()}).String()
}

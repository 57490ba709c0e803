package sqlite

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// Conn is the writer's connection, by SQLite's own interface. database/sql and
// its driver are made for many goroutines; between the one writer and its one
// connection they cost more than most of its statements do.
//
// It is used by one goroutine at a time.
type Conn struct {
	path string
	tls  *libc.TLS
	db   uintptr // sqlite3*
	// Prepared statements by their text: the ledger's queries are a fixed set.
	stmts   map[string]*statement
	running bool    // a statement, whose callback may not run another
	lost    bool    // it could not be opened again
	out     uintptr // where SQLite puts a pointer
	// texts has a statement's texts and blobs while it runs, outside Go's heap.
	texts      uintptr
	textsSize  int
	frameCount uintptr // where SQLite puts the frames of the WAL after a commit; 0 unless asked to
}

// pointerSize is how many bytes a C pointer has.
const pointerSize = int(unsafe.Sizeof(uintptr(0)))

// OpenConn opens an existing file for writing, with the pragmas set and read back.
func OpenConn(path string) (*Conn, error) {
	c := &Conn{path: path}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

// open opens the connection, sets its pragmas and reads them back.
func (c *Conn) open() (err error) {
	c.tls, c.stmts = libc.NewTLS(), make(map[string]*statement)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if c.out, err = c.malloc(pointerSize); err != nil {
		return err
	}
	name, err := libc.CString(c.path)
	if err != nil {
		return err
	}
	defer libc.Xfree(c.tls, name)
	const flags = sqlite3.SQLITE_OPEN_READWRITE | sqlite3.SQLITE_OPEN_NOMUTEX
	rc := sqlite3.Xsqlite3_open_v2(c.tls, name, c.out, flags, 0)
	c.db = *(*uintptr)(address(c.out))
	if rc != sqlite3.SQLITE_OK {
		return c.lastError(rc)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	for _, p := range Pragmas(false) {
		if err := c.Run("PRAGMA " + p[0] + " = " + p[1]); err != nil {
			return fmt.Errorf("set pragma %s: %w", p[0], err)
		}
	}
	c.setBusyHandler()
	return checkPragmas(c.rows, false)
}

// Reopen replaces SQLite's connection, which ends any transaction, in whatever
// state it was. When it fails, the next statement tries again.
func (c *Conn) Reopen() error {
	counted := c.frameCount != 0 || c.lost
	err := errors.Join(c.Close(), c.open())
	if err == nil && counted {
		err = c.countFrames()
	}
	if err == nil {
		return nil
	}
	err = errors.Join(fmt.Errorf("open the database again: %w", err), c.Close())
	c.lost = true
	return err
}

// setBusyHandler replaces the busy handler that PRAGMA busy_timeout has set, which
// puts a whole thread to sleep, by one that sleeps as goroutines do. SQLite
// takes that for the end of the timeout, of which the pragma is to go on telling.
func (c *Conn) setBusyHandler() {
	handler := struct {
		wait func(*libc.TLS, uintptr, int32) int32
	}{waitForLock}
	sqlite3.Xsqlite3_busy_handler(c.tls, c.db, *(*uintptr)(unsafe.Pointer(&handler)), 0)
	(*sqlite3.Tsqlite3)(address(c.db)).FbusyTimeout = int32(BusyTimeout.Milliseconds())
}

// waitForLock is asked by SQLite, with how often it has been, whether to try again.
func waitForLock(_ *libc.TLS, _ uintptr, asked int32) int32 {
	const pause = time.Millisecond
	if time.Duration(asked)*pause >= BusyTimeout {
		return 0
	}
	time.Sleep(pause)
	return 1
}

// countFrames has SQLite count the frames of the WAL at each commit. It also
// takes the place of SQLite's own checkpoints (checkpoint.go).
func (c *Conn) countFrames() (err error) {
	if c.frameCount, err = c.malloc(pointerSize); err != nil {
		return err
	}
	*(*int32)(address(c.frameCount)) = 0
	hook := struct {
		note func(tls *libc.TLS, counted, db, name uintptr, frames int32) int32
	}{storeFrames}
	sqlite3.Xsqlite3_wal_hook(c.tls, c.db, *(*uintptr)(unsafe.Pointer(&hook)), c.frameCount)
	return nil
}

// storeFrames is SQLite's WAL hook: it keeps how many frames the log has after a commit.
func storeFrames(_ *libc.TLS, counted, _, _ uintptr, frames int32) int32 {
	*(*int32)(address(counted)) = frames
	return sqlite3.SQLITE_OK
}

// frames is how many the WAL had after the latest commit.
func (c *Conn) frames() int32 { return *(*int32)(address(c.frameCount)) }

// checkpoint writes as much of the WAL into the file as can be done without
// waiting for anybody. It returns how many frames there were, and how many of
// them are in the file now.
func (c *Conn) checkpoint() (frames, done int32, err error) {
	var busy, all, written int64
	err = c.rows("PRAGMA wal_checkpoint(PASSIVE)", nil, func(row Row) error {
		return row.Scan(&busy, &all, &written)
	})
	if err == nil && busy != 0 {
		err = &codeError{code: sqlite3.SQLITE_BUSY, text: "another checkpoint runs"}
	}
	return int32(all), int32(written), err
}

// truncateWAL checkpoints all of the WAL and cuts its file to nothing. It waits for
// nobody: done is false when a reader is in the way.
func (c *Conn) truncateWAL() (done bool, err error) {
	if err := c.Run("PRAGMA busy_timeout = 0"); err != nil {
		return false, err
	}
	var busy, all, written int64
	err = c.rows("PRAGMA wal_checkpoint(TRUNCATE)", nil, func(row Row) error {
		return row.Scan(&busy, &all, &written)
	})
	wait := BusyTimeoutPragma()
	err = errors.Join(err, c.Run("PRAGMA "+wait[0]+" = "+wait[1]))
	c.setBusyHandler()
	return err == nil && busy == 0, err
}

// Close closes the connection, with its statements.
func (c *Conn) Close() error {
	if c.tls == nil {
		return nil
	}
	for _, s := range c.stmts {
		sqlite3.Xsqlite3_finalize(c.tls, s.handle) // repeats the error of its last step, which was told
	}
	var err error
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.lastError(rc)
		}
	}
	libc.Xfree(c.tls, c.out)
	libc.Xfree(c.tls, c.texts)
	libc.Xfree(c.tls, c.frameCount)
	c.tls.Close()
	*c = Conn{path: c.path}
	return err
}

// malloc allocates memory outside of Go's heap, which C may keep a pointer to.
func (c *Conn) malloc(size int) (uintptr, error) {
	p := libc.Xmalloc(c.tls, libc.Tsize_t(size))
	if p == 0 {
		return 0, &codeError{code: sqlite3.SQLITE_NOMEM, text: "out of memory"}
	}
	return p, nil
}

// address is a place outside of Go's heap, where the collector moves and frees nothing.
func address(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// lastError is SQLite's latest error with its extended code.
func (c *Conn) lastError(rc int32) error {
	text := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 {
		text = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
	}
	return &codeError{code: rc, text: text}
}

// Queries lists the texts of the statements that it has prepared.
func (c *Conn) Queries() []string { return slices.Collect(maps.Keys(c.stmts)) }

// Run runs a statement that takes nothing and gives nothing.
func (c *Conn) Run(query string) error {
	return c.rows(query, nil, func(Row) error { return nil })
}

// Exec runs a statement and returns how many rows it changed. The context is not looked at: what
// the writer has begun it ends.
func (c *Conn) Exec(_ context.Context, query string, args []any) (changed int64, err error) {
	err = c.rows(query, args, func(Row) error { return nil })
	if err != nil {
		return 0, err
	}
	return int64(sqlite3.Xsqlite3_changes(c.tls, c.db)), nil
}

// Query calls each for every row of a query. The context is not looked at.
func (c *Conn) Query(_ context.Context, query string, args []any, each func(Row) error) error {
	return c.rows(query, args, each)
}

// rows is Query without a context.
func (c *Conn) rows(query string, args []any, each func(Row) error) error {
	if c.lost {
		if err := c.Reopen(); err != nil {
			return err
		}
	}
	if c.running { // its texts would be overwritten, or it would be reset
		return fmt.Errorf("%s: %w", FirstWords(query), ErrNested)
	}
	c.running = true
	defer func() { c.running = false }()
	s, err := c.prepare(query)
	if err != nil {
		return err
	}
	defer sqlite3.Xsqlite3_reset(c.tls, s.handle) // repeats the error of the last step
	if err := c.bind(s, args); err != nil {
		return err
	}
	for {
		switch rc := sqlite3.Xsqlite3_step(c.tls, s.handle); rc {
		case sqlite3.SQLITE_ROW:
			if err := each(rawRow{c, s}); err != nil {
				return err
			}
		case sqlite3.SQLITE_DONE:
			return nil
		default:
			return c.lastError(rc)
		}
	}
}

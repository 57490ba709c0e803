package storage

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"modernc.org/libc"
	sqlite3 "modernc.org/sqlite/lib"
)

// conn is the writer's connection, by SQLite's own interface. database/sql and
// its driver are made for many goroutines; between the one writer and its one
// connection they cost more than most of its statements do.
//
// It is used by one goroutine at a time.
type conn struct {
	path    string
	tls     *libc.TLS
	db      uintptr // sqlite3*
	stmts   map[string]*statement
	running bool    // a statement, whose callback may not run another
	lost    bool    // it could not be opened again
	out     uintptr // where SQLite puts a pointer
	// texts holds a statement's texts and blobs while it runs, outside of Go's heap.
	texts     uintptr
	textsSize int
	counted   uintptr // where SQLite puts the frames of the WAL after a commit; 0 unless asked to
}

const pointerSize = int(unsafe.Sizeof(uintptr(0)))

// openConn opens an existing file for writing, with the pragmas set and read back.
func openConn(path string) (*conn, error) {
	c := &conn{path: path}
	if err := c.open(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *conn) open() (err error) {
	c.tls, c.stmts = libc.NewTLS(), make(map[string]*statement)
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
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
		return c.fault(rc)
	}
	sqlite3.Xsqlite3_extended_result_codes(c.tls, c.db, 1)
	for _, p := range pragmas(false) {
		if err := c.run("PRAGMA " + p[0] + " = " + p[1]); err != nil {
			return fmt.Errorf("set pragma %s: %w", p[0], err)
		}
	}
	c.waitInGo()
	return checkPragmas(c.rows, false)
}

// reopen ends whatever transaction there is, of which nobody knows for sure
// what became, with the connection itself. When it fails, the next statement tries again.
func (c *conn) reopen() error {
	counted := c.counted != 0 || c.lost
	err := errors.Join(c.close(), c.open())
	if err == nil && counted {
		err = c.countFrames()
	}
	if err == nil {
		return nil
	}
	err = errors.Join(fmt.Errorf("open the database again: %w", err), c.close())
	c.lost = true
	return err
}

// waitInGo replaces the busy handler that PRAGMA busy_timeout has set, which
// puts a whole thread to sleep, by one that sleeps as goroutines do. SQLite
// takes that for the end of the timeout, of which the pragma is to go on telling.
func (c *conn) waitInGo() {
	handler := struct {
		wait func(*libc.TLS, uintptr, int32) int32
	}{waitForLock}
	sqlite3.Xsqlite3_busy_handler(c.tls, c.db, *(*uintptr)(unsafe.Pointer(&handler)), 0)
	(*sqlite3.Tsqlite3)(address(c.db)).FbusyTimeout = int32(busyTimeout.Milliseconds())
}

// waitForLock is asked by SQLite, with how often it has been, whether to try again.
func waitForLock(_ *libc.TLS, _ uintptr, asked int32) int32 {
	const pause = time.Millisecond
	if time.Duration(asked)*pause >= busyTimeout {
		return 0
	}
	time.Sleep(pause)
	return 1
}

// countFrames has SQLite count the frames of the WAL at each commit. It also
// takes the place of SQLite's own checkpoints (checkpoint.go).
func (c *conn) countFrames() (err error) {
	if c.counted, err = c.malloc(pointerSize); err != nil {
		return err
	}
	*(*int32)(address(c.counted)) = 0
	hook := struct {
		note func(tls *libc.TLS, counted, db, name uintptr, frames int32) int32
	}{noteFrames}
	sqlite3.Xsqlite3_wal_hook(c.tls, c.db, *(*uintptr)(unsafe.Pointer(&hook)), c.counted)
	return nil
}

func noteFrames(_ *libc.TLS, counted, _, _ uintptr, frames int32) int32 {
	*(*int32)(address(counted)) = frames
	return sqlite3.SQLITE_OK
}

// frames is how many the WAL had after the latest commit.
func (c *conn) frames() int32 { return *(*int32)(address(c.counted)) }

// checkpoint folds as much of the WAL into the file as can be done without
// waiting for anybody. It returns how many frames there were, and how many of
// them are folded now.
func (c *conn) checkpoint() (frames, folded int32, err error) {
	var busy, all, done int64
	err = c.rows("PRAGMA wal_checkpoint(PASSIVE)", nil, func(row scanner) error {
		return row.Scan(&busy, &all, &done)
	})
	if err == nil && busy != 0 {
		err = &sqliteError{code: sqlite3.SQLITE_BUSY, text: "another checkpoint runs"}
	}
	return int32(all), int32(done), err
}

// emptyWAL folds all of the WAL and cuts its file to nothing. It waits for
// nobody: done is false when a reader is in the way.
func (c *conn) emptyWAL() (done bool, err error) {
	if err := c.run("PRAGMA busy_timeout = 0"); err != nil {
		return false, err
	}
	var busy, all, folded int64
	err = c.query(context.Background(), "PRAGMA wal_checkpoint(TRUNCATE)", nil, func(row scanner) error {
		return row.Scan(&busy, &all, &folded)
	})
	wait := waitForLocks()
	err = errors.Join(err, c.run("PRAGMA "+wait[0]+" = "+wait[1]))
	c.waitInGo()
	return err == nil && busy == 0, err
}

func (c *conn) close() error {
	if c.tls == nil {
		return nil
	}
	for _, s := range c.stmts {
		sqlite3.Xsqlite3_finalize(c.tls, s.handle) // repeats the error of its last step, which was told
	}
	var err error
	if c.db != 0 {
		if rc := sqlite3.Xsqlite3_close_v2(c.tls, c.db); rc != sqlite3.SQLITE_OK {
			err = c.fault(rc)
		}
	}
	libc.Xfree(c.tls, c.out)
	libc.Xfree(c.tls, c.texts)
	libc.Xfree(c.tls, c.counted)
	c.tls.Close()
	*c = conn{path: c.path}
	return err
}

func (c *conn) malloc(size int) (uintptr, error) {
	p := libc.Xmalloc(c.tls, libc.Tsize_t(size))
	if p == 0 {
		return 0, &sqliteError{code: sqlite3.SQLITE_NOMEM, text: "out of memory"}
	}
	return p, nil
}

// address is a place outside of Go's heap, where the collector moves and frees nothing.
func address(p uintptr) unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&p)) }

// sqliteError is what SQLite says when a call fails.
type sqliteError struct {
	code int32 // extended
	text string
}

func (e *sqliteError) Error() string { return fmt.Sprintf("%s (%d)", e.text, e.code) }

// Code is SQLite's extended result code.
func (e *sqliteError) Code() int { return int(e.code) }

func (c *conn) fault(rc int32) error {
	text := libc.GoString(sqlite3.Xsqlite3_errstr(c.tls, rc))
	if c.db != 0 {
		text = libc.GoString(sqlite3.Xsqlite3_errmsg(c.tls, c.db))
	}
	return &sqliteError{code: rc, text: text}
}

// statement is a prepared one.
type statement struct {
	handle  uintptr // sqlite3_stmt*
	columns int
	params  []int // for each of SQLite's parameters, which counts them as they come, the argument: of $2 it is 1
}

// prepare returns the statement for a query text, prepared once. The texts
// are constants or built from a handful of constants, so the map stays small.
func (c *conn) prepare(query string) (*statement, error) {
	if s, ok := c.stmts[query]; ok {
		return s, nil
	}
	text, err := libc.CString(query)
	if err != nil {
		return nil, err
	}
	defer libc.Xfree(c.tls, text)
	if rc := sqlite3.Xsqlite3_prepare_v2(c.tls, c.db, text, int32(len(query)), c.out, 0); rc != sqlite3.SQLITE_OK {
		return nil, fmt.Errorf("prepare %s: %w", firstWords(query), c.fault(rc))
	}
	s := &statement{handle: *(*uintptr)(address(c.out))}
	s.columns = int(sqlite3.Xsqlite3_column_count(c.tls, s.handle))
	for i := range sqlite3.Xsqlite3_bind_parameter_count(c.tls, s.handle) {
		name := libc.GoString(sqlite3.Xsqlite3_bind_parameter_name(c.tls, s.handle, i+1))
		number, err := strconv.Atoi(strings.TrimPrefix(name, "$"))
		if err != nil || number < 1 {
			sqlite3.Xsqlite3_finalize(c.tls, s.handle)
			return nil, fmt.Errorf("prepare %s: parameter %q is not numbered as $1 is", firstWords(query), name)
		}
		s.params = append(s.params, number-1)
	}
	c.stmts[query] = s
	return s, nil
}

// run runs a statement that takes nothing and gives nothing.
func (c *conn) run(query string) error {
	return c.rows(query, nil, func(scanner) error { return nil })
}

// exec is part of connection. The context is not looked at: what the writer
// has begun it ends.
func (c *conn) exec(_ context.Context, query string, args []any) (changed int64, err error) {
	err = c.rows(query, args, func(scanner) error { return nil })
	if err != nil {
		return 0, err
	}
	return int64(sqlite3.Xsqlite3_changes(c.tls, c.db)), nil
}

// query is part of connection.
func (c *conn) query(_ context.Context, query string, args []any, each func(scanner) error) error {
	return c.rows(query, args, each)
}

// rows is query without a context.
func (c *conn) rows(query string, args []any, each func(scanner) error) error {
	if c.lost {
		if err := c.reopen(); err != nil {
			return err
		}
	}
	if c.running { // its texts would be overwritten, or it would be reset
		return fmt.Errorf("%s: %w", firstWords(query), errNested)
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
			return c.fault(rc)
		}
	}
}

// bind sets every parameter, so that none keeps pointing at earlier texts.
func (c *conn) bind(s *statement, args []any) error {
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
			return c.fault(rc)
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
func (c *conn) reserve(size int) error {
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

// bindOne binds a value of the few kinds that this room uses.
func (c *conn) bindOne(stmt uintptr, i int32, arg any, at uintptr) (rc int32, used int, err error) {
	switch v := arg.(type) {
	case int64:
		return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, v), 0, nil
	case WorkspaceKey:
		return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, int64(v)), 0, nil
	case KeyID:
		return sqlite3.Xsqlite3_bind_int64(c.tls, stmt, i, int64(v)), 0, nil
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
		return 0, 0, fmt.Errorf("parameter %d is a %T, which is bound as nothing", i, arg)
	}
	return sqlite3.Xsqlite3_bind_null(c.tls, stmt, i), 0, nil
}

// sqliteStatic tells SQLite that the bytes stay where they are while it needs them.
const sqliteStatic = 0

func (c *conn) bindText(stmt uintptr, i int32, text string, at uintptr) int32 {
	copy(unsafe.Slice((*byte)(address(at)), len(text)), text)
	return sqlite3.Xsqlite3_bind_text(c.tls, stmt, i, at, int32(len(text)), sqliteStatic)
}

// rawRow is the row that a statement stands on.
type rawRow struct {
	c *conn
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

// assign is for the named types of this and other rooms.
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

// firstWords names a query in an error, without its values (there are none in
// the text) and without its length.
func firstWords(query string) string {
	words := strings.Fields(query)
	return strings.Join(words[:min(4, len(words))], " ")
}

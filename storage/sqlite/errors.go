package sqlite

import (
	"errors"
	"fmt"

	sqlite3 "modernc.org/sqlite/lib"
)

// What a caller can act on.
var (
	// ErrUnavailable: another attempt may succeed.
	ErrUnavailable = errors.New("the database cannot be written or read now")
	// ErrClosed: no further call can succeed.
	ErrClosed = errors.New("the store is closing")
	// ErrNested is a mistake of the program: SQLite's statement would see half a change.
	ErrNested = errors.New("a statement inside the callback of another, on one connection")
)

// codeError is what SQLite says when a call fails.
type codeError struct {
	code int32 // extended
	text string
}

// Error has SQLite's text and code.
func (e *codeError) Error() string { return fmt.Sprintf("%s (%d)", e.text, e.code) }

// Code is SQLite's extended result code.
func (e *codeError) Code() int { return int(e.code) }

// coded is an error of SQLite, from a Conn or from the driver.
type coded interface{ Code() int }

// primaryCode is SQLite's result code without its extension; ok is false when
// the error is none of SQLite's.
func primaryCode(err error) (code int, ok bool) {
	if err == nil { // before e, which is allocated
		return 0, false
	}
	var e coded
	if !errors.As(err, &e) {
		return 0, false
	}
	return e.Code() & 0xff, true
}

// IsUnavailable reports whether an error comes from the environment, such as
// the disk or another process's lock, and not from the statement.
func IsUnavailable(err error) bool {
	code, ok := primaryCode(err)
	if !ok {
		return false
	}
	switch code {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR,
		sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB,
		sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// IsCorrupt reports whether SQLite found the file to be no intact database.
func IsCorrupt(err error) bool {
	code, ok := primaryCode(err)
	return ok && (code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB)
}

// IsBusy reports whether another process kept its lock for too long.
func IsBusy(err error) bool {
	code, ok := primaryCode(err)
	return ok && code == sqlite3.SQLITE_BUSY
}

// IsReadOnly reports whether the files may not be written or opened.
func IsReadOnly(err error) bool {
	code, ok := primaryCode(err)
	return ok && (code == sqlite3.SQLITE_READONLY || code == sqlite3.SQLITE_CANTOPEN)
}

// IsFull reports whether SQLite found the disk to be full.
func IsFull(err error) bool {
	code, ok := primaryCode(err)
	return ok && code == sqlite3.SQLITE_FULL
}

// IsIOError reports whether the operating system refused to read or write.
func IsIOError(err error) bool {
	code, ok := primaryCode(err)
	return ok && code == sqlite3.SQLITE_IOERR
}

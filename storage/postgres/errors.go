package postgres

import (
	"context"
	"errors"
	"io"
	"net"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNested is a statement inside the callback of another, on one connection.
var ErrNested = errors.New("a statement inside the callback of another, on one connection")

// errLost says that there is no connection.
var errLost = errors.New("the connection to PostgreSQL is lost")

// IsUnavailable reports whether an error comes from the environment, such as
// the network, a server that stops, or its disk, and not from the statement.
func IsUnavailable(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	var network net.Error
	var connect *pgconn.ConnectError
	// A server that is killed says nothing, and then a read has no more than an end.
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) {
		return true
	}
	if errors.Is(err, errLost) || errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err) {
		return true
	}
	e := pgError(err)
	if e == nil {
		return false
	}
	switch e.Code[:2] {
	case "08", "25", "40", "53", "55", "57", "58", "XX": // connection, transaction state, rollback, resources, locks, operator, system, internal
		return true
	}
	return false
}

// IsRetryable reports whether the transaction was given up in favour of
// another one, and may simply be run again.
func IsRetryable(err error) bool {
	e := pgError(err)
	return e != nil && (e.Code == "40001" || e.Code == "40P01")
}

// IsFull reports whether the server's disk is full.
func IsFull(err error) bool {
	e := pgError(err)
	return e != nil && e.Code == "53100"
}

// IsReadOnly reports whether the server takes no writes, as a standby does.
func IsReadOnly(err error) bool {
	e := pgError(err)
	return e != nil && e.Code == "25006"
}

// IsCorrupt reports whether the server found its files to be damaged.
func IsCorrupt(err error) bool {
	e := pgError(err)
	return e != nil && (e.Code == "XX001" || e.Code == "XX002")
}

// IsUndefinedTable reports whether a statement names a table that is not there.
func IsUndefinedTable(err error) bool {
	e := pgError(err)
	return e != nil && e.Code == "42P01"
}

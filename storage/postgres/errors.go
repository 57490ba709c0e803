package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// ErrNested is a statement inside the callback of another, on one connection.
var ErrNested = errors.New("a statement inside the callback of another, on one connection")

// errLost says that there is no connection.
var errLost = errors.New("the connection to PostgreSQL is lost")

// ErrNoAnswer says that a connection was given up on, which nobody answers.
var ErrNoAnswer = errors.New("PostgreSQL, or the network to it, has not answered")

// What the operator can do about an error of the server. Explain adds them.
var (
	// What an operator can mend, each with how.
	errUser        = errors.New("PostgreSQL does not let this user in: check the user and the password of the URL (or of PGPASSFILE), what pg_hba.conf allows, and sslmode=verify-full where it asks for TLS")
	errNoDatabase  = errors.New("there is no such database: create it (docs/ops/cluster.md), or name another in the URL")
	errPrivilege   = errors.New("the user of the URL lacks a privilege: make it the owner of the database and its tables")
	errConnections = errors.New("PostgreSQL has no connection left for this node: raise max_connections, or the limit of the role or the database (docs/ops/cluster.md says how many a node needs)")
	errTimeLimit   = errors.New("a time limit of PostgreSQL has ended a statement: raise statement_timeout and lock_timeout for the user of the URL, with ALTER ROLE … SET statement_timeout = '60s'")
)

// Explain adds to an error of the server what its operator can do about it.
func Explain(err error) error {
	e := pgError(err)
	if e == nil {
		return err
	}
	var advice error
	switch e.Code {
	case "28000", "28P01":
		advice = errUser
	case "3D000":
		advice = errNoDatabase
	case "42501":
		advice = errPrivilege
	case "53300":
		advice = errConnections
	case "55P03":
		advice = errTimeLimit
	case "57014":
		if strings.Contains(e.Message, "timeout") { // and not a cancellation
			advice = errTimeLimit
		}
	case "25006":
		advice = ErrReadOnly
	}
	if advice == nil || errors.Is(err, advice) {
		return err
	}
	return fmt.Errorf("%w: %w", advice, err)
}

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
	if errors.Is(err, ErrReadOnly) { // until a primary is there, or promoted
		return true
	}
	if errors.Is(err, errLost) || errors.Is(err, ErrNoAnswer) || errors.As(err, &network) || errors.As(err, &connect) || pgconn.SafeToRetry(err) {
		return true
	}
	e := pgError(err)
	if e == nil {
		return false
	}
	if e.Code == "42501" { // a privilege was taken away
		return true
	}
	switch e.Code[:2] {
	case "08", "25", "28", "3D", "40", "53", "55", "57", "58", "XX": // connection, transaction state, users, databases, rollback, resources, locks, operator, system, internal
		return true
	}
	return false
}

// IsRetryable reports whether the transaction was given up in favour of
// another one, and may simply be run again.
func IsRetryable(err error) bool {
	e := pgError(err)
	return e != nil && (e.Code == "40001" || e.Code == "40P01") || errors.Is(err, ErrOutdated)
}

// IsFull reports whether the server's disk is full.
func IsFull(err error) bool {
	e := pgError(err)
	return e != nil && e.Code == "53100"
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

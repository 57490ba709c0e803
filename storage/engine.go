package storage

import (
	"context"
	"time"

	"github.com/pikarc/server/storage/verify"
)

// engine is the database below the ledger: connections, transactions, space and
// errors. It knows no table of the ledger but those that it needs for itself.
//
// The methods of a transaction are called by whoever has the writer lock, one
// after another. When begin, commit or rollback fails, no transaction is open
// any more, and the next begin starts afresh.
type engine interface {
	// begin starts a transaction for jobs of some scopes, and returns the
	// versions that it finds. Until its end nobody else changes rows in them.
	begin(scopes []WorkspaceKey) (versions, error)
	// conn runs the transaction's statements.
	conn() conn
	// savepoint, rollbackTo and release set apart what one job does.
	savepoint() error
	rollbackTo() error
	release() error
	// commit makes the transaction durable, and returns the versions that it leaves.
	commit() (versions, error)
	rollback() error
	// committed is called after a commit, once its callers have their answers.
	committed()

	// read runs fn in a snapshot, once a connection of the pool is free.
	read(ctx context.Context, from readPool, fn func(conn) error) error

	// space reads how the database is filled. shrink gives some of what is free
	// back to the disk, in a transaction of the writer, and returns how many
	// pages; finishShrink makes that take effect.
	space(tx *Tx) (Space, error)
	shrink(tx *Tx) (pages int, err error)
	finishShrink(ctx context.Context, exclusive pauseWriter) error
	// scrub removes what deleted and overwritten rows have left behind, in logs too.
	scrub(ctx context.Context, exclusive pauseWriter) error
	// size is what can be told without asking the database.
	size() engineSize

	// classify adds ErrUnavailable, ErrCorrupt and the like to an error of a
	// statement; explain adds what the operator can do about one of a batch.
	classify(err error) error
	explain(err error) error

	backup(ctx context.Context, file string) (bytes int64, err error)
	verify(ctx context.Context) (verify.Report, error)
	close() error
}

// versions tell whether somebody else has committed: a row in the cache holds
// while the versions are those that it was read under.
type versions struct {
	all int64 // of the whole database
}

// readPool names one of an engine's pools of connections for reading.
type readPool uint8

const (
	forLists readPool = iota
	// forCredentials is apart, so that no slow list delays the look-up of a
	// key, which comes before every decision.
	forCredentials
)

// pauseWriter runs prepare beside the writes, and then fn while none is under way.
type pauseWriter func(ctx context.Context, prepare func(), fn func() (bool, error)) (done bool, err error)

// engineSize is how large the database's files are.
type engineSize struct {
	file, log int64
	blocked   time.Duration // for how long a reader has kept the log from shrinking
}

package storage

import (
	"errors"
	"fmt"

	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/sqlite"
)

// What a caller can act on, with what sqlite and dbfile say of the file. Anything
// else is a bug.
var (
	ErrNotFound         = errors.New("not found")
	ErrConflict         = errors.New("already exists")
	ErrBusy             = errors.New("the write queue is full")
	ErrClosed           = sqlite.ErrClosed
	ErrUnavailable      = sqlite.ErrUnavailable
	ErrSchemaOld        = dbfile.ErrSchemaOld
	ErrSchemaNewer      = dbfile.ErrSchemaNewer
	ErrNotFirst         = errors.New("there is an account already")
	ErrBadCursor        = errors.New("not a cursor of this list")
	ErrKeyReused        = errors.New("the idempotency key was used with another body")
	ErrStepBlocked      = errors.New("a blocked step takes no update")
	ErrKeyRevoked       = errors.New("the API key is no longer active")
	ErrKeyExpired       = errors.New("the API key has expired")
	ErrTooManyKeys      = errors.New("the workspace has too many active API keys")
	ErrTooManyViews     = errors.New("the workspace has too many saved views")
	ErrTooManyEndpoints = errors.New("the workspace has too many endpoints")
	ErrNoSecret         = errors.New("only a webhook has a secret")
	ErrOutdated         = errors.New("it was changed meanwhile: read it again")
	ErrBadPassword      = errors.New("the password has changed meanwhile")
	ErrCorrupt          = dbfile.ErrCorrupt
	ErrNoSpace          = dbfile.ErrNoSpace
	ErrReadOnly         = dbfile.ErrReadOnly
	errJobPanicked      = errors.New("panic in a write")
	errBatchRollback    = errors.New("the batch was rolled back")
)

// EndedError says that a run has already ended in another way than asked.
type EndedError struct{ Status RunStatus }

func (e *EndedError) Error() string {
	return fmt.Sprintf("Run has already ended as %s", e.Status)
}

// missingRow is the error for a row that another one refers to. Its absence is
// no answer to whoever asked, who would take it for "not found".
func missingRow(row string) error {
	return fmt.Errorf("%w: %s is missing: %w", ErrUnavailable, row, ErrCorrupt)
}

// ignoreNotFound is for look-ups whose absence means something.
func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/pikarc/server/storage/postgres"
)

// However a connection ends, it is the environment's fault, and not a bug.
func TestALostConnectionIsUnavailable(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, postgres.ErrReadOnly, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")},
	} {
		if !postgres.IsUnavailable(fmt.Errorf("BEGIN, which was queued: %w", errors.Join(err, err))) {
			t.Errorf("%v is taken for a bug", err)
		}
	}
	for _, err := range []error{nil, context.Canceled, postgres.ErrBadText, postgres.ErrNothingChanged} {
		if postgres.IsUnavailable(err) {
			t.Errorf("%v is taken for an outage", err)
		}
	}
}

package postgres

import (
	"testing"
	"time"
)

// Where no new connection can be made, nothing was outdated: to run the batch again
// would only have its callers wait again.
func TestABatchThatCannotBeginIsNotOutdated(t *testing.T) {
	t.Parallel()
	config, err := ParseURL("postgres://u@127.0.0.1:1/d") // where nobody listens
	if err != nil {
		t.Fatal(err)
	}
	w := &Writer{Conn: &Conn{config: config}, WriterOptions: WriterOptions{Machine: time.Now}, outdated: true}
	if err := w.Expect(t.Context(), nil, nil, 1); err == nil || w.Outdated() {
		t.Errorf("%v, outdated: %v", err, w.Outdated())
	}
}

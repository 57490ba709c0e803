package server

import (
	"context"
	"net/http/httptest"
	"testing"
)

// Who closes only the sending half of a connection still reads what comes.
func TestACallThatWasGivenUpIsNotAnsweredAsIfItHadRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	c := &call{w: w, r: httptest.NewRequest("POST", "/v1/runs/", nil).WithContext(ctx)}
	(&Server{}).fail(c, ctx.Err())
	if w.Code != statusClientGone {
		t.Errorf("answered %d", w.Code)
	}
}

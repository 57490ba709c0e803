package server

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server/billing"
	"github.com/pikarc/server/server/live"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/storage"
)

// apiError is an answer other than success, with a sentence for its reader.
type apiError struct {
	status int
	detail string
	header http.Header
}

// Error is the detail that the caller gets.
func (e *apiError) Error() string { return e.detail }

// badRequest is a 400: the request makes no sense here, whatever its fields are.
func badRequest(detail string) error {
	return &apiError{status: http.StatusBadRequest, detail: detail}
}

// notFound is a 404. Rows of other workspaces are not found, never forbidden: their existence is no
// news for the caller.
func notFound(detail string) error {
	return &apiError{status: http.StatusNotFound, detail: detail}
}

// forbidden is a 403: the caller is known and may not do this.
func forbidden(detail string) error {
	return &apiError{status: http.StatusForbidden, detail: detail}
}

// unauthenticated carries the header that tells clients how to authenticate.
func unauthenticated(detail string) *apiError {
	return &apiError{
		status: http.StatusUnauthorized, detail: detail,
		header: http.Header{"Www-Authenticate": {"Bearer"}},
	}
}

// retryLater carries when to try again, in seconds.
func retryLater(status int, detail, seconds string) *apiError {
	return &apiError{status: status, detail: detail, header: http.Header{"Retry-After": {seconds}}}
}

// orNotFound words ErrNotFound for the thing that was sought.
func orNotFound(err error, detail string) error {
	if errors.Is(err, storage.ErrNotFound) {
		return notFound(detail)
	}
	return err
}

// keyEnded reports whether the store did not take a cached key.
func keyEnded(err error) bool {
	return errors.Is(err, storage.ErrKeyRevoked) || errors.Is(err, storage.ErrKeyExpired)
}

// statusClientGone is what the access log says of a caller that hung up; nobody reads an answer.
const statusClientGone = 499

// fail writes an error's answer. What the error table does not know is a bug:
// logged in full, answered without any of it.
func (s *Server) fail(c *call, err error) {
	var v *request.ValidationError
	if errors.As(err, &v) {
		c.json(http.StatusUnprocessableEntity, map[string]any{"detail": v.Problems})
		return
	}
	if keyEnded(err) {
		s.store.InvalidateKey(c.who.prefix)
	}
	if c.isGone(err) {
		c.status = statusClientGone
		c.w.WriteHeader(c.status) // or net/http answers 200 to who closed but one direction
		return
	}
	e := toAPIError(err)
	switch {
	case e.status == http.StatusInternalServerError:
		s.Log.Error("internal error", "request_id", c.id, "route", c.route.path, "error",
			err.Error())
	case e.status == http.StatusServiceUnavailable:
		if due, skipped := s.troubles.due(e.detail, s.Now()); due {
			s.Log.Warn("unavailable", "request_id", c.id, "route", c.route.path, "error",
				err.Error(), "requests_before", skipped)
		}
	}
	for name, values := range e.header {
		c.w.Header()[name] = values
	}
	c.json(e.status, map[string]string{"detail": e.detail})
}

// toAPIError is the one table from what can go wrong to what the caller reads.
func toAPIError(err error) *apiError {
	var e *apiError
	var feature *plans.FeatureError
	var ended *storage.EndedError
	var refused billing.RefusedError
	var retry *billing.RetryError
	var tooLarge *request.TooLargeError
	var coding request.UnsupportedCodingError
	switch {
	case errors.As(err, &e):
		return e
	// What a plan lacks is forbidden: another plan has it.
	case errors.As(err, &feature):
		return &apiError{status: http.StatusForbidden, detail: feature.Error()}
	case errors.As(err, &refused):
		return &apiError{status: http.StatusBadRequest, detail: refused.Error()}
	case errors.As(err, &retry):
		return retryLater(http.StatusServiceUnavailable, retry.Detail, seconds(retry.After))
	case errors.As(err, &ended):
		return &apiError{status: http.StatusBadRequest, detail: ended.Error()}
	case errors.Is(err, storage.ErrKeyRevoked):
		return unauthenticated("API key has been revoked")
	case errors.Is(err, storage.ErrKeyExpired):
		return unauthenticated("API key has expired")
	case errors.Is(err, storage.ErrTooManyKeys):
		return &apiError{status: http.StatusBadRequest,
			detail: fmt.Sprintf("A workspace has at most %d active API keys. Revoke one that is "+
				"no longer used.", storage.MaxKeys)}
	case errors.Is(err, storage.ErrTooManyViews):
		return &apiError{status: http.StatusBadRequest,
			detail: fmt.Sprintf("A workspace has at most %d saved views. Delete one that is no "+
				"longer used.", storage.MaxSavedViews)}
	case errors.Is(err, storage.ErrTooManyEndpoints):
		return &apiError{status: http.StatusBadRequest,
			detail: fmt.Sprintf("A workspace has at most %d endpoints. Delete one that is no longer used.", storage.MaxEndpoints)}
	case errors.Is(err, storage.ErrEndpointOff):
		return &apiError{status: http.StatusBadRequest, detail: "The endpoint is switched off: switch it on first"}
	case errors.Is(err, storage.ErrNoSecret):
		return &apiError{status: http.StatusBadRequest, detail: "Only a webhook has a secret"}
	case errors.Is(err, storage.ErrStepBlocked):
		return &apiError{status: http.StatusBadRequest, detail: "A blocked step cannot be updated"}
	case errors.As(err, &tooLarge):
		return &apiError{status: http.StatusRequestEntityTooLarge, detail: tooLarge.Error()}
	case errors.As(err, &coding):
		return &apiError{
			status: http.StatusUnsupportedMediaType, detail: coding.Error(),
			header: http.Header{"Accept-Encoding": {"identity"}},
		}
	// What follows is trouble of the server's. Each says whether anything was recorded, because the
	// caller has to decide whether to repeat the call.
	case errors.Is(err, request.ErrNoMemory):
		return unavailable("The server holds as many large request bodies as its setting " +
			"--max-body-memory (PIKARC_MAX_BODY_MEMORY) allows. Nothing was recorded; try again " +
			"in a second.")
	case errors.Is(err, request.ErrRead):
		return &apiError{status: http.StatusBadRequest,
			detail: "The request body could not be read"}
	case errors.Is(err, live.ErrTooManyInWorkspace):
		return retryLater(http.StatusTooManyRequests, live.ErrTooManyInWorkspace.Error(), "10")
	case errors.Is(err, live.ErrTooMany):
		return retryLater(http.StatusServiceUnavailable, live.ErrTooMany.Error(), "10")
	case errors.Is(err, storage.ErrBusy):
		return unavailable("The server is at its limit. Nothing was recorded; try again in a " +
			"second.")
	case errors.Is(err, storage.ErrClosed):
		return unavailable("The server is shutting down. Nothing was recorded; try again shortly.")
	case errors.Is(err, storage.ErrCorrupt):
		return unavailable("The server's database is damaged. Its operator must look at the log " +
			"and restore a backup.")
	case errors.Is(err, storage.ErrNoSpace):
		return unavailable("The server's disk is full. Nothing was recorded; try again when its " +
			"operator has made room.")
	case errors.Is(err, storage.ErrUnknownOutcome):
		return unavailable("The connection to the database was lost while this was being recorded, " +
			"so it may or may not have been. Repeat the call: with the same Idempotency-Key it is " +
			"recorded once.")
	case errors.Is(err, storage.ErrUnavailable):
		return unavailable("The server cannot write durably now. Nothing was recorded; try again " +
			"shortly.")
	case errors.Is(err, storage.ErrSchemaOld), errors.Is(err, storage.ErrSchemaNewer):
		return unavailable("The database's schema does not fit this server's version.")
	default:
		return &apiError{status: http.StatusInternalServerError, detail: "Internal Server Error"}
	}
}

// unavailable is a 503 that asks the caller to try again in a second.
func unavailable(detail string) *apiError {
	return &apiError{
		status: http.StatusServiceUnavailable, detail: detail,
		header: http.Header{"Retry-After": {"1"}},
	}
}

// troubleEvery is how often one kind of trouble is written to the log: a full
// disk has every request fail, and the log is often on that disk.
const troubleEvery = time.Minute

// troubleLog remembers when each kind of trouble was last logged. Kinds are the
// few sentences of the error table.
type troubleLog struct {
	mu    sync.Mutex
	kinds map[string]*trouble
}

// trouble remembers when an error was last logged, so that a broken disk does not fill the log with
// each request.
type trouble struct {
	logged  time.Time
	skipped int // requests since
}

// due reports whether this kind is to be logged now, and how many requests had
// it since it last was.
func (l *troubleLog) due(kind string, now time.Time) (due bool, skipped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.kinds == nil {
		l.kinds = make(map[string]*trouble)
	}
	t := l.kinds[kind]
	if t != nil {
		if since := now.Sub(t.logged); since >= 0 && since < troubleEvery {
			t.skipped++
			return false, 0
		}
		skipped = t.skipped
	}
	l.kinds[kind] = &trouble{logged: now}
	return true, skipped
}

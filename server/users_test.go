package server_test

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
)

const person = "maria@example.com"

// inFiles counts what is left of texts in the database and its log.
func (w *world) inFiles(texts ...string) (n int) {
	w.t.Helper()
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(w.path + suffix)
		w.must(err)
		for _, text := range texts {
			n += bytes.Count(content, []byte(text))
		}
	}
	return n
}

func TestErasingAPersonByPathOrByBody(t *testing.T) {
	t.Parallel()
	for name, erase := range map[string]func(w *world, a account) *response{
		"path": func(w *world, a account) *response {
			return w.call("DELETE", "/v1/users/"+url.PathEscape(person), a.token, nil)
		},
		"body": func(w *world, a account) *response {
			return w.call("POST", "/v1/users/erase", a.token, map[string]string{"user_id": person})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.account(plans.Scale)
			body := `{"user_id":"` + person + `","metadata":{"title":"a secret trip"}}`
			run := w.call("POST", "/v1/runs/", a.key, body).want(http.StatusCreated).text("id")
			input := `{"type":"TOOL_CALL","sequence":1,"input_data":{"passport":"X1234567"}}`
			w.call("POST", "/v1/runs/"+run+"/steps", a.key, input).want(http.StatusCreated)
			w.call("POST", "/v1/blocked-users", a.token, map[string]string{"user_id": person, "reason": "was rude"}).want(http.StatusOK)
			secrets := []string{person, "a secret trip", "X1234567", "was rude"}
			if w.inFiles(secrets...) < 4 {
				t.Fatal("nothing is there to be erased")
			}

			r := erase(w, a).want(http.StatusOK)
			made := r.text("user_id")
			if r.text("status") != "erased" || !strings.HasPrefix(made, "erased-") {
				t.Errorf("erasing answered %s", r.body)
			}
			if n := w.inFiles(secrets...); n > 0 {
				t.Errorf("%d traces are left in the files", n)
			}
			erase(w, a).wantDetail(http.StatusNotFound, "User not found")
			again := w.call("POST", "/v1/users/erase", a.token, map[string]string{"user_id": made}).want(http.StatusOK)
			if again.text("status") != "erased" || again.text("user_id") != made {
				t.Errorf("asked again: %s", again.body)
			}
			users := w.call("GET", "/v1/users", a.token, nil).want(http.StatusOK)
			if users.text("items.0.user_id") != made || users.text("items.0.run_count") != "1" || users.text("items.0.erased_at") == "null" ||
				users.text("items.0.blocked") != "false" {
				t.Errorf("users are %s", users.body)
			}
			if status := w.call("GET", "/v1/runs/"+run, a.token, nil).want(http.StatusOK).text("status"); status != "FAILED" {
				t.Errorf("the run that was open is %s", status)
			}
			d := w.call("POST", "/v1/runs/", a.key, body).want(http.StatusCreated) // a new user
			if d.text("decision.outcome") != "ALLOW" {
				t.Errorf("the person's new run: %s", d.body)
			}
		})
	}
}

// A backup or a verification reads the log as it was: the answer says that the erasure goes on.
func TestErasureBesideALongReadGoesOnInTheBackground(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.start(a, person)
	read := w.conn()
	_, err := read.ExecContext(t.Context(), `BEGIN`)
	w.must(err)
	var n int
	w.must(read.QueryRowContext(t.Context(), `SELECT count(*) FROM users`).Scan(&n))
	r := w.call("POST", "/v1/users/erase", a.token, map[string]string{"user_id": person}).want(http.StatusAccepted)
	if r.text("status") != "erasing" {
		t.Errorf("erasing answered %s", r.body)
	}
	_, err = read.ExecContext(t.Context(), `ROLLBACK`)
	w.must(err)
	if n, err := w.store.EraseUsers(context.Background()); n != 1 || err != nil { // the job
		t.Errorf("%d erasures are finished, %v", n, err)
	}
	if n := w.inFiles(person); n > 0 {
		t.Errorf("%d traces are left in the files", n)
	}
}

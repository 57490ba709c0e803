package server_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

func TestAnEndpointThatIsOffIsSentNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f := w.makeFixture(plans.Scale)
	call := func(method, path string, body any) *response {
		return w.call(method, f.fill("/v1/endpoints/{endpoint}"+path), f.token, body)
	}
	call("PATCH", "", `{"enabled":false}`).want(http.StatusOK)
	const off = "The endpoint is switched off: switch it on first"
	call("POST", "/test", nil).wantDetail(http.StatusBadRequest, off)
	call("POST", "/deliveries/"+f.names["{delivery}"]+"/resend", nil).wantDetail(http.StatusBadRequest, off)
	call("PATCH", "", `{"enabled":true}`).want(http.StatusOK)
	call("POST", "/test", nil).want(http.StatusAccepted)
}

func TestOnlyAWebhookHasASecretAndItIsNeverShownAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	ntfy := w.call("POST", "/v1/endpoints", a.token, `{"kind":"ntfy","url":"https://ntfy.sh/topic","events":["*"]}`).want(http.StatusCreated)
	w.call("POST", "/v1/endpoints/"+ntfy.text("id")+"/roll-secret", a.token, nil).wantDetail(http.StatusBadRequest, "Only a webhook has a secret")
	hook := w.call("POST", "/v1/endpoints", a.token, `{"kind":"webhook","url":"https://example.com/","events":["*"]}`).want(http.StatusCreated)
	rolled := w.call("POST", "/v1/endpoints/"+hook.text("id")+"/roll-secret", a.token, nil).want(http.StatusOK)
	if hook.text("secret") == rolled.text("secret") {
		t.Error("the secret is the old one")
	}
	for _, path := range []string{"/v1/endpoints", "/v1/endpoints/" + hook.text("id"), "/v1/audit"} {
		shown := string(w.call("GET", path, a.token, nil).want(http.StatusOK).body)
		for _, secret := range []string{hook.text("secret"), rolled.text("secret")} {
			if strings.Contains(shown, secret) {
				t.Errorf("%s shows a secret: %s", path, shown)
			}
		}
	}
}

func TestAWorkspaceHasTwentyEndpointsAtMost(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	for i := range storage.MaxEndpoints + 1 {
		r := w.call("POST", "/v1/endpoints", a.token, fmt.Sprintf(`{"kind":"teams","url":"https://example.com/%d","events":["*"]}`, i))
		if i < storage.MaxEndpoints {
			r.want(http.StatusCreated)
			continue
		}
		r.wantDetail(http.StatusBadRequest, "A workspace has at most 20 endpoints. Delete one that is no longer used.")
	}
}

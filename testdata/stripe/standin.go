// Package standin speaks as much of Stripe's HTTP API as this server uses, in
// the shapes that Stripe publishes, on a real socket. Tests, and people who
// want to see a purchase without a Stripe account, put it in Stripe's place.
package standin

import (
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"time"
)

// SecretKey and WebhookSecret are what the stand-in takes and signs with.
const (
	SecretKey     = "sk_test_of_the_stand_in"
	WebhookSecret = "whsec_of_the_stand_in"
)

// object is what Stripe answers with: JSON by names.
type object = map[string]any

// Stripe is a stand-in that listens.
type Stripe struct {
	URL string

	server *httptest.Server
	now    func() time.Time

	mu            sync.Mutex
	made          int
	customers     map[string]object
	subscriptions []object // newest first, as Stripe lists them
	checkouts     []object // the same
	invoices      map[string]object
	keys          map[string]replay
	calls         []string
	intercept     func(http.ResponseWriter, *http.Request) bool
	onPay         func([]Event)
}

// replay is what an Idempotency-Key was used for, and what that answered.
type replay struct {
	asked  string
	status int
	body   []byte
}

// New starts a stand-in on a free port of the loopback, whose time is now.
func New(now func() time.Time) *Stripe { return start(now, nil) }

// NewOn starts a stand-in on a listener. What is paid on its pages is told to onPay.
func NewOn(ln net.Listener, onPay func([]Event)) *Stripe {
	s := start(time.Now, ln)
	s.onPay = onPay
	return s
}

// start serves on ln, or on a free port.
func start(now func() time.Time, ln net.Listener) *Stripe {
	s := &Stripe{now: now, customers: map[string]object{}, invoices: map[string]object{}, keys: map[string]replay{}}
	s.server = httptest.NewUnstartedServer(s.handler())
	if ln != nil {
		s.server.Listener = ln
	}
	s.server.Start()
	s.URL = s.server.URL
	return s
}

// Close ends it, and every request that is open.
func (s *Stripe) Close() {
	s.server.CloseClientConnections()
	s.server.Close()
}

// Intercept sees each request of the API first, and answers it when it returns true. Nil ends that.
func (s *Stripe) Intercept(fn func(http.ResponseWriter, *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.intercept = fn
}

// Calls lists the requests that the API has answered: "POST /v1/customers".
func (s *Stripe) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// handler has the calls of Stripe's API that the server uses.
func (s *Stripe) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (int, object){
		"POST /v1/customers":                     s.createCustomer,
		"GET /v1/customers/{id}":                 s.readCustomer,
		"GET /v1/subscriptions":                  s.listSubscriptions,
		"GET /v1/checkout/sessions":              s.listCheckouts,
		"POST /v1/checkout/sessions":             s.createCheckout,
		"POST /v1/checkout/sessions/{id}/expire": s.expireCheckout,
		"POST /v1/billing_portal/sessions":       s.createPortal,
	} {
		mux.Handle(pattern, s.api(answer))
	}
	mux.HandleFunc("GET /pages/{kind}/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprintf(w, "<!doctype html><title>Stripe stand-in</title><h1>Stripe stand-in: %s</h1>"+
			"<form method=post><button>Pay</button></form>", html.EscapeString(r.PathValue("kind")))
	})
	mux.HandleFunc("POST /pages/checkout/{id}", s.payOnPage)
	return mux
}

// payOnPage is what the customer does in the browser.
func (s *Stripe) payOnPage(w http.ResponseWriter, r *http.Request) {
	_, events, err := s.Pay(s.URL + r.URL.Path)
	if err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	if s.onPay != nil {
		s.onPay(events)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	http.Redirect(w, r, s.checkout(r.PathValue("id"))["success_url"].(string), http.StatusSeeOther)
}

// api wraps a call in what all of them have: the key, idempotency, and JSON.
func (s *Stripe) api(answer func(*http.Request) (int, object)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := r.ParseForm(); err != nil { // first, for only then is a caller who hangs up noticed
			write(w, http.StatusBadRequest, Refusal("invalid_request_error", "", err.Error()))
			return
		}
		s.mu.Lock()
		intercept := s.intercept
		s.mu.Unlock()
		if intercept != nil && intercept(w, r) {
			return
		}
		if r.Header.Get("Authorization") != "Bearer "+SecretKey {
			write(w, http.StatusUnauthorized, Refusal("invalid_request_error", "", "Invalid API Key provided"))
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.calls = append(s.calls, r.Method+" "+r.URL.Path)
		key, asked := r.Header.Get("Idempotency-Key"), r.URL.Path+"?"+r.Form.Encode()
		if first, used := s.keys[key]; used && key != "" {
			if first.asked != asked {
				write(w, http.StatusBadRequest, Refusal("idempotency_error", "",
					"Keys for idempotent requests can only be used with the same parameters they were first used with."))
				return
			}
			w.Header().Set("Idempotent-Replayed", "true")
			writeRaw(w, first.status, first.body)
			return
		}
		status, v := answer(r)
		body, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		if key != "" && r.Method == http.MethodPost {
			s.keys[key] = replay{asked, status, body}
		}
		writeRaw(w, status, body)
	})
}

// Refusal is Stripe's form of an error.
func Refusal(kind, code, message string) map[string]any {
	return object{"error": object{"type": kind, "code": code, "message": message}}
}

// write sends JSON.
func write(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	writeRaw(w, status, body)
}

// writeRaw sends it with Stripe's headers.
func writeRaw(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Request-Id", "req_stand_in")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller may be gone
}

// missing is Stripe's 404.
func missing(what, id string) (int, object) {
	return http.StatusNotFound, Refusal("invalid_request_error", "resource_missing", fmt.Sprintf("No such %s: '%s'", what, id))
}

// id makes an id in Stripe's form. The caller holds the lock.
func (s *Stripe) id(prefix string) string {
	s.made++
	return fmt.Sprintf("%s_standin%04d", prefix, s.made)
}

// createCustomer stores a customer.
func (s *Stripe) createCustomer(r *http.Request) (int, object) {
	id := s.id("cus")
	s.customers[id] = object{
		"id": id, "object": "customer", "email": r.Form.Get("email"), "name": r.Form.Get("name"),
		"created": s.now().Unix(), "livemode": false, "metadata": nested(r.Form, "metadata"),
	}
	return http.StatusOK, s.customers[id]
}

// readCustomer answers a customer.
func (s *Stripe) readCustomer(r *http.Request) (int, object) {
	c, found := s.customers[r.PathValue("id")]
	if !found {
		return missing("customer", r.PathValue("id"))
	}
	return http.StatusOK, c
}

// exists reports whether a customer can be asked about: it is there, and was not deleted.
func (s *Stripe) exists(customer string) bool {
	c, found := s.customers[customer]
	return found && c["deleted"] != true
}

// listSubscriptions lists those of a customer.
func (s *Stripe) listSubscriptions(r *http.Request) (int, object) {
	if !s.exists(r.Form.Get("customer")) {
		return missing("customer", r.Form.Get("customer"))
	}
	var found []object
	for _, sub := range s.subscriptions {
		if sub["customer"] == r.Form.Get("customer") {
			shown := maps.Clone(sub)
			shown["latest_invoice"] = s.invoices[sub["latest_invoice"].(string)] // as expand[] asks
			found = append(found, shown)
		}
	}
	return http.StatusOK, list("/v1/subscriptions", found)
}

// listCheckouts lists those of a customer, the newest first.
func (s *Stripe) listCheckouts(r *http.Request) (int, object) {
	if !s.exists(r.Form.Get("customer")) {
		return missing("customer", r.Form.Get("customer"))
	}
	var found []object
	for _, c := range s.checkouts {
		if c["customer"] == r.Form.Get("customer") {
			found = append(found, c)
		}
	}
	return http.StatusOK, list("/v1/checkout/sessions", found)
}

// list is Stripe's form of a list, on one page.
func list(path string, items []object) object {
	if items == nil {
		items = []object{}
	}
	return object{"object": "list", "url": path, "has_more": false, "data": items}
}

// createCheckout opens a checkout.
func (s *Stripe) createCheckout(r *http.Request) (int, object) {
	if !s.exists(r.Form.Get("customer")) {
		return missing("customer", r.Form.Get("customer"))
	}
	id := s.id("cs_test")
	c := object{
		"id": id, "object": "checkout.session", "customer": r.Form.Get("customer"), "mode": r.Form.Get("mode"),
		"client_reference_id": r.Form.Get("client_reference_id"), "status": "open", "payment_status": "unpaid",
		"url": s.URL + "/pages/checkout/" + id, "created": s.now().Unix(), "livemode": false, "subscription": nil,
		"success_url": r.Form.Get("success_url"), "cancel_url": r.Form.Get("cancel_url"), "metadata": nested(r.Form, "metadata"),
		"price_of_the_stand_in": r.Form.Get("line_items[0][price]"),
	}
	s.checkouts = slices.Insert(s.checkouts, 0, c)
	return http.StatusOK, c
}

// expireCheckout closes it, unless it is paid.
func (s *Stripe) expireCheckout(r *http.Request) (int, object) {
	c := s.checkout(r.PathValue("id"))
	switch {
	case c == nil:
		return missing("checkout.session", r.PathValue("id"))
	case c["status"] != "open":
		return http.StatusBadRequest, Refusal("invalid_request_error", "", "Only Checkout Sessions with a status in [\"open\"] can be expired.")
	}
	c["status"], c["url"] = "expired", nil
	return http.StatusOK, c
}

// createPortal opens the customer portal.
func (s *Stripe) createPortal(r *http.Request) (int, object) {
	if !s.exists(r.Form.Get("customer")) {
		return missing("customer", r.Form.Get("customer"))
	}
	id := s.id("bps")
	return http.StatusOK, object{
		"id": id, "object": "billing_portal.session", "customer": r.Form.Get("customer"), "created": s.now().Unix(),
		"livemode": false, "return_url": r.Form.Get("return_url"), "url": s.URL + "/pages/portal/" + id,
	}
}

// checkout finds a checkout by its id.
func (s *Stripe) checkout(id string) object {
	for _, c := range s.checkouts {
		if c["id"] == id {
			return c
		}
	}
	return nil
}

// nested reads name[key]=value of a form.
func nested(form url.Values, name string) object {
	out := object{}
	for key, values := range form {
		if len(key) > len(name)+2 && key[:len(name)+1] == name+"[" {
			out[key[len(name)+1:len(key)-1]] = values[0]
		}
	}
	return out
}

package standin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/stripe/stripe-go/v85"
)

// What happens on Stripe's side. Each returns the events that Stripe would
// send of it, in the order in which they came about.

// Event is one of Stripe's, as it is sent.
type Event struct {
	ID, Type string
	Body     []byte
}

// Sign makes the Stripe-Signature header of a body, as Stripe does at a time.
func Sign(body []byte, secret string, at time.Time) string {
	return stripe.GenerateTestSignedPayload(&stripe.UnsignedPayload{Payload: body, Secret: secret, Timestamp: at}).Header
}

// Send delivers an event, signed now, and returns the status of the answer.
func (e Event) Send(client *http.Client, url, secret string) (int, error) {
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(e.Body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Stripe-Signature", Sign(e.Body, secret, time.Now()))
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// event makes one of an object. The caller holds the lock.
func (s *Stripe) event(kind string, of object) Event {
	id := s.id("evt")
	body, err := json.Marshal(object{
		"id": id, "object": "event", "api_version": stripe.APIVersion, "created": s.now().Unix(), "livemode": false,
		"pending_webhooks": 1, "request": object{"id": nil, "idempotency_key": nil}, "type": kind, "data": object{"object": of},
	})
	if err != nil {
		panic(err)
	}
	return Event{ID: id, Type: kind, Body: body}
}

// invoice makes a subscription's newest one.
func (s *Stripe) invoice(sub object, status string) object {
	id := s.id("in")
	s.invoices[id] = object{
		"id": id, "object": "invoice", "customer": sub["customer"], "status": status, "created": s.now().Unix(), "livemode": false,
		"parent": object{"type": "subscription_details", "subscription_details": object{"subscription": sub["id"]}},
	}
	sub["latest_invoice"] = id
	return s.invoices[id]
}

// period is the subscription's only item's.
func period(sub object, price string, start, end time.Time) {
	sub["items"] = object{"object": "list", "has_more": false, "data": []object{{
		"id": "si_" + sub["id"].(string), "object": "subscription_item", "quantity": 1, "subscription": sub["id"],
		"price":                object{"id": price, "object": "price", "active": true},
		"current_period_start": start.Unix(), "current_period_end": end.Unix(),
	}}}
}

// item is a subscription's only item.
func item(sub object) object { return sub["items"].(object)["data"].([]object)[0] }

// Subscribe makes a paid subscription of a customer's, as the operator can in Stripe's dashboard.
func (s *Stripe) Subscribe(customer, price string) (id string, events []Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sub := s.subscribe(customer, price)
	created := s.event("customer.subscription.created", sub)
	return sub["id"].(string), []Event{created, s.event("invoice.paid", s.invoices[sub["latest_invoice"].(string)])}
}

// subscribe makes an active subscription to a price.
func (s *Stripe) subscribe(customer, price string) object {
	id := s.id("sub")
	sub := object{
		"id": id, "object": "subscription", "customer": customer, "status": "active", "created": s.now().Unix(), "livemode": false,
		"cancel_at": nil, "cancel_at_period_end": false, "canceled_at": nil, "ended_at": nil, "metadata": object{},
	}
	period(sub, price, s.now(), s.now().AddDate(0, 1, 0))
	s.invoice(sub, "paid")
	s.subscriptions = slices.Insert(s.subscriptions, 0, sub)
	return sub
}

// Pay lets the customer pay on the page of a checkout, by the page's address.
func (s *Stripe) Pay(url string) (subscription string, events []Event, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.checkouts, func(c object) bool { return c["url"] == url })
	if at < 0 || s.checkouts[at]["status"] != "open" {
		return "", nil, fmt.Errorf("%s is no open checkout", url)
	}
	c := s.checkouts[at]
	sub := s.subscribe(c["customer"].(string), c["price_of_the_stand_in"].(string))
	c["status"], c["payment_status"], c["subscription"], c["url"] = "complete", "paid", sub["id"], nil
	return sub["id"].(string), []Event{
		s.event("checkout.session.completed", c),
		s.event("customer.subscription.created", sub),
		s.event("invoice.paid", s.invoices[sub["latest_invoice"].(string)]),
	}, nil
}

// change edits a subscription and tells of it.
func (s *Stripe) change(id string, edit func(sub object) []Event) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := slices.IndexFunc(s.subscriptions, func(sub object) bool { return sub["id"] == id })
	if at < 0 {
		panic("no subscription " + id)
	}
	return edit(s.subscriptions[at])
}

// SwitchPrice changes the plan, as the customer does in the portal.
func (s *Stripe) SwitchPrice(id, price string) []Event {
	return s.change(id, func(sub object) []Event {
		item(sub)["price"] = object{"id": price, "object": "price", "active": true}
		return []Event{s.event("customer.subscription.updated", sub)}
	})
}

// Renew begins the next period, now, paid or not.
func (s *Stripe) Renew(id string, paid bool) []Event {
	return s.change(id, func(sub object) []Event {
		price := item(sub)["price"].(object)["id"].(string)
		period(sub, price, s.now(), s.now().AddDate(0, 1, 0))
		sub["status"] = map[bool]string{true: "active", false: "past_due"}[paid]
		if paid {
			in := s.invoice(sub, "paid")
			return []Event{s.event("customer.subscription.updated", sub), s.event("invoice.paid", in)}
		}
		in := s.invoice(sub, "open")
		return []Event{s.event("invoice.payment_failed", in), s.event("customer.subscription.updated", sub)}
	})
}

// Mend pays what was open.
func (s *Stripe) Mend(id string) []Event {
	return s.change(id, func(sub object) []Event {
		in := s.invoices[sub["latest_invoice"].(string)]
		in["status"], sub["status"] = "paid", "active"
		return []Event{s.event("invoice.paid", in), s.event("customer.subscription.updated", sub)}
	})
}

// CancelAtPeriodEnd is the portal's cancel button, or its undoing.
func (s *Stripe) CancelAtPeriodEnd(id string, cancel bool) []Event {
	return s.change(id, func(sub object) []Event {
		sub["cancel_at_period_end"], sub["cancel_at"], sub["canceled_at"] = cancel, nil, nil
		if cancel {
			sub["cancel_at"], sub["canceled_at"] = item(sub)["current_period_end"], s.now().Unix()
		}
		return []Event{s.event("customer.subscription.updated", sub)}
	})
}

// CancelAt has a subscription end at a moment, as Stripe's dashboard can.
func (s *Stripe) CancelAt(id string, at time.Time) []Event {
	return s.change(id, func(sub object) []Event {
		sub["cancel_at"], sub["canceled_at"] = at.Unix(), s.now().Unix()
		return []Event{s.event("customer.subscription.updated", sub)}
	})
}

// End ends a subscription now: its time has come, or the operator or Stripe cancels it.
func (s *Stripe) End(id string) []Event {
	return s.change(id, func(sub object) []Event {
		sub["status"], sub["ended_at"], sub["canceled_at"] = "canceled", s.now().Unix(), s.now().Unix()
		return []Event{s.event("customer.subscription.deleted", sub)}
	})
}

// SetStatus puts any status of Stripe's.
func (s *Stripe) SetStatus(id, status string) []Event {
	return s.change(id, func(sub object) []Event {
		sub["status"] = status
		return []Event{s.event("customer.subscription.updated", sub)}
	})
}

// DeleteCustomer deletes a customer in Stripe's dashboard.
func (s *Stripe) DeleteCustomer(customer string) []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.customers[customer] = object{"id": customer, "object": "customer", "deleted": true}
	var events []Event
	for _, sub := range s.subscriptions {
		if sub["customer"] == customer && sub["status"] != "canceled" {
			sub["status"], sub["ended_at"] = "canceled", s.now().Unix()
			events = append(events, s.event("customer.subscription.deleted", sub))
		}
	}
	return events
}

// ForgetCustomers makes all customers unknown, as the key of another account would.
func (s *Stripe) ForgetCustomers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.customers)
}

// Open counts the pages on which something can be bought.
func (s *Stripe) Open() (open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.checkouts {
		if c["status"] == "open" {
			open++
		}
	}
	return open
}

// Customers counts them.
func (s *Stripe) Customers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.customers)
}

package e2e_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// reviewKills is for make crash.
var reviewKills = flag.Int("review-kills", 4, "how often the server is killed while a review is decided")

// mailServer takes mail as an SMTP server does, without encryption.
func mailServer(t *testing.T) (host, port string, mails <-chan *mail.Message) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan *mail.Message, 10)
	var group sync.WaitGroup
	group.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // the test is over
			}
			group.Go(func() { takeMail(conn, taken) })
		}
	})
	t.Cleanup(func() { _ = ln.Close(); group.Wait() })
	host, port, err = net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return host, port, taken
}

// takeMail speaks as much of RFC 5321 as it takes to be sent a message.
func takeMail(conn net.Conn, taken chan<- *mail.Message) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	say := func(line string) { fmt.Fprint(conn, line+"\r\n") }
	say("220 mail.example.com ESMTP")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			say("250-mail.example.com\r\n250 8BITMIME")
		case "DATA":
			say("354 go on")
			var text strings.Builder
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			m, parseErr := mail.ReadMessage(strings.NewReader(text.String()))
			if err != nil || parseErr != nil {
				say("554 not a message")
				return
			}
			body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
			if err != nil {
				say("554 not quoted-printable")
				return
			}
			m.Body = strings.NewReader(string(body))
			taken <- m
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

// review is one as the API answers it, as far as these tests look.
type review struct {
	Status, Resolution string
	DecidedBy          struct{ Account, Channel string } `json:"decided_by"`
	Note               string
}

// askPerson has an agent ask for a step about which a person is asked.
func (p *process) askPerson(t *testing.T, key, run string) (step, id string) {
	t.Helper()
	a, err := send(t.Context(), http.DefaultClient, "POST", p.url+"/v1/runs/"+run+"/steps", key,
		map[string]any{"type": "TOOL_CALL", "sequence": 1, "tool_name": "refund", "input_data": map[string]any{"amount": 101}},
		"Pikarc-Client", "test/1; review")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		ID       string
		ReviewID string `json:"review_id"`
	}
	a.want(t, http.StatusCreated).into(t, &d)
	if d.ReviewID == "" {
		t.Fatalf("nobody is asked: %s", a.body)
	}
	return d.ID, d.ReviewID
}

func (p *process) review(t *testing.T, credential, id string) (v review) {
	t.Helper()
	p.call(t, "GET", "/v1/reviews/"+id, credential, nil).want(t, http.StatusOK).into(t, &v)
	return v
}

// A message by webhook and one by email, really sent, each with links that
// really decide; nothing of a link is left in the log or in the record.
func TestAPersonDecidesByTheLinksOfAMessage(t *testing.T) {
	t.Parallel()
	const public = "https://agents.example.com"
	bodies := make(chan string, 10)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if body, err := io.ReadAll(r.Body); err == nil {
			bodies <- string(body)
		}
	}))
	defer receiver.Close()
	host, port, mails := mailServer(t)
	dir := t.TempDir()
	u := createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir, "--webhook-private", "--public-url", public,
		"--smtp-host", host, "--smtp-port", port, "--smtp-tls", "none", "--smtp-from", "pikarc@example.com")
	token := p.signIn(t, u.Email)
	p.call(t, "PUT", "/v1/policies/refunds", token, map[string]any{"effect": "review"}).want(t, http.StatusOK)
	var endpoints []string
	for kind, url := range map[string]string{"webhook": receiver.URL, "email": "ops@example.com"} {
		var made struct{ ID string }
		p.call(t, "POST", "/v1/endpoints", token, map[string]any{"kind": kind, "url": url, "label": "on call", "events": []string{"review.requested"}}).
			want(t, http.StatusCreated).into(t, &made)
		endpoints = append(endpoints, made.ID)
	}
	run := p.start(t, u.APIKey, "ada").ID
	ask := func() (id, byWebhook, byMail string) {
		_, id = p.askPerson(t, u.APIKey, run)
		select {
		case byWebhook = <-bodies:
		case <-time.After(patience):
			t.Fatal("the webhook was sent nothing")
		}
		select {
		case m := <-mails:
			body, err := io.ReadAll(m.Body)
			if err != nil || m.Header.Get("To") != "<ops@example.com>" || !strings.Contains(m.Header.Get("Subject"), "refund") {
				t.Fatalf("mailed %v, %v", m.Header, err)
			}
			byMail = string(body)
		case <-time.After(patience):
			t.Fatal("no mail came")
		}
		return id, byWebhook, byMail
	}
	link := func(text, before string) string {
		found := regexp.MustCompile(regexp.QuoteMeta(before) + regexp.QuoteMeta(public) + `(/decide/[\w-]+)`).FindStringSubmatch(text)
		if found == nil {
			t.Fatalf("no link after %q in %s", before, text)
		}
		return found[1]
	}
	id, byWebhook, _ := ask()
	approve := link(byWebhook, `"approve_url":"`)
	p.call(t, "GET", approve, "", nil).want(t, http.StatusOK)
	if v := p.review(t, u.APIKey, id); v.Status != "pending" {
		t.Errorf("after a look it is %+v", v)
	}
	p.call(t, "POST", approve, "", nil).want(t, http.StatusOK)
	if v := p.review(t, u.APIKey, id); v.Resolution != "approved" || v.DecidedBy.Channel != "webhook: on call" {
		t.Errorf("after the POST it is %+v", v)
	}
	p.call(t, "POST", approve, "", nil).want(t, http.StatusGone)

	id, _, byMail := ask()
	deny := link(byMail, "Deny: ")
	p.call(t, "POST", deny, "", nil).want(t, http.StatusOK)
	if v := p.review(t, u.APIKey, id); v.Resolution != "denied" || v.DecidedBy.Channel != "email: on call" || v.Note == "" {
		t.Errorf("after the mail's link it is %+v", v)
	}
	for _, endpoint := range endpoints {
		if body := p.call(t, "GET", "/v1/endpoints/"+endpoint+"/deliveries", token, nil).want(t, http.StatusOK).body; strings.Contains(string(body), "/decide/") {
			t.Errorf("the record shows a link: %s", body)
		}
	}
	p.stop(t)
	if log := p.stderr.String() + p.stdout.String(); strings.Contains(log, approve) || strings.Contains(log, deny) {
		t.Error("the log shows a link")
	}
}

// One approval, one execution: through 200 polls, double verdicts and kills.
func TestOneApprovalIsOneExecutionThroughKills(t *testing.T) {
	t.Parallel()
	const pollers, judges = 200, 8
	dir, random := t.TempDir(), seededRandom(t)
	u := createUser(t, dir, "ann@example.com", "enterprise")
	p := serve(t, dir)
	token := p.signIn(t, u.Email)
	p.call(t, "PUT", "/v1/policies/refunds", token, map[string]any{"effect": "review", "match": map[string]any{"tools": []string{"refund"}}}).want(t, http.StatusOK)
	run := p.start(t, u.APIKey, "ada").ID
	outcomes := map[string]int{}
	for round := range *reviewKills {
		step, id := p.askPerson(t, u.APIKey, run)
		seen := p.pollAndJudgeUntilKilled(t, u.APIKey, token, id, pollers, judges, func() { p.killSoon(random, 60*time.Millisecond) })
		p = serve(t, dir)
		v := p.review(t, u.APIKey, id)
		if v.Status == "pending" { // no verdict was committed: nobody may have heard of one
			if len(seen) > 0 {
				t.Errorf("round %d: %v was answered and is gone", round, seen)
			}
			p.call(t, "POST", "/v1/reviews/"+id+"/approve", token, nil).want(t, http.StatusOK)
			v = p.review(t, u.APIKey, id)
			outcomes["late"]++
		}
		for resolution := range seen {
			if resolution != v.Resolution {
				t.Errorf("round %d: %s was answered, and then %s", round, resolution, v.Resolution)
			}
		}
		p.call(t, "POST", "/v1/reviews/"+id+"/deny", token, map[string]any{"note": "too late"}).want(t, http.StatusOK)
		outcomes[v.Resolution]++
		p.checkExecution(t, token, u.APIKey, run, step, id, v.Resolution)
	}
	t.Logf("%v", outcomes)
	p.call(t, "POST", "/v1/runs/"+run+"/end", u.APIKey, map[string]any{"status": "COMPLETED"}).want(t, http.StatusOK)
	p.stop(t)
	balanced(t, dir)
}

// pollAndJudgeUntilKilled returns the resolutions that anybody was answered.
func (p *process) pollAndJudgeUntilKilled(
	t *testing.T, key, token, id string, pollers, judges int, kill func(),
) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	var group sync.WaitGroup
	seen := map[string]bool{}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: pollers + judges}}
	hear := func(a answer, err error) bool {
		if err != nil || a.status != http.StatusOK {
			return false // killed
		}
		var v review
		if err := json.Unmarshal(a.body, &v); err != nil {
			t.Error(err)
		}
		if v.Status != "pending" {
			mu.Lock()
			defer mu.Unlock()
			seen[v.Resolution] = true
		}
		return v.Status == "pending"
	}
	for range pollers {
		group.Go(func() {
			for hear(send(context.WithoutCancel(t.Context()), client, "GET", p.url+"/v1/reviews/"+id+"?wait=1", key, nil)) {
			}
		})
	}
	for i := range judges {
		group.Go(func() {
			verdict, body := "approve", any(nil)
			if i%2 == 1 {
				verdict, body = "deny", map[string]any{"note": "no"}
			}
			hear(send(context.WithoutCancel(t.Context()), client, "POST", p.url+"/v1/reviews/"+id+"/"+verdict, token, body))
		})
	}
	kill()
	group.Wait()
	client.CloseIdleConnections()
	return seen
}

// checkExecution wants a step to be as its review says, one verdict in the
// record, and one report to be taken where it may run.
func (p *process) checkExecution(t *testing.T, token, key, run, step, id, resolution string) {
	t.Helper()
	var s struct{ Status string }
	p.call(t, "GET", "/v1/runs/"+run+"/steps/"+step, key, nil).want(t, http.StatusOK).into(t, &s)
	if want := map[string]string{"approved": "RUNNING", "denied": "BLOCKED"}[resolution]; s.Status != want {
		t.Errorf("the step of a review that is %s is %s", resolution, s.Status)
	}
	verdicts := 0
	for _, action := range []string{"review.approve", "review.deny"} {
		var page struct{ Items []struct{ Target string } }
		p.call(t, "GET", "/v1/audit?limit=200&action="+action, token, nil).want(t, http.StatusOK).into(t, &page)
		for _, e := range page.Items {
			if e.Target == id {
				verdicts++
			}
		}
	}
	if verdicts != 1 {
		t.Errorf("the audit log has %d verdicts on %s", verdicts, id)
	}
	if resolution == "approved" {
		p.call(t, "PATCH", "/v1/runs/"+run+"/steps/"+step, key, map[string]any{"status": "COMPLETED"}).want(t, http.StatusOK)
	}
}

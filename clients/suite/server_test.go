package suite

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 60 * time.Second

// server is the real binary on a port of its own, which can be killed and started again.
type server struct {
	t         *testing.T
	binary    string
	dir, addr string
	cmd       *exec.Cmd
	key       string
	token     string
}

func newServer(t *testing.T, binary string) *server {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, binary: binary, dir: filepath.Join(t.TempDir(), "data"), addr: listener.Addr().String()}
	listener.Close()
	create := exec.Command(binary, "create-user", "--init", "--plan", "enterprise", "--data-dir", s.dir, "--email", "ann@example.com", "--password-stdin", "--json")
	create.Stdin = strings.NewReader("correct horse battery staple\n")
	out, err := create.Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	s.key = made.APIKey
	s.start()
	t.Cleanup(s.kill)
	var signedIn struct {
		AccessToken string `json:"access_token"`
	}
	s.call("POST", "/v1/auth/login", `{"email":"ann@example.com","password":"correct horse battery staple"}`, &signedIn)
	s.token = signedIn.AccessToken
	s.call("PATCH", "/v1/workspace/", `{"max_concurrent_runs":100000}`, nil)
	s.askPerson()
	s.call("PUT", "/v1/model-pricing/suite-model", `{"input_cost_per_token":0.001,"output_cost_per_token":0.001}`, nil)
	return s
}

func (s *server) start() {
	s.cmd = exec.Command(s.binary, "serve", "--data-dir", s.dir, "--addr", s.addr)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	lost := time.After(patience)
	for {
		if resp, err := http.Get("http://" + s.addr + "/health/ready"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-look.C:
		case <-lost:
			s.t.Fatal("the server does not start")
		}
	}
}

func (s *server) kill() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

func (s *server) call(method, path, body string, into any) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.addr+path, bytes.NewReader([]byte(body)))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "Bearer "+s.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %d %s, %v", method, path, resp.StatusCode, got, err)
	}
	if into != nil {
		if err := json.Unmarshal(got, into); err != nil {
			s.t.Fatal(err)
		}
	}
}

// books is what the server knows of a user's runs.
type books struct {
	Runs   []string `json:"runs"`   // statuses
	Steps  []string `json:"steps"`  // statuses, those of all runs
	Tokens int      `json:"tokens"` // booked
}

func (s *server) books(user string) (b books) {
	b.Runs, b.Steps = []string{}, []string{}
	var list struct {
		Items []struct {
			ID, Status       string
			PromptTokens     int `json:"prompt_tokens"`
			CompletionTokens int `json:"completion_tokens"`
		}
	}
	s.call("GET", "/v1/runs/?user_id="+user, "", &list)
	for _, run := range list.Items {
		b.Runs = append(b.Runs, run.Status)
		b.Tokens += run.PromptTokens + run.CompletionTokens
		var detail struct{ Steps []struct{ Status string } }
		s.call("GET", "/v1/runs/"+run.ID, "", &detail)
		for _, step := range detail.Steps {
			b.Steps = append(b.Steps, step.Status)
		}
	}
	return b
}

func (b books) String() string {
	return fmt.Sprintf("runs %v, steps %v, %d tokens", b.Runs, b.Steps, b.Tokens)
}

// askPerson has a person asked about a tool of the suite.
func (s *server) askPerson() {
	s.call("PUT", "/v1/policies/suite", `{"match":{"tools":["suite-reviewed"]},"effect":"review","review":{"expires_seconds":5}}`, nil)
}

// review does what happens to a user's step as soon as it waits for a person. What it
// returns waits for that, and sets right what it has changed.
func (s *server) review(user, what string) func() {
	done := make(chan struct{})
	go func() {
		defer close(done)
		var list struct {
			Items []struct {
				ID  string
				Run string `json:"run_id"`
			}
		}
		for began := time.Now(); len(list.Items) == 0; time.Sleep(5 * time.Millisecond) {
			if time.Since(began) > patience {
				s.t.Error("nobody was asked")
				return
			}
			s.call("GET", "/v1/reviews/?status=pending&user_id="+user, "", &list)
		}
		path := "/v1/reviews/" + list.Items[0].ID
		switch what {
		case "approve":
			s.call("POST", path+"/approve", "", nil)
		case "deny":
			s.call("POST", path+"/deny", `{"note":"not this one"}`, nil)
		case "expire": // by itself
		case "end the run":
			s.call("POST", "/v1/runs/"+list.Items[0].Run+"/end", `{"status":"FAILED"}`, nil)
		case "stop all":
			s.call("POST", "/v1/workspace/kill-switch", `{"active":true}`, nil)
		case "change the policy":
			s.call("DELETE", "/v1/policies/suite", "", nil)
		case "die, then approve":
			s.kill()
			s.start()
			s.call("POST", path+"/approve", "", nil)
		default:
			s.t.Errorf("nobody knows how to %s", what)
		}
	}()
	return func() {
		<-done
		s.call("POST", "/v1/workspace/kill-switch", `{"active":false}`, nil)
		s.askPerson()
	}
}

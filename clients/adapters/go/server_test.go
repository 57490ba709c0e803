package adapters_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	pikarc "github.com/pikarc/server/clients/go"
)

// server is the real server, with an account.
type server struct{ url, key, token string }

// serve starts the binary that PIKARC_BINARY names, or the one in the repository's root.
func serve(t *testing.T) *server {
	t.Helper()
	binary := os.Getenv("PIKARC_BINARY")
	if binary == "" {
		binary = "../../../pikarc"
	}
	binary, err := filepath.Abs(binary)
	if err != nil {
		t.Fatal(err)
	}
	data := t.TempDir()
	create := exec.Command(binary, "create-user", "--init", "--plan", "enterprise", "--data-dir", data, "--email", "ann@example.com", "--password-stdin", "--json")
	create.Stdin = strings.NewReader("correct horse battery staple\n")
	out, err := create.Output()
	if err != nil {
		t.Fatalf("create-user: %v", err)
	}
	var account struct {
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal(out, &account); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "serve", "--data-dir", data, "--addr", "127.0.0.1:0")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	s := &server{key: account.APIKey}
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+`)
	for said := bufio.NewScanner(stdout); s.url == "" && said.Scan(); {
		s.url = address.FindString(said.Text())
	}
	var signedIn struct {
		AccessToken string `json:"access_token"`
	}
	s.call(t, "POST", "/v1/auth/login", map[string]string{"email": "ann@example.com", "password": "correct horse battery staple"}, &signedIn)
	s.token = signedIn.AccessToken
	return s
}

func (s *server) call(t *testing.T, method, path string, body, into any) {
	t.Helper()
	content, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, s.url+path, bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusBadRequest {
		t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		t.Fatal(err)
	}
}

func (s *server) killSwitch(t *testing.T, active bool) {
	t.Helper()
	s.call(t, "POST", "/v1/workspace/kill-switch", map[string]bool{"active": active}, new(any))
}

func (s *server) guard(t *testing.T, options ...pikarc.Option) *pikarc.Client {
	t.Helper()
	options = append([]pikarc.Option{pikarc.WithAPIKey(s.key), pikarc.WithBaseURL(s.url), pikarc.WithJournalDir(t.TempDir())}, options...)
	c, err := pikarc.New(options...)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type step struct {
	Status, Error, Model string
	Prompt               int `json:"prompt_tokens"`
	Completion           int `json:"completion_tokens"`
	Cached               int `json:"cached_tokens"`
	Reasoning            int `json:"reasoning_tokens"`
}

func (s *server) steps(t *testing.T, run string) []step {
	t.Helper()
	var detail struct{ Steps []step }
	s.call(t, "GET", "/v1/runs/"+run, nil, &detail)
	return detail.Steps
}

//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/pikarc/server/bench/agent"
	"github.com/pikarc/server/bench/proc"
)

const (
	pikarcRoot = ".." // seen from this module's root, where go run leaves us
	// database is the file's name in a data directory.
	database = "pikarc.db"
)

// workDir is where contenders are built and run: below this module, because
// a system's directory for temporary files may be in memory, where waiting for
// the disk costs nothing.
type workDir struct {
	bin  string // binaries, kept
	kept string // filled files, kept
	tmp  string // of this run, removed at its end
}

// newWorkDir makes a temporary directory, and finds the cache of built programs and filled files.
func newWorkDir() (*workDir, error) {
	if _, err := os.Stat(filepath.Join(pikarcRoot, "storage", "storage.go")); err != nil {
		return nil, fmt.Errorf("run the bench in its own directory, with go run: %w", err)
	}
	cache, err := filepath.Abs(".cache")
	if err != nil {
		return nil, err
	}
	w := &workDir{bin: filepath.Join(cache, "bin"), kept: filepath.Join(cache, "filled")}
	for _, dir := range []string{w.bin, w.kept} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
	}
	w.tmp, err = os.MkdirTemp(cache, "run-")
	return w, err
}

// close removes the temporary directory.
func (w *workDir) close() {
	if err := os.RemoveAll(w.tmp); err != nil {
		say("%v", err)
	}
}

// binary is the path of a built program.
func (w *workDir) binary(name string) string { return filepath.Join(w.bin, name) }

// build builds a program from a directory.
func (w *workDir) build(ctx context.Context, name, dir string) error {
	return proc.Build(ctx, dir, w.binary(name))
}

// account is a workspace and its key.
type account struct {
	Email string `json:"email"`
	Key   string `json:"api_key"`
	Admin string `json:"key"` // another key, with which it is configured
}

// serve starts our server on a directory.
func (w *workDir) serve(ctx context.Context, dir string, flags ...string) (*proc.Process, error) {
	return proc.Start(ctx, proc.Command{
		Path:  w.binary("pikarc"),
		Args:  append([]string{"serve", "--data-dir", dir, "--addr", "127.0.0.1:0"}, flags...),
		Log:   filepath.Join(dir, "server.log"),
		Ready: "/health/ready",
	})
}

// pikarc runs a command of our binary on a directory and returns what it prints.
func (w *workDir) pikarc(ctx context.Context, dir, stdin string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, w.binary("pikarc"), append(args, "--data-dir", dir)...)
	cmd.Env = proc.Environment()
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pikarc %s: %w\n%s%s", args[0], err, out, stderr.Bytes())
	}
	return out, nil
}

// verifyCounters lets our binary compare its counters with its ledger.
func (w *workDir) verifyCounters(ctx context.Context, dir string) error {
	_, err := w.pikarc(ctx, dir, "", "verify")
	return err
}

// makeAccounts makes n accounts in a directory, each of which may run as many
// runs as there can be, with a price for the model.
func (w *workDir) makeAccounts(ctx context.Context, dir string, n int) ([]account, error) {
	accounts := make([]account, n)
	for i := range accounts {
		out, err := w.pikarc(ctx, dir, "correct horse\n", "create-user", "--init",
			"--password-stdin", "--json",
			"--plan", "enterprise", "--email", fmt.Sprintf("agent-%02d@example.com", i))
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(out, &accounts[i]); err != nil {
			return nil, fmt.Errorf("read what create-user prints: %w", err)
		}
		out, err = w.pikarc(ctx, dir, "", "create-key", "--email", accounts[i].Email, "--scope",
			"admin", "--json")
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(out, &accounts[i]); err != nil {
			return nil, fmt.Errorf("read what create-key prints: %w", err)
		}
	}
	// The rest has no command: it is set by the API, with the admin key.
	p, err := w.serve(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer p.Kill()
	for _, a := range accounts {
		s := agent.Server{Host: p.Addr, Key: a.Admin}
		if err := call(ctx, s, "PATCH", "/v1/workspace/", `{"max_concurrent_runs":100000}`,
			nil); err != nil {
			return nil, err
		}
		// With a price, each report also computes and books a cost, as in real use.
		const price = `{"input_cost_per_token":0.0000025,"output_cost_per_token":0.00001}`
		if err := call(ctx, s, "PUT", "/v1/model-pricing/"+agent.Model, price, nil); err != nil {
			return nil, err
		}
	}
	return accounts, p.Stop()
}

// startRun starts a run and returns its id.
func startRun(ctx context.Context, s agent.Server, user string) (string, error) {
	var answer struct{ ID, Status string }
	if err := call(ctx, s, "POST", "/v1/runs/", fmt.Sprintf(`{"user_id":%q}`, user),
		&answer); err != nil {
		return "", err
	}
	// A denied run would be answered fast, and be no load at all.
	if answer.Status != "RUNNING" {
		return "", fmt.Errorf("a run was started as %s", answer.Status)
	}
	return answer.ID, nil
}

// call makes one call outside of what is measured.
func call(ctx context.Context, s agent.Server, method, path, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+s.Host+path,
		strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+s.Key)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode >= http.StatusMultipleChoices {
		return fmt.Errorf("%s %s: %s %s", method, path, res.Status, text)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(text, into)
}

// copyDir copies the files of a directory, for their owner alone: the server
// refuses a secret that others can read.
func copyDir(from, to string) error {
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, f := range files {
		if err := copyFile(filepath.Join(from, f.Name()), filepath.Join(to, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// copyFile copies a file's content.
func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}

// sizeOf is a file's length.
func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0 // no file, no bytes
	}
	return info.Size()
}

package suite

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Somebody with nothing but the server's address installs its clients with the
// line of its pages, and a call of each is guarded.
func TestTheServersOwnFilesAreInstalledAndGuardACall(t *testing.T) {
	s := newServer(t, os.Getenv("PIKARC_BINARY"))
	at := "http://" + s.addr + "/clients/"
	wheel := s.clientFile(".whl")
	dir := t.TempDir()
	python := filepath.Join(dir, "venv", "bin", "python")
	s.run(dir, "python3", "-m", "venv", "venv")
	s.run(dir, python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", at+wheel)
	s.run(dir, python, "-c", `
from pikarc import Pikarc
with Pikarc() as guard, guard.run(user_id="of-python") as run:
    assert run.tool_call(lambda: 3, tool_name="add") == 3
`)
	s.wantOneCall("of-python")

	s.write(dir, "package.json", `{"type": "module", "private": true}`)
	s.run(dir, "npm", "install", "--silent", "--no-audit", "--no-fund", at+"pikarc.tgz")
	s.write(dir, "agent.mjs", `
import { Pikarc } from "pikarc";
const got = await new Pikarc().run({ userId: "of-node" }, (run) => run.toolCall(() => 3, { toolName: "add" }));
if (got !== 3) throw new Error(String(got));
`)
	s.run(dir, "node", "agent.mjs")
	s.wantOneCall("of-node")

	// The page of links is enough for pip, which takes the hash from it.
	out := s.run(dir, python, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index",
		"--dest", "found", "--find-links", at, "pikarc")
	if _, err := os.Stat(filepath.Join(dir, "found", wheel)); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// The same source is the same file: what a release lists can be made again.
func TestPackingAgainMakesTheSameFiles(t *testing.T) {
	s := newServer(t, os.Getenv("PIKARC_BINARY"))
	dir := t.TempDir()
	for range 2 { // the second time nothing has changed
		s.run(dir, "../pack.sh", filepath.Join(dir, "again"))
	}
	for _, ending := range []string{".whl", ".tar.gz", ".tgz"} {
		name := s.clientFile(ending)
		again, err := os.ReadFile(filepath.Join(dir, "again", name))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.Get("http://" + s.addr + "/clients/" + name)
		if err != nil {
			t.Fatal(err)
		}
		served, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !bytes.Equal(served, again) {
			t.Errorf("%s differs: %d bytes served, %d packed again, %v", name, len(served), len(again), err)
		}
	}
}

// clientFile finds the name of the file with an ending in the server's list.
func (s *server) clientFile(ending string) string {
	s.t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.addr+"/clients/", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var list struct{ Items []struct{ File string } }
	if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
		s.t.Fatal(err)
	}
	for _, item := range list.Items {
		if strings.HasSuffix(item.File, ending) {
			return item.File
		}
	}
	s.t.Fatalf("the server carries no %s: was it built with `make build`? %v", ending, list)
	return ""
}

func (s *server) write(dir, name, content string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// run runs a command of somebody who has the server's key, in a directory of theirs.
func (s *server) run(dir, command string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*patience)
	defer cancel()
	if strings.HasPrefix(command, "..") {
		var err error
		if command, err = filepath.Abs(command); err != nil {
			s.t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(ctx, command, args...)
	cmd.Dir = dir
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "PYTHONPATH=") && !strings.HasPrefix(variable, "PIKARC_") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "PIKARC_API_KEY="+s.key, "PIKARC_BASE_URL=http://"+s.addr, "PIKARC_JOURNAL_DIR="+s.t.TempDir())
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", command, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func (s *server) wantOneCall(user string) {
	s.t.Helper()
	if got, want := s.books(user).String(), "runs [COMPLETED], steps [COMPLETED], 0 tokens"; got != want {
		s.t.Errorf("%s: %s, want %s", user, got, want)
	}
}

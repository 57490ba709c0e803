package pikarc

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What the README's blocks take for granted: the reader's own functions, and what
// earlier blocks have made.
const readersOwn = `package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	pikarc "github.com/pikarc/server/clients/go"
)

type answer struct {
	Text  string
	Usage struct {
		PromptTokens int %[2]sjson:"prompt_tokens"%[2]s
	} %[2]sjson:"usage"%[2]s
}

func askTheModel(context.Context) (answer, error)   { return answer{Text: "so"}, nil }
func search(context.Context) (string, error)        { return "found", nil }
func sendMail(context.Context) (any, error)         { return nil, nil }
func streamTheModel(context.Context) (pikarc.Chunks[answer], error) {
	return pikarc.ChunksOf(func(yield func(answer, error) bool) { yield(answer{Text: "so"}, nil) }), nil
}

var guard, _ = pikarc.New()
var _, _ = errors.New, time.Now

func main() {
	for i, block := range []func(context.Context) error{%[1]s} {
		if err := block(context.Background()); err != nil {
			panic(fmt.Sprint("block ", i, ": ", err))
		}
	}
}
`

// Every block of the README is compiled, and runs.
func TestTheREADMEsCodeRuns(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```go\n(.*?)^```").FindAllSubmatch(readme, -1)
	functions := ""
	for _, block := range blocks {
		functions += "func(ctx context.Context) error {\n" + string(block[1]) + "},\n"
	}
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	const module = "github.com/pikarc/server/clients/go"
	for name, content := range map[string]string{
		"main.go": fmt.Sprintf(readersOwn, functions, "`"),
		"go.mod":  "module reader\n\ngo 1.24\n\nrequire " + module + " v0.0.0\n\nreplace " + module + " => " + here + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := emptyBooks()
	server := httptest.NewServer(b)
	defer server.Close()
	run := exec.Command("go", "run", ".")
	run.Dir = dir
	run.Env = append(os.Environ(), "PIKARC_API_KEY=lg_test", "PIKARC_BASE_URL="+server.URL, "PIKARC_JOURNAL_DIR="+dir, "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	completed := strings.Count(fmt.Sprint(b.steps), "COMPLETED")
	if len(blocks) != 4 || len(b.runs) != 4 || len(b.steps) != 5 || completed != 5 {
		t.Errorf("%d blocks made runs %v with steps %v", len(blocks), b.runs, b.steps)
	}
	b.assertSettled(t)
}

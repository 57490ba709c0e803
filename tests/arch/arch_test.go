// Package arch_test keeps the shape of the source: which room may use which,
// what each may bring in from outside, and how long a file may get.
package arch_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// room says what a package may import beside the standard library. Tests of a
// room may import what they like: they are not part of the binary.
type room struct {
	uses    []string // other rooms
	modules []string // third-party code, with all packages below
	never   []string // standard packages, with all packages below
}

// rooms is the whole drawing. A new arrow or library is a decision: change it
// here in the commit that records why, in docs/adr.
func rooms() map[string]room {
	return map[string]room{
		"main": {uses: []string{"cli"}},
		"cli": {
			uses: []string{"server", "storage", "storage/dbfile", "storage/transfer", "storage/verify", "auth", "auth/privatefile", "plans", "policies",
				"policies/policyfile", "prices", "embed", "demo", "ask", "hook", "mcp"},
			modules: []string{"github.com/spf13/cobra", "github.com/spf13/pflag", "golang.org/x/term"},
			never:   []string{"database/sql"},
		},
		"server": {
			uses: []string{"server/request", "server/limit", "server/telemetry", "server/wire", "server/live",
				"server/billing", "server/clients", "server/links", "server/notify",
				"storage", "auth", "auth/privatefile", "guard", "plans", "policies", "prices"},
			modules: []string{
				"github.com/julienschmidt/httprouter", "github.com/google/uuid",
				"golang.org/x/sync", "golang.org/x/crypto/acme",
			},
			never: []string{"database/sql"},
		},
		"server/clients": {never: []string{"database/sql", "net/http", "log", "os"}},
		"server/links": {
			uses:    []string{"auth"},
			modules: []string{"github.com/google/uuid"},
			never:   []string{"database/sql", "net/http", "log", "os"},
		},
		"server/billing": {
			uses:    []string{"storage", "plans"},
			modules: []string{"github.com/stripe/stripe-go/v85"},
			never:   []string{"database/sql", "os"},
		},
		"server/notify": { // it alone sends to addresses that others have chosen
			uses:    []string{"storage"},
			modules: []string{"github.com/wneessen/go-mail"},
			never:   []string{"database/sql", "os"},
		},
		"server/live": {
			uses:    []string{"server/wire", "storage"},
			modules: []string{"github.com/google/uuid"},
			never:   []string{"database/sql", "os"},
		},
		"server/wire": {
			uses:    []string{"server/request", "storage", "guard", "plans"},
			modules: []string{"github.com/google/uuid"},
			never:   []string{"database/sql", "net/http", "log", "os"},
		},
		"server/telemetry": {
			uses:    []string{"storage", "guard"},
			modules: []string{"github.com/prometheus/client_golang", "go.opentelemetry.io/otel"},
			never:   []string{"database/sql"},
		},
		"server/limit": {
			modules: []string{"golang.org/x/time", "github.com/hashicorp/golang-lru/v2"},
			never:   []string{"database/sql", "log", "os"},
		},
		"server/request": {
			uses:    []string{"plans"},
			modules: []string{"github.com/google/uuid"},
			never:   []string{"database/sql", "log", "os"},
		},
		"storage": {
			uses: []string{"storage/sqlite", "storage/postgres", "storage/dbfile", "storage/payload", "storage/outcomes", "storage/verify", "auth", "guard",
				"plans", "policies", "prices"},
			modules: []string{"github.com/google/uuid", "github.com/hashicorp/golang-lru/v2"},
			never:   []string{"net/http"},
		},
		"storage/outcomes": {never: []string{"database/sql", "net/http", "log", "os"}},
		"storage/payload": { // it alone compresses
			modules: []string{"github.com/klauspost/compress", "github.com/cespare/xxhash/v2"},
			never:   []string{"database/sql", "net/http", "log", "os"},
		},
		"storage/postgres": { // it alone knows PostgreSQL's library
			modules: []string{"github.com/jackc/pgx/v5", "github.com/pressly/goose/v3"},
			never:   []string{"net/http", "log", "os"},
		},
		"storage/dbfile": { // of the file it alone knows goose
			uses:    []string{"storage/sqlite", "auth/privatefile"},
			modules: []string{"github.com/pressly/goose/v3", "github.com/gofrs/flock"},
			never:   []string{"net/http"},
		},
		"storage/verify": {
			uses:  []string{"storage/sqlite", "storage/dbfile"},
			never: []string{"net/http"},
		},
		"storage/transfer": {
			uses:    []string{"storage/sqlite", "storage/postgres", "storage/dbfile", "storage/verify", "auth"},
			modules: []string{"github.com/google/uuid"},
			never:   []string{"net/http", "log"},
		},
		"storage/sqlite": { // it alone knows SQLite's library, and has the only unsafe
			modules: []string{"modernc.org/sqlite", "modernc.org/libc"},
			never:   []string{"net/http"},
		},
		"auth": {
			uses:    []string{"auth/privatefile"},
			modules: []string{"golang.org/x/crypto", "golang.org/x/text/unicode/norm", "github.com/golang-jwt/jwt/v5"},
			never:   []string{"database/sql", "net/http", "math/rand"}, // secrets come from crypto/rand
		},
		"auth/privatefile": {never: []string{"database/sql", "net"}},
		"guard": {
			uses:  []string{"plans"},
			never: []string{"context", "database", "net", "os", "math/rand", "crypto/rand"}, // the same question, the same answer
		},
		"prices": {
			uses:  []string{"plans"},
			never: []string{"context", "database", "net", "os", "math/rand", "crypto/rand"},
		},
		"policies": { // it alone knows CEL
			uses:    []string{"plans"},
			modules: []string{"cel.dev/cel-go"},
			never:   []string{"database", "net", "os", "log", "math/rand", "crypto/rand"},
		},
		"policies/policyfile": {
			uses:    []string{"policies"},
			modules: []string{"go.yaml.in/yaml/v3"},
			never:   []string{"database", "net", "os", "log"},
		},
		"plans": {never: []string{"context", "database", "net", "os"}},
		"embed": {},
		"ask":   {never: []string{"database/sql", "log"}}, // what a hook imports, it waits for
		"mcp":   {uses: []string{"ask"}, never: []string{"database/sql"}},
		"hook":  {uses: []string{"ask"}, never: []string{"database/sql", "log"}},
		"demo": { // a client of the others: what it makes goes the ways of the present
			uses:    []string{"storage", "guard", "plans"},
			modules: []string{"github.com/google/uuid"},
			never:   []string{"database/sql"},
		},
	}
}

const (
	maxLines     = 500
	maxTestLines = 700
	maxFiles     = 40 // of a package, without tests
)

// TestMain runs the tests at the root of the module.
func TestMain(m *testing.M) {
	if err := os.Chdir("../.."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// listed is what `go list -json` says of a package.
type listed struct {
	Dir, ImportPath, Doc string
	GoFiles              []string
	EmbedFiles           []string
	CgoFiles             []string
	IgnoredGoFiles       []string // for another system or tag
	Module               struct{ Path string }
}

// name is the room's name: its path below the module, or main.
func (p listed) name() string {
	if p.ImportPath == p.Module.Path {
		return "main"
	}
	return strings.TrimPrefix(p.ImportPath, p.Module.Path+"/")
}

// sources are the files that can end up in a binary, on whatever system.
func (p listed) sources() []string {
	var files []string
	for _, file := range slices.Concat(p.GoFiles, p.CgoFiles, p.IgnoredGoFiles) {
		if !strings.HasSuffix(file, "_test.go") {
			files = append(files, filepath.Join(p.Dir, file))
		}
	}
	return files
}

func TestImportsFollowTheDrawing(t *testing.T) {
	for _, p := range packages(t) {
		may, ok := rooms()[p.name()]
		if !ok {
			continue // TestEveryPackageIsARoomAndSaysWhatItIs reports it
		}
		for _, file := range p.sources() {
			for _, path := range imports(t, file) {
				if path == "unsafe" && p.name() != "storage/sqlite" {
					t.Errorf("%s imports unsafe, which is for storage/sqlite alone", relative(t, file))
				}
				if fault := may.fault(path, p.Module.Path); fault != "" {
					t.Errorf("%s imports %s: %s %s", relative(t, file), path, p.name(), fault)
				}
			}
		}
	}
}

// fault says what is wrong with an import, or nothing.
func (r room) fault(path, module string) string {
	if other, ours := strings.CutPrefix(path, module+"/"); ours || path == module {
		if !slices.Contains(r.uses, other) {
			return "may use of our rooms " + list(r.uses)
		}
		return ""
	}
	first, _, _ := strings.Cut(path, "/")
	if std := !strings.Contains(first, "."); std {
		if within(path, r.never) {
			return "must work without it"
		}
		return ""
	}
	if !within(path, r.modules) {
		return "may use of third-party code " + list(r.modules)
	}
	return ""
}

func TestEveryPackageIsARoomAndSaysWhatItIs(t *testing.T) {
	all := rooms()
	for _, p := range packages(t) {
		if len(p.sources()) == 0 {
			continue // tests alone
		}
		if _, ok := all[p.name()]; !ok {
			t.Errorf("%s is none of the rooms: give its code to one of them, or its directory a go.mod of its own", p.ImportPath)
		}
		if p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

func TestPackagesStaySmall(t *testing.T) {
	for _, p := range packages(t) {
		if n := len(p.sources()); n > maxFiles {
			t.Errorf("%s has %d files, %d are allowed: give what belongs together a package", p.ImportPath, n, maxFiles)
		}
	}
}

func TestFilesStayShort(t *testing.T) {
	for _, file := range goFiles(t) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		limit := maxLines
		if strings.HasSuffix(file, "_test.go") {
			limit = maxTestLines
		}
		if lines := bytes.Count(source, []byte("\n")); lines > limit {
			t.Errorf("%s has %d lines, %d are allowed: split it by what it is about", file, lines, limit)
		}
	}
}

// One static binary for any Linux needs a build without cgo, and a file that
// only a cgo build sees is a file that no release contains.
func TestNothingNeedsCgo(t *testing.T) {
	constraint := regexp.MustCompile(`(?m)^//\s*(go:build|\+build)\b.*\bcgo\b`)
	for _, file := range goFiles(t) {
		if slices.Contains(imports(t, file), "C") {
			t.Errorf(`%s imports "C"`, file)
		}
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if line := constraint.Find(source); line != nil {
			t.Errorf("%s is built only with or without cgo: %s", file, line)
		}
	}
}

// packages asks go list, with -e: what does not compile is the compiler's to
// report, and has imports all the same.
func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-e",
		"-json=Dir,ImportPath,Doc,GoFiles,EmbedFiles,CgoFiles,IgnoredGoFiles,Module", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	var all []listed
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

// goFiles finds every Go file below the root. It walks, rather than asks go
// list, because go test's cache notices what the test itself opens.
func goFiles(t *testing.T) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || foreign(d.Name())):
			return fs.SkipDir
		case !d.IsDir() && strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// foreign tells directories that hold a run's data or other people's code.
func foreign(dir string) bool {
	return dir == "node_modules" || dir == "pikarc-data"
}

func imports(t *testing.T, file string) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, spec := range parsed.Imports {
		path, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

func within(path string, roots []string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

func list(names []string) string {
	if len(names) == 0 {
		return "none"
	}
	return "only " + strings.Join(names, ", ")
}

func relative(t *testing.T, file string) string {
	t.Helper()
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	short, err := filepath.Rel(root, file)
	if err != nil {
		t.Fatal(err)
	}
	return short
}

package arch_test

import (
	"bytes"
	"debug/buildinfo"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// released is the binary of this source, which is made once.
var released = sync.OnceValues(func() ([]byte, error) { return build(".") })

// build makes the binary of a source tree as a release does.
func build(source string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "pikarc-arch-test")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "pikarc")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X github.com/pikarc/server/cli.version=1.2.3 -X github.com/pikarc/server/cli.commit=abc", "-o", out, ".")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, said)
	}
	return os.ReadFile(out)
}

// copySource copies what go build reads of this module to another place.
func copySource(t *testing.T, to string) {
	t.Helper()
	files := []string{"go.mod", "go.sum"}
	for _, p := range packages(t) {
		dir := relative(t, p.Dir)
		for _, name := range append(append([]string{}, p.GoFiles...), p.EmbedFiles...) {
			files = append(files, filepath.Join(dir, name))
		}
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(to, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, file), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Whoever builds a release again, wherever, gets the very file that was published.
func TestTheSameSourceElsewhereIsTheSameBinary(t *testing.T) {
	t.Parallel()
	elsewhere := filepath.Join(t.TempDir(), "another", "place")
	copySource(t, elsewhere)
	here, err := released()
	if err != nil {
		t.Fatal(err)
	}
	there, err := build(elsewhere)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(here, there) {
		t.Errorf("two builds differ: %d and %d bytes", len(here), len(there))
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root, elsewhere, os.Getenv("HOME") + "/"} {
		if len(path) > 1 && bytes.Contains(here, []byte(path)) {
			t.Errorf("the binary names %s of the machine that built it", path)
		}
	}
}

func TestTheListOfPartsNamesEachModuleInside(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "pikarc")
	content, err := released()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(binary, content, 0o700); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	sbom := exec.Command(".ci/sbom.sh", "binary", "1.2.3", binary)
	sbom.Stderr = &said
	out, err := sbom.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &said)
	}
	var list struct {
		BOMFormat, SpecVersion, SerialNumber string
		Metadata                             struct{ Timestamp string }
		Components                           []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	for _, c := range list.Components {
		if c.PURL != "" {
			versions[c.Name] = c.Version
		}
	}
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"std": info.GoVersion}
	for _, m := range info.Deps {
		want[m.Path] = m.Version
	}
	if diff := cmp.Diff(want, versions); diff != "" || len(want) < 10 {
		t.Errorf("of %d modules: -inside +listed\n%s", len(want), diff)
	}
	if list.BOMFormat != "CycloneDX" || list.SerialNumber != "" || list.Metadata.Timestamp != "" {
		t.Errorf("a %s list, with number %q and time %q", list.BOMFormat, list.SerialNumber, list.Metadata.Timestamp)
	}
}

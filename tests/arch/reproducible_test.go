package arch_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// build makes the binary of a source tree as a release does.
func build(t *testing.T, source string) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "pikarc")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X github.com/pikarc/server/cli.version=1.2.3 -X github.com/pikarc/server/cli.commit=abc", "-o", out, ".")
	cmd.Dir, cmd.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, said)
	}
	content, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return content
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
	here, there := build(t, "."), build(t, elsewhere)
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
	dir := t.TempDir()
	binary, parts := filepath.Join(dir, "pikarc"), filepath.Join(dir, "parts.json")
	if err := os.WriteFile(binary, build(t, "."), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(parts, []byte(`[{"name":"svelte","version":"5.0.0"},{"name":"@a/b","version":"1.0.0"}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("go", "run", "./.ci/sbom", binary, "1.2.3", parts).Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		BOMFormat, SpecVersion string
		Components             []struct{ Name, Version, PURL string }
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, c := range list.Components {
		found[c.Name] = c.Version != "" && c.PURL != ""
		found[c.PURL] = true
	}
	for _, name := range []string{"std", "modernc.org/sqlite", "github.com/julienschmidt/httprouter", "golang.org/x/crypto", "pkg:npm/svelte@5.0.0", "pkg:npm/%40a/b@1.0.0"} {
		if !found[name] {
			t.Errorf("%s is not in the list", name)
		}
	}
	if list.BOMFormat != "CycloneDX" || len(list.Components) < 10 {
		t.Errorf("format %s with %d parts", list.BOMFormat, len(list.Components))
	}
}

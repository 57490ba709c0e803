package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

func TestTheClientsWireTypesAreThoseOfTheDocument(t *testing.T) {
	files, err := generate(root)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		if got, err := os.ReadFile(name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what server/openapi.json says: run `make clients` (%v)", name, err)
		}
	}
}

// What the document names by itself is not added to it.
func TestNothingIsAddedTwice(t *testing.T) {
	for _, extra := range []string{`{"Decision":{"reason":{"type":"string"}}}`, `{"Outcome":["DENY"]}`} {
		file := filepath.Join(t.TempDir(), "extra.json")
		if err := os.WriteFile(file, []byte(extra), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := read(filepath.Join(root, "server", "openapi.json"), file); err == nil || !strings.Contains(err.Error(), "by now") {
			t.Errorf("%s: %v", extra, err)
		}
	}
}

func TestWhatCannotBeWrittenIsRefused(t *testing.T) {
	for name, document := range map[string]string{
		"a schema that is missing": `{}`,
		"a type that is unknown":   `{"components":{"schemas":{"Decision":{"properties":{"x":{"type":"oneOf"}}}}}}`,
		"an object of its own":     `{"components":{"schemas":{"X":{"type":"object"},"Decision":{"properties":{"x":{"$ref":"#/X"}}}}}}`,
		"a reference to nothing":   `{"components":{"schemas":{"Decision":{"properties":{"x":{"$ref":"#/X"}}}}}}`,
	} {
		dir := t.TempDir()
		files := map[string]string{"doc.json": document, "extra.json": "{}"}
		for file, content := range files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := read(filepath.Join(dir, "doc.json"), filepath.Join(dir, "extra.json")); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

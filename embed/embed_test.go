package embed_test

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/pikarc/server/embed"
)

func TestThereIsAlwaysADashboardAndItIsNothingButFiles(t *testing.T) {
	page, err := fs.ReadFile(embed.Dashboard(), "index.html")
	if err != nil || !strings.Contains(string(page), "<title>Pikarc") {
		t.Fatalf("index.html: %v\n%s", err, page)
	}
	err = fs.WalkDir(embed.Dashboard(), ".", func(name string, _ fs.DirEntry, err error) error {
		if strings.Contains(name, "node_modules") || strings.HasSuffix(name, ".ts") || strings.HasSuffix(name, ".svelte") {
			t.Errorf("%s is no part of what is served", name)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func TestThePlaceholderSaysHowToBuildTheDashboard(t *testing.T) {
	page, err := fs.ReadFile(embed.Placeholder(), "index.html")
	if err != nil || !strings.Contains(string(page), "make build") {
		t.Errorf("%v\n%s", err, page)
	}
	if _, err := fs.ReadFile(embed.Placeholder(), "style.css"); err != nil {
		t.Error(err)
	}
}

package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A map that names files which have moved leads a newcomer astray.
func TestTheArchitecturePageNamesFilesThatExist(t *testing.T) {
	named := regexp.MustCompile("`([A-Za-z_]+(?:/[A-Za-z0-9_.-]+)+)`")
	found := named.FindAllStringSubmatch(text(t, "docs/architecture.md"), -1)
	if len(found) < 40 {
		t.Fatalf("the page names %d files", len(found))
	}
	for _, name := range found {
		if _, err := os.Stat(name[1]); err != nil {
			t.Errorf("docs/architecture.md names %s: %v", name[1], err)
		}
	}
}

// A package comment that lists the package's files lists all of them, and no others.
func TestPackageCommentsListTheFilesThatExist(t *testing.T) {
	named := regexp.MustCompile(`[a-z0-9_]+\.go\b`)
	ofPlatform := regexp.MustCompile(`_(linux|unix|windows|other)\.go$`)
	sources := make(map[string][]string)
	for _, file := range goFiles(t) {
		if !strings.HasSuffix(file, "_test.go") {
			sources[filepath.Dir(file)] = append(sources[filepath.Dir(file)], file)
		}
	}
	lists := 0
	for dir, files := range sources {
		listed := make(map[string]bool)
		for _, file := range files {
			comment, _, _ := strings.Cut(text(t, file), "\npackage ")
			for line := range strings.Lines(comment) {
				if item, ok := strings.CutPrefix(line, "//   - "); ok {
					item, _, _ = strings.Cut(item, ":")
					for _, name := range named.FindAllString(item, -1) {
						listed[name] = true
					}
				}
			}
		}
		if len(listed) == 0 {
			continue
		}
		lists++
		for _, file := range files {
			name := filepath.Base(file)
			if !listed[name] && name != "doc.go" && !ofPlatform.MatchString(name) {
				t.Errorf("the comment of package %s does not say what %s is for: add a line", dir, name)
			}
			delete(listed, name)
		}
		for name := range listed {
			t.Errorf("the comment of package %s lists %s, which does not exist", dir, name)
		}
	}
	if lists < 15 {
		t.Errorf("only %d package comments list their files", lists)
	}
}

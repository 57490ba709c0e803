package arch_test

import (
	"os"
	"regexp"
	"testing"
)

// A map that names files which have moved leads a newcomer astray.
func TestTheArchitecturePageNamesFilesThatExist(t *testing.T) {
	named := regexp.MustCompile("`((?:cli|server|storage|guard|embed|tests|prices|plans|auth)[a-z0-9_/]*(?:\\.(?:go|json|ts|txt|sql))?)`")
	found := named.FindAllStringSubmatch(text(t, "docs/architecture.md"), -1)
	if len(found) < 20 {
		t.Fatalf("the page names %d files", len(found))
	}
	for _, name := range found {
		if _, err := os.Stat(name[1]); err != nil {
			t.Errorf("docs/architecture.md names %s: %v", name[1], err)
		}
	}
}

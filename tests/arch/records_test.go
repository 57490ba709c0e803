package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// A record of a decision is cited by its number alone: in code, in other
// records and by people.
func TestEveryDecisionHasANumberOfItsOwn(t *testing.T) {
	named := regexp.MustCompile(`^(\d{4})-[a-z0-9-]+\.md$`)
	head := regexp.MustCompile(`^# (\d{4}): \S.*\n\nAccepted, \d{4}-\d\d-\d\d\.`)
	numbers := make(map[string]string)
	for _, name := range records(t) {
		number := named.FindStringSubmatch(name)
		if number == nil {
			t.Errorf("docs/adr/%s is not called 0000-its-title.md", name)
			continue
		}
		if other, taken := numbers[number[1]]; taken {
			t.Errorf("docs/adr: %s and %s have the same number", other, name)
		}
		numbers[number[1]] = name
		if title := head.FindStringSubmatch(text(t, "docs/adr/"+name)); title == nil || title[1] != number[1] {
			t.Errorf("docs/adr/%s does not begin with \"# %s: \", its title, and when it was accepted", name, number[1])
		}
	}
	cited := regexp.MustCompile(`docs/adr/(\d{4})|ADR (\d{4})|\[(\d{4})\]\(`)
	for _, file := range append(goFiles(t), documents(t)...) {
		for _, found := range cited.FindAllStringSubmatch(text(t, file), -1) {
			if number := found[1] + found[2] + found[3]; numbers[number] == "" {
				t.Errorf("%s cites the decision %s, which does not exist", file, number)
			}
		}
	}
}

// The index is how a newcomer finds a decision: a line each, with its title.
func TestTheIndexListsEveryDecision(t *testing.T) {
	index := text(t, "docs/adr/README.md")
	title := regexp.MustCompile(`^# (\d{4}): (.*)\n`)
	for _, name := range records(t) {
		found := title.FindStringSubmatch(text(t, "docs/adr/"+name))
		if found == nil {
			continue // TestEveryDecisionHasANumberOfItsOwn reports it
		}
		if line := "| [" + found[1] + "](" + name + ") | " + found[2] + " |"; !strings.Contains(index, line) {
			t.Errorf("docs/adr/README.md has no line that begins with %s", line)
		}
	}
}

// Files that are moved or renamed leave links behind.
func TestLinksBetweenDocumentsLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s#]+)(#[^)\s]*)?\)`)
	for _, file := range documents(t) {
		for _, found := range link.FindAllStringSubmatch(text(t, file), -1) {
			if strings.Contains(found[1], ":") {
				continue // on another site
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), found[1])); err != nil {
				t.Errorf("%s links to %s: %v", file, found[1], err)
			}
		}
	}
}

func records(t *testing.T) (names []string) {
	t.Helper()
	files, err := os.ReadDir("docs/adr")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name() != "README.md" { // the index of the others
			names = append(names, f.Name())
		}
	}
	return names
}

// documents are the pages that people read.
func documents(t *testing.T) []string {
	t.Helper()
	var files []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/*/*.md", "*/*/README.md", "*/README.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

func text(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// The first line that somebody copies must find the client that the server carries.
func TestTheQuickStartNamesTheClientThatIsPacked(t *testing.T) {
	version := regexp.MustCompile(`__version__ = "(.*)"`).FindStringSubmatch(text(t, "clients/python/src/pikarc/_version.py"))
	if version == nil {
		t.Fatal("the Python client has no version")
	}
	wheel := regexp.MustCompile(`/clients/pikarc-(\S+?)-py3-none-any\.whl`)
	for _, file := range []string{"README.md", "examples/agent.py", "embed/placeholder/index.html"} {
		named := wheel.FindAllStringSubmatch(text(t, file), -1)
		if len(named) == 0 {
			t.Errorf("%s does not say how to install the client", file)
		}
		for _, name := range named {
			if name[1] != version[1] {
				t.Errorf("%s names the client %s, packed is %s", file, name[1], version[1])
			}
		}
	}
}

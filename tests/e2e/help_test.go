package e2e_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pikarc/server/plans"
)

// listedCommands are all commands that the help of pikarc lists.
func listedCommands(t *testing.T) (names []string) {
	t.Helper()
	_, list, _ := strings.Cut(run(t, "--help").ok(t).stdout, "\nCommands:\n")
	for _, found := range regexp.MustCompile(`(?m)^  (\S+) +\S`).FindAllStringSubmatch(strings.Split(list, "\n\n")[0], -1) {
		names = append(names, found[1])
	}
	if len(names) < 12 || !slices.Contains(names, "serve") {
		t.Fatalf("only %v are listed", names)
	}
	return names
}

func TestEveryCommandsHelpFitsAScreenAndShowsAnExample(t *testing.T) {
	t.Parallel()
	const width = 100
	for _, command := range append(listedCommands(t), "") {
		help := run(t, append(strings.Fields(command), "--help")...).ok(t).stdout
		for line := range strings.SplitSeq(help, "\n") {
			if utf8.RuneCountInString(line) > width {
				t.Errorf("pikarc %s --help has a line of %d columns: %s", command, utf8.RuneCountInString(line), line)
			}
		}
		if !strings.Contains(help, "\nExamples:\n  ") && command != "version" && command != "completion" {
			t.Errorf("pikarc %s --help shows no example", command)
		}
	}
}

func TestServesHelpListsItsFlagsInGroups(t *testing.T) {
	t.Parallel()
	help := run(t, "serve", "--help").ok(t).stdout
	var titles []string
	for _, found := range regexp.MustCompile(`(?m)^(\S.*):\n {2,}-`).FindAllStringSubmatch(help, -1) {
		titles = append(titles, found[1])
	}
	if len(titles) < 6 {
		t.Errorf("the groups are %q", titles)
	}
	_, rest, _ := strings.Cut(help, "\nFlags:\n")
	rest, _, _ = strings.Cut(rest, "\n\n")
	if strings.Contains(rest, "\n") || !strings.Contains(rest, "--help") {
		t.Errorf("flags are in no group:\n%s", rest)
	}
}

func TestTheVersionFlagSaysWhatTheCommandSays(t *testing.T) {
	t.Parallel()
	want := run(t, "version").ok(t).stdout
	for _, flag := range []string{"--version", "-v"} {
		if got := run(t, flag).ok(t).stdout; got != want {
			t.Errorf("pikarc %s says %q, pikarc version %q", flag, got, want)
		}
	}
	// A container's environment often has a version of its own.
	invocation{args: []string{}, settings: []string{"PIKARC_VERSION=1.2.3"}}.run(t)
}

func TestAllPlansAreNamedWhereverOneIsChosen(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ help, complete []string }{
		{[]string{"create-user"}, []string{"create-user", "--plan", ""}},
		{[]string{"serve"}, []string{"serve", "--default-plan", ""}},
		{[]string{"set-plan"}, []string{"set-plan", "--email", "ann@example.com", ""}},
	} {
		help := strings.Join(strings.Fields(run(t, append(c.help, "--help")...).ok(t).stdout), " ")
		offered := strings.Split(run(t, append([]string{"__complete"}, c.complete...)...).stdout, "\n")
		for _, plan := range plans.All() {
			if !strings.Contains(help, string(plan.ID)) {
				t.Errorf("pikarc %s --help does not name %s", c.help[0], plan.ID)
			}
			if !slices.Contains(offered, string(plan.ID)) {
				t.Errorf("%v completes to %q, without %s", c.complete, offered, plan.ID)
			}
		}
	}
}

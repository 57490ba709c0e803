package cli

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// settingPrefix begins the names of all environment variables of this server.
const settingPrefix = "PIKARC_"

// secretSettings come from the environment only, as themselves or from the file
// that <NAME>_FILE names: flags would show them in the list of processes.
func secretSettings() []string {
	return []string{serverSecret, stripeSecretKey, stripeWebhookSecret, stripePricePro,
		stripePriceScale, smtpPassword}
}

// clientSettings are variables of agents and of scripts that configure, which
// often run beside their server.
func clientSettings() []string {
	return []string{"PIKARC_API_KEY", "PIKARC_ADMIN_KEY", "PIKARC_BASE_URL", "PIKARC_JOURNAL_DIR"}
}

// serverSecret is the variable of the server secret; it has no flag.
const serverSecret = "PIKARC_SECRET"

// settingName is the variable of a flag.
func settingName(flag string) string {
	return settingPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// isSetting reports whether a variable may stand for a flag. The environment of
// a container often has a PIKARC_VERSION of its own.
func isSetting(f *pflag.Flag) bool { return f.Name != "help" && f.Name != "version" }

// settingNames are the variables that any command reads.
func settingNames(root *cobra.Command) map[string]bool {
	names := make(map[string]bool)
	add := func(f *pflag.Flag) {
		if isSetting(f) {
			names[settingName(f.Name)] = true
		}
	}
	root.PersistentFlags().VisitAll(add)
	for _, cmd := range root.Commands() {
		cmd.Flags().VisitAll(add)
		// Commands have subcommands of one level.
		for _, below := range cmd.Commands() {
			below.Flags().VisitAll(add)
		}
	}
	for _, name := range secretSettings() {
		names[name], names[name+"_FILE"] = true, true
	}
	// Not a secret, and without a flag: it is for tests.
	names[stripeAPIURL] = true
	// The URL has a flag, and may hold a password, so it may also come from a file.
	names[settingName(databaseFlag)+"_FILE"] = true
	return names
}

// fromEnvironment sets every flag that was not given from PIKARC_<FLAG>. An
// empty value sets nothing: compose files pass on what is unset as empty.
func fromEnvironment(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := settingName(f.Name)
		value := os.Getenv(name)
		if value == "" || f.Changed || !isSetting(f) || err != nil {
			return
		}
		if strings.TrimSpace(value) != value {
			err = usage(fmt.Errorf("environment variable %s begins or ends with white space, "+
				"which would be part of its value", name))
			return
		}
		// Set marks the flag as changed, just as the command line would: further on nobody can
		// tell the two apart, except by the annotation.
		if setErr := flags.Set(f.Name, value); setErr != nil {
			err = usage(fmt.Errorf("environment variable %s: %w", name, setErr))
			return
		}
		annotate(f, fromEnvironmentMark, name)
	})
	return err
}

// fromEnvironmentMark annotates a flag that an environment variable has set.
const fromEnvironmentMark = "from environment"

// annotate remembers something about a flag.
func annotate(f *pflag.Flag, mark, value string) {
	if f.Annotations == nil {
		f.Annotations = make(map[string][]string)
	}
	f.Annotations[mark] = []string{value}
}

// variablesUsed names the environment variables that have set flags, so that
// who gave no such flag finds out where its wrong value came from.
func variablesUsed(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) {
		names = append(names, f.Annotations[fromEnvironmentMark]...)
	})
	return names
}

// refuseQuotes finds settings whose value stands in quotes. A shell takes
// quotes away; docker's --env-file and others leave them, and a directory named
// "/data" with its quotes is a new one. The value may be a secret, so it is not
// repeated.
func refuseQuotes(known map[string]bool, environment []string) error {
	for _, variable := range environment {
		name, value, _ := strings.Cut(variable, "=")
		if known[name] && len(value) > 1 && strings.ContainsAny(value[:1], `"'`) &&
			value[0] == value[len(value)-1] {
			return usage(fmt.Errorf("environment variable %s has quotes around its "+
				"value: whatever sets it, such as docker's --env-file, does not take "+
				"them away. Write it without them", name))
		}
	}
	return nil
}

// kubernetesLink matches what Kubernetes sets in every pod beside a service
// whose name begins with "pikarc".
var kubernetesLink = regexp.MustCompile(
	`^PIKARC_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$|^PIKARC_(\w+_)?PORT=(tcp|udp|sctp)://`)

// unknownSettings says of every variable that looks like a setting and is none
// what may have been meant.
func unknownSettings(known map[string]bool, environment []string) (warnings []string) {
	for _, variable := range slices.Sorted(slices.Values(environment)) {
		name, _, _ := strings.Cut(variable, "=")
		if !strings.HasPrefix(name, settingPrefix) || known[name] ||
			slices.Contains(clientSettings(), name) ||
			kubernetesLink.MatchString(name) || kubernetesLink.MatchString(variable) {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s is set, but there is no such setting%s", name,
			meantSetting(known, name)))
	}
	return warnings
}

// meantSetting guesses which setting an unknown variable was meant to be: the usual names of other
// programs, or one that is spelled alike.
func meantSetting(known map[string]bool, name string) string {
	rest := strings.TrimPrefix(name, settingPrefix)
	switch rest {
	case "PORT", "HOST", "LISTEN", "BIND", "ADDRESS":
		return didYouMean([]string{settingName("addr")})
	case "DATA", "DIR":
		return didYouMean([]string{settingName("data-dir")})
	case "DB", "DATABASE_URL", "DB_URL", "POSTGRES", "POSTGRES_URL":
		return didYouMean([]string{settingName(databaseFlag)})
	}
	var candidates []string
	// All names share the prefix, so only what follows it is compared.
	for other := range maps.Keys(known) {
		candidates = append(candidates, strings.TrimPrefix(other, settingPrefix))
	}
	close := closest(rest, candidates)
	for i := range close {
		close[i] = settingPrefix + close[i]
	}
	return didYouMean(close)
}

// setting reads a variable, or the file that its _FILE variable names, which wins.
func setting(name string) (string, error) {
	path := os.Getenv(name + "_FILE")
	if path == "" {
		return os.Getenv(name), nil
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read %s_FILE: %w", name, err)
	}
	// An empty file is a secret that was never written. Taken as unset, it would let the
	// server make a secret of its own, and start.
	if len(bytes.TrimSpace(content)) == 0 {
		return "", fmt.Errorf("%s_FILE: %s is empty", name, path)
	}
	return string(content), nil
}

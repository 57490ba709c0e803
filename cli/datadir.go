package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

const (
	defaultDataDir = "./pikarc-data"
	initHelp       = "make a new database where there is none"
)

func dataDir(cmd *cobra.Command) string {
	dir, err := cmd.Flags().GetString("data-dir")
	if err != nil {
		panic(err) // the flag is defined on the root
	}
	return dir
}

func databasePath(dir string) string { return filepath.Join(dir, "pikarc.db") }

// hasDatabase reports whether a data directory holds a database. What cannot be
// looked at may be one: opening it says what is wrong.
func hasDatabase(dir string) bool {
	_, err := os.Stat(databasePath(dir))
	return !errors.Is(err, fs.ErrNotExist)
}

func errNoDatabase(dir string) error {
	return fmt.Errorf("no database in %s: is --data-dir right?", absolute(dir))
}

// requireDatabase finds a database, or with init the place for a new one: a
// command never makes one where a mistyped directory is.
func requireDatabase(dir string, init bool) (isNew bool, err error) {
	switch {
	case hasDatabase(dir):
		return false, nil
	case init:
		return true, nil
	default:
		return false, fmt.Errorf("%w To make a new one there, add --init (serve makes its own)",
			errNoDatabase(dir))
	}
}

// absolute names a file so that nobody need guess where it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// dataDirFlag is what other commands need to find the same data.
func dataDirFlag(dir string) string {
	if dir == defaultDataDir {
		return ""
	}
	return " --data-dir " + dir
}

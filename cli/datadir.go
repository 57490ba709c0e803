package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	defaultDataDir = "./pikarc-data"
	initHelp       = "make a new database where there is none"
)

func databasePath(dir string) string { return filepath.Join(dir, "pikarc.db") }

// hasDatabase reports whether a data directory holds a database. What cannot be
// looked at may be one: opening it says what is wrong.
func hasDatabase(dir string) bool {
	_, err := os.Stat(databasePath(dir))
	return !errors.Is(err, fs.ErrNotExist)
}

// absolute names a file so that nobody need guess where it is.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

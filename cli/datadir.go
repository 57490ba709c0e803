package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	// defaultDataDir is relative, so that trying the binary out leaves everything in one place.
	defaultDataDir = "./pikarc-data"
	// initHelp explains --init, which several commands have.
	initHelp = "make a new database where there is none"
)

// databasePath is where SQLite's file is in a data directory.
func databasePath(dir string) string { return filepath.Join(dir, "pikarc.db") }

// hasDatabase reports whether a data directory holds a database. If that cannot
// be determined it reports true, and opening the database returns the error.
func hasDatabase(dir string) bool {
	_, err := os.Stat(databasePath(dir))
	return !errors.Is(err, fs.ErrNotExist)
}

// absolute makes a path absolute, for messages; on failure it returns the path unchanged.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

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

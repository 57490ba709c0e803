package dbfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Locate resolves symbolic links, so that locks and everything beside a
// database have the name of the real file, by whichever name it was asked for.
// It refuses network file systems: locks and shared memory of one machine are
// not seen by another, and two servers would lose answered runs.
func Locate(path string) (string, error) {
	real, err := resolveLinks(path)
	if err != nil {
		return "", fmt.Errorf("find the database %s: %w", path, err)
	}
	if name := networkFileSystem(filepath.Dir(real)); name != "" {
		return "", fmt.Errorf("%w: %s is on %s", ErrNetwork, filepath.Dir(real), name)
	}
	return real, nil
}

// resolveLinks follows links, also to a file that is not there yet.
func resolveLinks(path string) (string, error) {
	const most = 40 // as the kernel's
	for range most {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Abs(real)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		target, err := os.Readlink(path)
		// The file need not exist yet, but two names of it must lead to one lock.
		if err != nil { // no link: the file is missing, or its directory
			dir, err := filepath.EvalSymlinks(filepath.Dir(path))
			if errors.Is(err, fs.ErrNotExist) {
				return filepath.Abs(path)
			}
			if err != nil {
				return "", err
			}
			return filepath.Abs(filepath.Join(dir, filepath.Base(path)))
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(filepath.Dir(path), target)
		}
		path = target
	}
	return "", errors.New("too many symbolic links")
}

// Package privatefile makes files and directories that nobody but their owner
// may use: the database, its locks and copies, the secret, certificates.
//
// What root makes belongs to the owner of the directory that it is made in. A
// command run as root beside a service of another user, as in `sudo pikarc
// restore`, would otherwise leave files that the service cannot open. SQLite
// follows the same rule for the files that it makes beside a database.
package privatefile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// Ensure makes an empty file of mode 0600 unless there is a file already.
func Ensure(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(adopt(f, filepath.Dir(path)), f.Close())
}

// CreateTemp makes a new file of mode 0600, as os.CreateTemp does.
func CreateTemp(dir, pattern string) (*os.File, error) {
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return nil, err
	}
	if err := adopt(f, filepath.Dir(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}

// MkdirAll makes a directory of mode 0700, and those above it that are missing.
func MkdirAll(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := MkdirAll(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return os.MkdirAll(dir, 0o700) // which says so if it is no directory
	}
	if err != nil {
		return err
	}
	f, err := openDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(adopt(f, filepath.Dir(dir)), f.Close())
}

// adopt gives what was just made to the owner of the directory it is in. It
// asks and changes the open file, never the name: whoever owns the directory
// could have put something else there meanwhile, and root would give it away.
func adopt(f *os.File, dir string) error {
	if os.Geteuid() != 0 { // nobody else can give files away; -1 on Windows
		return nil
	}
	above, err := os.Stat(dir)
	if err != nil {
		return err
	}
	made, err := f.Stat()
	if err != nil {
		return err
	}
	uid, gid := Owner(above)
	if have, _ := Owner(made); uid == have {
		return nil
	}
	if err := f.Chown(uid, gid); err != nil {
		return fmt.Errorf("give it to the owner of %s (uid %d), as whom this command can be run "+
			"instead: %w", dir, uid, err)
	}
	return nil
}

// SyncDir makes a new or renamed entry of a directory durable. Windows cannot
// and need not.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

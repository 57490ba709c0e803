package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/storage"
)

// Backups says where and how often the database is backed up while serving.
type Backups struct {
	Dir   string // none when empty
	Every time.Duration
	Keep  int // the latest so many
}

// backupName is the layout of a scheduled backup's name: its time, in UTC. Only
// files with such a name are ever deleted.
const backupName = "pikarc-20060102T150405Z.db"

// backupDue reports whether the latest backup is due for a successor. The files
// themselves say when it was made, so that a restart neither skips nor repeats
// one. A backup from the future (the clock was wrong) is ignored.
func (u *upkeep) backupDue(now time.Time) bool {
	taken, err := scheduledBackups(u.Backups.Dir)
	if err != nil {
		return true // the backup itself reports what is wrong
	}
	for _, b := range slices.Backward(taken) {
		if !b.at.After(now) {
			return now.Sub(b.at) >= u.Backups.Every
		}
	}
	return true
}

// backup makes one and then deletes those beyond the number to keep.
func (u *upkeep) backup(ctx context.Context) error {
	began := time.Now()
	bytes, deleted, err := u.takeBackup(ctx)
	if stopped(err) {
		return err
	}
	u.metrics.Jobs.Finished(jobBackup.String(), began, deleted, err)
	data := map[string]any{}
	if err != nil {
		data["error"] = err.Error()
	}
	if tellErr := u.alert(ctx, storage.BackupFailed, err != nil, data); tellErr != nil {
		u.Log.Error("tell how a backup went", "error", tellErr.Error())
	}
	if err != nil {
		u.Log.Error("backup", "error", err.Error())
		return err
	}
	u.metrics.Jobs.SetBackupBytes(bytes)
	u.Log.Info("backed up", "dir", u.Backups.Dir, "bytes", bytes, "seconds",
		time.Since(began).Seconds(), "deleted", deleted)
	return nil
}

// takeBackup writes a backup into the directory of backups and deletes the oldest beyond those to
// keep. Unfinished files of an earlier attempt go first. It returns the backup's size and how many
// were deleted.
func (u *upkeep) takeBackup(ctx context.Context) (bytes int64, deleted int, err error) {
	if err := privatefile.MkdirAll(u.Backups.Dir); err != nil {
		return 0, 0, fmt.Errorf("make the backup directory: %w", err)
	}
	if err := removeUnfinished(u.Backups.Dir); err != nil { // which a full disk has room for
		return 0, 0, err
	}
	name := u.Now().UTC().Format(backupName)
	if bytes, err = u.store.Backup(ctx, filepath.Join(u.Backups.Dir, name)); err != nil {
		return 0, 0, err
	}
	deleted, err = pruneBackups(u.Backups.Dir, u.Backups.Keep, name)
	return bytes, deleted, err
}

// scheduled is a file that a scheduled backup has made.
type scheduled struct {
	name string
	at   time.Time
}

// scheduledBackups lists them, the oldest first.
func scheduledBackups(dir string) (all []scheduled, err error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range files { // sorted by name, and so by time
		if at, err := time.Parse(backupName, f.Name()); err == nil {
			all = append(all, scheduled{f.Name(), at})
		}
	}
	return all, nil
}

// pruneBackups deletes the oldest ones beyond the number to keep, never the one just made.
func pruneBackups(dir string, keep int, made string) (deleted int, err error) {
	taken, err := scheduledBackups(dir)
	if err != nil {
		return 0, fmt.Errorf("list the backups: %w", err)
	}
	taken = slices.DeleteFunc(taken, func(b scheduled) bool { return b.name == made })
	for _, b := range taken[:max(0, len(taken)-(keep-1))] {
		if err := os.Remove(filepath.Join(dir, b.name)); err != nil {
			return deleted, fmt.Errorf("delete an old backup: %w", err)
		}
		deleted++
	}
	return deleted, nil
}

// removeUnfinished deletes partial copies that nobody has touched for a day.
func removeUnfinished(dir string) error {
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !strings.HasPrefix(f.Name(), ".pikarc-") || !strings.HasSuffix(f.Name(), ".partial") {
			continue
		}
		info, err := f.Info()
		if err != nil || time.Since(info.ModTime()) < 24*time.Hour {
			continue // gone meanwhile, or perhaps still being written
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil {
			return fmt.Errorf("delete an unfinished backup: %w", err)
		}
	}
	return nil
}

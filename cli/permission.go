package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pikarc/server/auth/privatefile"
	"github.com/pikarc/server/storage"
)

// explainPermission says who owns a file that cannot be used, as which user this
// process runs, and the command that helps. The usual case is a directory of the
// host that is mounted into a container.
func explainPermission(err error, cmd *cobra.Command) string {
	dataDir := cmd.Flag("data-dir").Value.String()
	path := databasePath(dataDir)
	var refused *fs.PathError
	switch {
	case errors.As(err, &refused) && errors.Is(refused, fs.ErrPermission):
		path = refused.Path
	// Only where the error names no file is it guessed from the data directory.
	case cmd.Flag(databaseFlag).Value.String() != "": // PostgreSQL's files are not ours
		return ""
	case !errors.Is(err, storage.ErrReadOnly) && !errors.Is(err, storage.ErrUnavailable):
		return ""
	}
	path, info := nearest(absolute(path))
	uid, me := -1, os.Geteuid()
	if info != nil {
		uid, _ = privatefile.Owner(info)
	}
	// Then the owner is not what is wrong, and advice about it would mislead.
	if uid < 0 || me == 0 || uid == me {
		return ""
	}
	text := fmt.Sprintf("%s belongs to %s and has mode %04o; this process runs as %s.",
		path, userName(uid), info.Mode().Perm(), userName(me))
	// Commands are offered only for files of ours: chown -R elsewhere could do harm.
	if dir := absolute(dataDir); path == dir || strings.HasPrefix(path,
		dir+string(filepath.Separator)) {
		text += fmt.Sprintf("\n"+
			"To let it in, as root (for a container: on the host, on the "+
			"directory that is mounted here):\n"+
			"  chown -R %d:%d %s", me, os.Getegid(), dir)
		if uid != 0 {
			text += fmt.Sprintf("\nor run it as that user: sudo -u '#%d' pikarc ...", uid)
		}
	}
	return text
}

// nearest returns the file itself if it exists and is not ours, else the first
// existing directory above it, unless that is ours.
func nearest(path string) (string, fs.FileInfo) {
	for isFile := true; ; isFile = false {
		info, err := os.Stat(path)
		if err == nil {
			if uid, _ := privatefile.Owner(info); uid != os.Geteuid() {
				return path, info
			}
			if !isFile {
				return path, nil // its owner is not the trouble
			}
		}
		above := filepath.Dir(path)
		if above == path {
			return path, nil
		}
		path = above
	}
}

// userName returns a user's number, with the name if the machine knows it.
func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return fmt.Sprintf("uid %d", uid)
	}
	return fmt.Sprintf("%s (uid %d)", u.Username, uid)
}

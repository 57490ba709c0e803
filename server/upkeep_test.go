package server_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/server"
	"github.com/pikarc/server/storage"
	"github.com/pikarc/server/storage/dbfile"
)

// files lists a directory by name.
func (w *world) files(dir string) (names []string) {
	w.t.Helper()
	entries, err := os.ReadDir(dir)
	w.must(err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestBackupIsDueByTheAgeOfTheLatestFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "deep", "backups")
	w := newWorld(t, func(c *server.Config) { c.Backups = server.Backups{Dir: dir, Every: 24 * time.Hour, Keep: 3} })
	due := func(want bool, when string) {
		t.Helper()
		if got := w.server.BackupDue(w.clock.now()); got != want {
			t.Errorf("%s a backup is due: %v", when, got)
		}
	}
	due(true, "without a directory")
	w.must(w.server.Backup(t.Context()))
	due(false, "just after one")
	w.clock.advance(24*time.Hour - time.Second)
	due(false, "a second too early")
	w.clock.advance(time.Second)
	due(true, "after a day")
	w.clock.advance(-48 * time.Hour)
	due(true, "with nothing but a backup from the future")
	if names := w.files(dir); !slices.Equal(names, []string{"pikarc-20261123T070829Z.db"}) {
		t.Errorf("files %v", names)
	}
}

func TestBackupsBeyondTheNumberToKeepGoAndNothingElse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t, func(c *server.Config) { c.Backups = server.Backups{Dir: dir, Every: time.Hour, Keep: 3} })
	for _, name := range []string{"letter.txt", "pikarc-before-schema-4.db", "pikarc-20990101T000000Z.db", ".pikarc-new.1.partial", ".pikarc-old.1.partial"} {
		w.must(os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600))
	}
	w.must(os.Chtimes(filepath.Join(dir, ".pikarc-old.1.partial"), time.Time{}, time.Now().Add(-25*time.Hour)))
	for range 6 {
		w.must(w.server.Backup(t.Context()))
		w.clock.advance(time.Hour)
	}
	want := []string{
		".pikarc-new.1.partial", "letter.txt", "pikarc-20261123T110829Z.db", "pikarc-20261123T120829Z.db",
		"pikarc-20990101T000000Z.db", "pikarc-before-schema-4.db",
	}
	if names := w.files(dir); !slices.Equal(names, want) {
		t.Errorf("files %v, want %v", names, want)
	}
	if w.metric(`pikarc_job_runs_total{job_name="backup",outcome="success"}`) != 6 || w.metric(`pikarc_backup_bytes`) < 4096 ||
		w.metric(`pikarc_job_last_success_timestamp_seconds{job_name="backup"}`) == 0 {
		t.Error("the metrics do not tell of the backups")
	}
}

func TestBackupThatFailsIsLoggedAndCounted(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	w := newWorld(t, func(c *server.Config) {
		c.Backups = server.Backups{Dir: filepath.Join(file, "dir"), Every: time.Hour, Keep: 3}
	})
	w.must(os.WriteFile(file, nil, 0o600))
	if err := w.server.Backup(t.Context()); err == nil {
		t.Fatal("backed up below a file")
	}
	if w.metric(`pikarc_job_runs_total{job_name="backup",outcome="failure"}`) != 1 || !strings.Contains(w.logs.String(), "make the backup directory") {
		t.Errorf("nobody is told: %s", w.logs)
	}
}

// A backup is worth what a server can do with it: the keys that agents have,
// and with the same secret the sessions and the stored keys.
func TestRestoredServerAcceptsTheOldKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.account(plans.Scale)
	w.start(a, "someone")
	file := filepath.Join(t.TempDir(), "copy.db")
	_, err := w.store.Backup(t.Context(), file)
	w.must(err)
	for _, secret := range []string{testSecret, "another secret, also long enough to be taken"} {
		other := *w
		other.path = filepath.Join(t.TempDir(), "pikarc.db")
		_, err := dbfile.Restore(t.Context(), file, other.path, embed.Migrations(), false)
		w.must(err)
		other.serve(secret, storage.Options{})
		other.start(a, "someone else")
		same := secret == testSecret
		status := map[bool]int{true: 200, false: 401}[same]
		other.call("GET", "/v1/auth/me", a.token, nil).want(status)
		account, err := other.store.AccountByEmail(t.Context(), a.email)
		w.must(err)
		if shown := other.call("GET", "/v1/api-keys/", other.token(account, auth.NewSessionID()), nil).want(200).text("key"); (shown == a.key) != same {
			t.Errorf("with the secret %q the stored key shows as %q", secret, shown)
		}
	}
}

func TestVerificationIsDueOnceADayAtTheQuietHour(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.VerifyEvery = 24 * time.Hour })
	due := w.server.VerifyDue() // at 07:08
	for _, c := range []struct {
		at   string
		want bool
	}{
		{"2026-11-23T07:08:30Z", false}, {"2026-11-24T02:59:59Z", false}, {"2026-11-24T03:00:00Z", true},
		{"2026-11-24T03:01:00Z", false}, {"2026-11-25T02:59:00Z", false}, {"2026-11-28T12:00:00Z", true},
		{"2026-11-28T12:01:00Z", false}, {"2026-11-27T12:00:00Z", true}, // the clock was set back
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		w.must(err)
		if got := due(at); got != c.want {
			t.Errorf("at %s it is due: %v", c.at, got)
		}
	}
}

func TestVerificationTellsWhatItFinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(c *server.Config) { c.VerifyEvery = 24 * time.Hour })
	a := w.account(plans.Scale)
	w.start(a, "someone")
	w.must(w.server.Verify(t.Context()))
	if w.metric("pikarc_verify_differences") != 0 || w.metric(`pikarc_job_runs_total{job_name="verify",outcome="success"}`) != 1 {
		t.Error("right books are not told")
	}
	w.exec(`UPDATE workspace_days SET run_count = 5`)
	w.must(w.server.Verify(t.Context()))
	if w.metric("pikarc_verify_differences") != 1 || w.metric(`pikarc_job_last_success_timestamp_seconds{job_name="verify"}`) == 0 {
		t.Error("wrong books are not told")
	}
	for _, words := range []string{"the books are wrong", "workspace_days", "run_count 5", "run_count 1"} {
		if !strings.Contains(w.logs.String(), words) {
			t.Errorf("the log lacks %q: %s", words, w.logs)
		}
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	if err := w.server.Verify(ended); err == nil || w.metric(`pikarc_job_runs_total{job_name="verify",outcome="failure"}`) != 0 {
		t.Errorf("the end of the server: %v, or it counts as a failure", err)
	}
}

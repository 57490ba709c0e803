package auth_test

import (
	"bytes"
	"encoding/hex"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/pikarc/server/auth"
)

func TestFreshDirectoryGetsOneSecretFileForLater(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "too")
	first, err := auth.LoadSecret(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	second, err := auth.LoadSecret(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(auth.Root(first), auth.Root(second)) {
		t.Error("the second start got another secret")
	}
	wantOneSecretFile(t, dir)

	elsewhere, err := auth.LoadSecret(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(auth.Root(first), auth.Root(elsewhere)) {
		t.Error("two directories got the same secret")
	}
}

func wantOneSecretFile(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "secret.key" {
		t.Fatalf("directory holds %v, want secret.key alone", entries)
	}
	info, err := entries[0].Info()
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != fs.FileMode(0o600) {
		t.Errorf("secret.key has mode %v, want 0600", info.Mode())
	}
	content, err := os.ReadFile(filepath.Join(dir, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := hex.DecodeString(strings.TrimSuffix(string(content), "\n")); err != nil || len(raw) != 32 {
		t.Errorf("secret.key holds %d bytes that are not 32 in hex", len(content))
	}
}

func TestProcessesThatStartAtOnceAgreeOnOneSecret(t *testing.T) {
	for range 10 {
		dir, start := t.TempDir(), make(chan struct{})
		var roots [20][]byte
		var group sync.WaitGroup
		for i := range roots {
			group.Go(func() {
				<-start
				secret, err := auth.LoadSecret(dir, "")
				if err != nil {
					t.Error(err)
					return
				}
				roots[i] = auth.Root(secret)
			})
		}
		close(start)
		group.Wait()
		for i := range roots {
			if !bytes.Equal(roots[i], roots[0]) {
				t.Fatalf("starters 0 and %d have different secrets", i)
			}
		}
		wantOneSecretFile(t, dir)
	}
}

func TestSecretFromEnvironmentWinsAndWritesNothing(t *testing.T) {
	dir := t.TempDir()
	for _, text := range []string{strings.Repeat("x", 32), strings.Repeat("x", 31) + "y", strings.Repeat("€", 11)} {
		if _, err := auth.LoadSecret(dir, text); err != nil {
			t.Errorf("%d bytes: %v", len(text), err)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("directory holds %v, error %v, want nothing", entries, err)
	}
	fromFile, err := auth.LoadSecret(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(auth.Root(fromFile), auth.Root(testSecret(t))) {
		t.Error("file and environment gave the same secret")
	}
	fromEnv, err := auth.LoadSecret(dir, envSecret)
	if err != nil || !bytes.Equal(auth.Root(fromEnv), auth.Root(testSecret(t))) {
		t.Errorf("with a secret file present the environment does not win (error %v)", err)
	}
}

func TestSecretFileCanMoveIntoTheEnvironment(t *testing.T) {
	dir := t.TempDir()
	fromFile, err := auth.LoadSecret(dir, "")
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "secret.key"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{string(content), strings.TrimSpace(string(content))} {
		fromEnv, err := auth.LoadSecret(t.TempDir(), text)
		if err != nil || !bytes.Equal(auth.Root(fromFile), auth.Root(fromEnv)) {
			t.Errorf("%d bytes from the file give another secret (error %v)", len(text), err)
		}
	}
}

func TestShortEnvironmentSecretSaysHowToMakeOne(t *testing.T) {
	for _, text := range []string{"hunter2-hunter2-hunter2-hunter2", "hunter2", " \n ", "hunter2" + strings.Repeat(" ", 32)} {
		_, err := auth.LoadSecret(t.TempDir(), text)
		if err == nil {
			t.Fatalf("%q was taken", text)
		}
		for _, word := range []string{"PIKARC_SECRET", "32 bytes", "openssl rand -hex 32"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("error %q does not say %s", err, word)
			}
		}
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestSecretFileThatOthersCanReachIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret.key")
	if err := os.WriteFile(path, []byte(sampleSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, safe := range map[fs.FileMode]bool{
		0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o644: false, 0o620: false, 0o601: false, 0o610: false, 0o602: false,
	} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := auth.LoadSecret(filepath.Dir(path), "")
		switch {
		case safe && err != nil:
			t.Errorf("mode %04o: %v", mode, err)
		case !safe && (err == nil || !strings.Contains(err.Error(), "chmod 600 "+path)):
			t.Errorf("mode %04o: error %v, want one that says chmod 600 %s", mode, err, path)
		}
	}
}

func TestDamagedSecretFileIsRefusedAndKept(t *testing.T) {
	for name, content := range map[string]string{
		"empty":         "",
		"newline":       "\n",
		"short":         sampleSecret[:62] + "\n",
		"long":          sampleSecret + "00\n",
		"not hex":       sampleSecret[:63] + "g\n",
		"upper case":    strings.ToUpper(sampleSecret) + "\n",
		"two lines":     sampleSecret + "\n" + sampleSecret + "\n",
		"binary":        strings.Repeat("\x00", 64),
		"very long":     strings.Repeat("0", 1<<20),
		"inner newline": sampleSecret[:32] + "\n" + sampleSecret[32:],
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "secret.key")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := auth.LoadSecret(filepath.Dir(path), "")
			if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "64 lower-case hex digits") {
				t.Errorf("error %v, want one that names the file and what it must hold", err)
			}
			if err != nil && strings.Contains(err.Error(), sampleSecret[:16]) {
				t.Errorf("the error repeats the secret: %v", err)
			}
			if kept, readErr := os.ReadFile(path); readErr != nil || string(kept) != content {
				t.Errorf("the file was changed (error %v)", readErr)
			}
		})
	}
}

func TestSecretFileMayLackItsNewline(t *testing.T) {
	roots := map[string]bool{}
	for _, content := range []string{sampleSecret, sampleSecret + "\n", sampleSecret + "\r\n"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "secret.key"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		secret, err := auth.LoadSecret(dir, "")
		if err != nil {
			t.Fatalf("%q: %v", content[64:], err)
		}
		roots[string(auth.Root(secret))] = true
	}
	if len(roots) != 1 {
		t.Errorf("the line ending changes the secret")
	}
}

func TestUnusableDataDirectoryIsAnError(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.LoadSecret(file, ""); err == nil {
		t.Error("a file was taken for a data directory")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "secret.key"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := auth.LoadSecret(dir, ""); err == nil {
		t.Error("a directory was taken for the secret file")
	}
}

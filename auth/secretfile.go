package auth

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/pikarc/server/auth/privatefile"
)

const (
	// secretFile is the file's name in the data directory.
	secretFile      = "secret.key"
	secretFileBytes = 32 // of randomness; twice as many hex digits in the file
	minSecretBytes  = 32 // of text in PIKARC_SECRET
)

// LoadSecret returns the server secret: fromEnv (the value of PIKARC_SECRET)
// when there is one, else dataDir/secret.key, made together with dataDir when
// it does not exist. Processes that start at once on a fresh directory all get
// the same secret. Both sources are taken as text without surrounding space,
// so the file's content can move into PIKARC_SECRET and nothing changes.
func LoadSecret(dataDir, fromEnv string) (Secret, error) {
	if fromEnv != "" {
		material := strings.TrimSpace(fromEnv)
		if len(material) < minSecretBytes {
			return Secret{}, fmt.Errorf("PIKARC_SECRET is too short: it needs at least %d bytes; make one with `openssl rand -hex 32`", minSecretBytes)
		}
		return newSecret(material)
	}
	path := filepath.Join(dataDir, secretFile)
	material, err := readSecretFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		// Two processes may start at once: the first to link its file wins, and both read that one.
		if err := makeSecretFile(dataDir, path); err != nil {
			return Secret{}, fmt.Errorf("make %s: %w", path, err)
		}
		material, err = readSecretFile(path)
	}
	if err != nil {
		return Secret{}, fmt.Errorf("load server secret: %w", err)
	}
	return newSecret(material)
}

// HasSecretFile reports whether a data directory holds a server secret. What
// cannot be looked at may be one: loading it says what is wrong.
func HasSecretFile(dataDir string) bool {
	_, err := os.Stat(filepath.Join(dataDir, secretFile))
	return !errors.Is(err, fs.ErrNotExist)
}

// readSecretFile reads the file, and refuses one that others on the machine may read.
func readSecretFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	// Windows keeps access in ACLs, and its mode bits always say 0666.
	if mode := info.Mode().Perm(); mode&0o077 != 0 && runtime.GOOS != "windows" {
		return "", fmt.Errorf("%s can be read by others (mode %04o): run `chmod 600 %s`", path,
			mode, path)
	}
	content, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return "", err
	}
	text := strings.TrimSpace(string(content))
	if len(text) != 2*secretFileBytes || !isLowerHex(text) {
		return "", fmt.Errorf("%s is damaged: it must hold %d lower-case hex digits; restore it from a backup "+
			"(a new one ends all sessions, and stored API keys can no longer be shown)", path, 2*secretFileBytes)
	}
	return text, nil
}

// makeSecretFile puts a complete secret at path, unless another process did so
// first. A hard link is the one step that is both atomic and exclusive: nobody
// sees half a file, and of several writers one wins.
func makeSecretFile(dataDir, path string) error {
	if err := privatefile.MkdirAll(dataDir); err != nil {
		return err
	}
	temp, err := writeTempSecret(dataDir)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w (without hard links here, set PIKARC_SECRET instead)", err)
	}
	// The loser syncs too: it may seal with the winner's secret before the winner does.
	return privatefile.SyncDir(dataDir)
}

// writeTempSecret returns the name of a synced file (mode 0600) with a new secret.
func writeTempSecret(dir string) (name string, err error) {
	f, err := privatefile.CreateTemp(dir, "."+secretFile+".*")
	if err != nil {
		return "", err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	var random [secretFileBytes]byte
	rand.Read(random[:])
	if _, err := f.WriteString(hex.EncodeToString(random[:]) + "\n"); err != nil {
		return "", err
	}
	return f.Name(), f.Sync()
}

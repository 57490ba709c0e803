package ask

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Settings say which server is asked, and as whom.
type Settings struct {
	APIKey  string `json:"api_key"`
	BaseURL string `json:"base_url"`
}

// FromEnvironment reads PIKARC_API_KEY and PIKARC_BASE_URL, and else the file
// that Keep has written: an agent may be started where nobody has set a variable.
func FromEnvironment(getenv func(string) string) (Settings, error) {
	s := Settings{getenv("PIKARC_API_KEY"), getenv("PIKARC_BASE_URL")}
	if s.APIKey != "" {
		return s, nil
	}
	// Agents that are started from a desktop have no variables of a shell.
	file, err := settingsFile()
	if err != nil {
		return s, err
	}
	content, err := os.ReadFile(file) // #nosec G304 -- of the user's own
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the agent's settings: %w", err)
	}
	kept := Settings{}
	if err := json.Unmarshal(content, &kept); err != nil {
		return s, fmt.Errorf(
			"%s is not as it was written: make it again by installing the hook",
			file,
		)
	}
	if s.BaseURL != "" { // the key is that of another server, maybe
		kept.BaseURL = s.BaseURL
	}
	return kept, nil
}

// Keep writes settings to a file that only its owner can read, and returns its name.
func Keep(s Settings) (file string, err error) {
	if file, err = settingsFile(); err != nil {
		return "", err
	}
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return "", fmt.Errorf("write the agent's settings: %w", err)
	}
	return file, WriteFile(file, append(content, '\n'))
}

// settingsFile is where `pikarc hook` keeps the server's address and key for one user of the
// machine.
func settingsFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the directory of the user's settings: %w", err)
	}
	return filepath.Join(dir, "pikarc", "agent.json"), nil
}

// StateDir is where a user's agents keep what must outlive a process, as the
// client libraries have it.
func StateDir(getenv func(string) string) (string, error) {
	if dir := getenv("PIKARC_JOURNAL_DIR"); dir != "" {
		return dir, nil
	}
	for _, name := range []string{"XDG_STATE_HOME", "LOCALAPPDATA"} {
		if dir := getenv(name); dir != "" {
			return filepath.Join(dir, "pikarc"), nil
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("find the user's home directory: %w", err)
	}
	return filepath.Join(home, ".local", "state", "pikarc"), nil
}

// WriteFile replaces a file, whole or not at all. Only its owner can read a new one.
func WriteFile(name string, content []byte) (err error) {
	dir := filepath.Dir(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of %s: %w", filepath.Base(name), err)
	}
	temp, err := os.CreateTemp(dir, ".pikarc-")
	if err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	if _, err = temp.Write(content); err != nil {
		return errors.Join(err, temp.Close())
	}
	if err = temp.Close(); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(name), err)
	}
	if info, statErr := os.Stat(name); statErr == nil { // as others may read it already
		if err = os.Chmod(temp.Name(), info.Mode().Perm()); err != nil {
			return fmt.Errorf("write %s: %w", filepath.Base(name), err)
		}
	}
	if err = os.Rename(temp.Name(), name); err != nil {
		return fmt.Errorf("replace %s: %w", filepath.Base(name), err)
	}
	return nil
}

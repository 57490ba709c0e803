package pikarc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// entry is a report that could not be delivered.
type entry struct {
	Kind    string          `json:"kind"` // request, step, end
	Method  string          `json:"method,omitempty"`
	Path    string          `json:"path,omitempty"`
	Body    json.RawMessage `json:"body,omitempty"`
	RunID   string          `json:"run_id,omitempty"`
	Start   json.RawMessage `json:"start,omitempty"` // the request that starts the run, which has no id yet
	Key     string          `json:"key,omitempty"`
	Step    json.RawMessage `json:"step,omitempty"`
	StepKey string          `json:"step_key,omitempty"`
	Report  map[string]any  `json:"report,omitempty"`
	Status  string          `json:"status,omitempty"`
	At      time.Time       `json:"at"`
}

const maxJournal = 64 << 20

// journal keeps reports in files, one a process, named by its id so that the files
// of processes that are gone can be told. A report is appended and synced before
// the call that it is of returns. The API key is never written.
type journal struct {
	dir, owner string

	mu   sync.Mutex
	path string
	left *bool // whether there may be something to deliver; nil: not looked yet
}

func newJournal(dir, owner string) *journal { return &journal{dir: dir, owner: owner} }

// append keeps reports, and reports whether that worked. What is lost is in the
// log, which is all that can be done then.
func (j *journal) append(entries ...entry) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(entries); err != nil {
		slog.Error("pikarc: reports could be neither delivered nor kept: they are lost", "count", len(entries), "err", err)
		return false
	}
	yes := true
	j.left = &yes
	return true
}

func (j *journal) write(entries []entry) (err error) {
	if j.path == "" {
		if err := os.MkdirAll(j.dir, 0o700); err != nil {
			return err
		}
		j.path = filepath.Join(j.dir, fmt.Sprintf("%d-%s-%s.jsonl", os.Getpid(), strings.ToLower(newKey()[:12]), j.owner))
	}
	f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closed := f.Close(); err == nil {
			err = closed
		}
	}()
	var lines []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if j.size()+int64(len(lines)) > maxJournal {
		return fmt.Errorf("the journal in %s is full (%d MiB)", j.dir, maxJournal>>20)
	}
	if _, err := f.Write(lines); err != nil { // half a line would spoil the next one too
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return f.Sync()
}

func (j *journal) mayHold() bool {
	j.mu.Lock()
	known := j.left
	j.mu.Unlock()
	if known == nil {
		some := j.length() > 0
		known = &some
		j.mu.Lock()
		j.left = known
		j.mu.Unlock()
	}
	return *known
}

// drain hands over what waits, a file at a time; deliver returns what is still to be kept.
func (j *journal) drain(deliver func([]entry) []entry) {
	none := false
	j.mu.Lock()
	j.left = &none
	j.mu.Unlock()
	for _, path := range j.files() {
		taken, ok := j.take(path)
		if !ok {
			continue
		}
		kept := deliver(read(taken))
		if len(kept) == 0 || j.append(kept...) {
			os.Remove(taken)
		}
		if len(kept) > 0 {
			return
		}
	}
}

// take renames a file: whoever does has it, and its id is the name's last part from
// then on. This process, if the file is its own, goes on in a new one.
func (j *journal) take(path string) (taken string, ok bool) {
	name, holder, isTaken := strings.Cut(filepath.Base(path), ".jsonl.")
	if !isTaken {
		holder, _, _ = strings.Cut(name, "-")
	}
	pid, err := strconv.Atoi(holder)
	if err != nil || pid == os.Getpid() && isTaken || pid != os.Getpid() && isAlive(pid) {
		return "", false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if path == j.path {
		j.path = ""
	}
	if isTaken { // by a process that has died in the middle of it
		path = strings.TrimSuffix(path, "."+holder)
		taken = fmt.Sprintf("%s.%d", path, os.Getpid())
		return taken, os.Rename(path+"."+holder, taken) == nil
	}
	taken = fmt.Sprintf("%s.%d", path, os.Getpid())
	return taken, os.Rename(path, taken) == nil
}

func (j *journal) length() (n int) {
	for _, path := range j.files() {
		n += len(read(path))
	}
	return n
}

func (j *journal) files() []string {
	paths, _ := filepath.Glob(filepath.Join(j.dir, "*-"+j.owner+".jsonl*")) // the pattern is ours
	return paths
}

func (j *journal) size() (n int64) {
	for _, path := range j.files() {
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}

// read reads a file's reports. A line that a crash has cut short is left out.
func read(path string) (entries []entry) {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var e entry
		if json.Unmarshal(line, &e) == nil {
			entries = append(entries, e)
		}
		if err != nil {
			return entries
		}
	}
}

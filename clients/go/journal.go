package pikarc

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// entry is a report that could not be delivered.
type entry struct {
	Kind    string             `json:"kind"` // request, step, end
	Method  string             `json:"method,omitempty"`
	Path    string             `json:"path,omitempty"`
	Body    json.RawMessage    `json:"body,omitempty"`
	RunID   string             `json:"run_id,omitempty"`
	Start   json.RawMessage    `json:"start,omitempty"` // starts a run that has no id yet
	Key     string             `json:"key,omitempty"`
	Step    json.RawMessage    `json:"step,omitempty"`
	StepKey string             `json:"step_key,omitempty"`
	Report  *updateStepRequest `json:"report,omitempty"`
	Status  string             `json:"status,omitempty"`
	At      time.Time          `json:"at"`
}

const (
	// maxJournal bounds all files of the journal together, in bytes. A full journal takes no more
	// reports.
	maxJournal   = 64 << 20
	scanInterval = 30 * time.Second // between scans for what other processes have left
)

// journal keeps undelivered reports in files. Whoever writes or delivers a file locks it, so the
// process that wrote a report need not be alive any more. A report is appended and synced before
// the call that made it returns. The API key is never written. Clients in other languages have
// files in a format of their own.
type journal struct {
	dir, owner string
	maxBytes   int64 // of all its files together
	now        func() time.Time

	mu       sync.Mutex
	path     string    // the file this process writes to; "" for a new one
	pending  bool      // whether it has kept something that is not delivered
	lastScan time.Time // when the directory was last looked at
}

// newJournal returns a journal in dir, whose files carry the name of the owner.
func newJournal(dir, owner string) *journal {
	return &journal{dir: dir, owner: owner, maxBytes: maxJournal, now: time.Now}
}

// append keeps reports, and reports whether it could. Reports that are lost are logged; nothing
// else can be done.
func (j *journal) append(entries ...entry) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.write(entries); err != nil {
		slog.Error("pikarc: reports could be neither delivered nor kept: they are lost", "count", len(entries), "err", err)
		return false
	}
	j.pending = true
	return true
}

// write appends entries in one write, so that a crash cuts off at most the last line.
func (j *journal) write(entries []entry) (err error) {
	var lines []byte
	for _, e := range entries {
		line, err := json.Marshal(e)
		if err != nil {
			return err
		}
		lines = append(append(lines, line...), '\n')
	}
	f, err := j.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if j.size()+int64(len(lines)) > j.maxBytes {
		return fmt.Errorf("the journal in %s is full (%d bytes)", j.dir, j.maxBytes)
	}
	if _, err := f.Write(lines); err != nil { // half a line would spoil the next one too
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return f.Sync()
}

// open opens and locks the file that this process writes to. It begins a new file if another
// process is delivering, or has delivered, the previous one.
func (j *journal) open() (*os.File, error) {
	if err := os.MkdirAll(j.dir, 0o700); err != nil {
		return nil, err
	}
	for {
		if j.path == "" {
			j.path = filepath.Join(j.dir, strings.ToLower(newKey()[:16])+j.suffix())
		}
		f, err := os.OpenFile(j.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if lock(f) && isSameFile(f, j.path) {
			return f, nil
		}
		f.Close()
		j.path = ""
	}
}

// isSameFile reports whether an open file is still the one at this path.
func isSameFile(f *os.File, name string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(name)
	return err == nil && os.SameFile(open, there)
}

// maybePending reports whether there may be something to deliver. It rarely looks at the disk.
func (j *journal) maybePending() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.pending {
		return true
	}
	if now := j.now(); j.lastScan.IsZero() || now.Sub(j.lastScan) >= scanInterval {
		j.lastScan = now
		return j.size() > 0
	}
	return false
}

// drain passes the kept reports to deliver, a file at a time. deliver returns those to keep.
func (j *journal) drain(deliver func([]entry) []entry) {
	j.mu.Lock()
	j.pending = false
	j.mu.Unlock()
	for _, path := range j.files() {
		if !j.drainFile(path, deliver) {
			return
		}
	}
}

// drainFile delivers one file, unless another process is doing so, and reports whether to continue
// with the next.
func (j *journal) drainFile(path string, deliver func([]entry) []entry) bool {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return true
	}
	defer f.Close()
	if !lock(f) || !isSameFile(f, path) {
		return true
	}
	kept := deliver(read(f))
	if len(kept) == 0 || j.append(kept...) {
		if os.Remove(path) != nil { // Windows does not while it is open
			_ = f.Truncate(0)
		}
	}
	return len(kept) == 0
}

// length counts the kept reports.
func (j *journal) length() (n int) {
	for _, path := range j.files() {
		if f, err := os.Open(path); err == nil {
			n += len(read(f))
			f.Close()
		}
	}
	return n
}

// suffix ends the names of this client's own files.
func (j *journal) suffix() string { return "-" + j.owner + ".go.jsonl" }

// files lists the owner's files, those of other processes too.
func (j *journal) files() (paths []string) {
	entries, _ := os.ReadDir(j.dir) // there may be none yet
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), j.suffix()) {
			paths = append(paths, filepath.Join(j.dir, entry.Name()))
		}
	}
	return paths
}

// size is that of all files together, in bytes.
func (j *journal) size() (n int64) {
	for _, path := range j.files() {
		if info, err := os.Stat(path); err == nil {
			n += info.Size()
		}
	}
	return n
}

// read reads a file's reports. It skips a line that a crash cut short.
func read(f io.Reader) (entries []entry) {
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

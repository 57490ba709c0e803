package server

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/server/request"
	"github.com/pikarc/server/server/wire"
	"github.com/pikarc/server/storage"
)

const (
	// maxSearchText is the length of a text to search for.
	maxSearchText = 200
	maxChoices    = 10 // of models, tools or tags
	// maxName is the length of a name of a model or a tool.
	maxName    = 255
	maxTagText = 141 // a key, a colon and a value
	// maxMinutes bounds a chart by minutes to a week.
	maxMinutes = 7 * 24 * 60
	// maxBuckets bounds the points of a chart.
	maxBuckets = 1000
)

// runFilter reads which runs are asked for.
func runFilter(q *request.Query) storage.RunFilter {
	denied := q.Bool("denied")
	f := storage.RunFilter{
		Status: storage.ParseRunStatus(q.Literal("status", "RUNNING", "COMPLETED", "FAILED",
			"BLOCKED")),
		UserID:     q.String("user_id", maxUserID),
		UserPrefix: q.String("user_prefix", maxUserID),
		Key:        q.UUID("key"),
		Denied:     denied != nil && *denied,
		Reason:     guard.ParseReason(q.Literal("reason", guard.Reasons()...)),
		Since:      q.OptionalTime("since"),
		Until:      q.OptionalTime("until"),

		Text:        strings.TrimSpace(q.String("q", maxSearchText)),
		Models:      q.Strings("model", maxChoices, maxName),
		Tools:       q.Strings("tool", maxChoices, maxName),
		MinCost:     q.Money("min_cost_usd"),
		MinDuration: time.Duration(q.Int("min_duration_ms", 0, 0, 1e12)) * time.Millisecond,
	}
	for _, text := range q.Strings("tag", maxChoices, maxTagText) {
		key, value, found := strings.Cut(text, ":")
		if !found || key == "" {
			q.Refuse("tag", text, "write it as key:value, for example agent:billing")
		}
		f.Tags = append(f.Tags, storage.Tag{Key: key, Value: value})
	}
	return f
}

// runOrder parses how to sort; the zero value, the newest first, for others.
func runOrder(word string) storage.RunOrder {
	return map[string]storage.RunOrder{
		"oldest": storage.OldestFirst, "cost": storage.CostliestFirst, "duration": storage.LongestFirst,
		"steps": storage.MostStepsFirst, "tokens": storage.MostTokensFirst,
	}[word]
}

// runSumsJSON counts and sums up the runs that match a filter.
type runSumsJSON struct {
	Runs           int64       `json:"run_count"`
	DeniedRuns     int64       `json:"denied_run_count"`
	Denials        int64       `json:"denial_count"`
	Spend          plans.Money `json:"total_usd"`
	UnpricedTokens int64       `json:"unpriced_tokens"`
	Running        int64       `json:"running_count"`
	Completed      int64       `json:"completed_count"`
	Failed         int64       `json:"failed_count"`
	Blocked        int64       `json:"blocked_count"`
}

// runBucketJSON is one point of the chart above the list of runs.
type runBucketJSON struct {
	Since wire.Time `json:"since"`
	runSumsJSON
}

// readRunTotals adds up what a list with the same filter shows.
func (s *Server) readRunTotals(c *call) error {
	q := request.ReadQuery(c.r)
	f := runFilter(q)
	by := storage.RunPieces{
		Length: time.Duration(q.Int("bucket_minutes", 0, 1, maxMinutes)) * time.Minute,
		Most:   q.Int("buckets", 0, 1, maxBuckets),
	}
	if by.Length > 0 || by.Most > 0 {
		w, err := s.store.Workspace(c.ctx(), c.who.workspace)
		if err != nil {
			return err
		}
		if by.Zone, err = time.LoadLocation(w.Timezone); err != nil {
			return err
		}
	}
	if by.Length > 0 {
		s.refuseBuckets(q, f, by)
	}
	if err := q.Err(); err != nil {
		return err
	}
	t, err := s.store.RunTotals(c.ctx(), c.who.workspace, f, by)
	if err != nil {
		return err
	}
	c.json(http.StatusOK, struct {
		runSumsJSON
		AtLeast  bool            `json:"at_least"`
		Indexing bool            `json:"indexing"`
		Minutes  wire.Limit      `json:"bucket_minutes"`
		Since    wire.Time       `json:"since"`
		Until    wire.Time       `json:"until"`
		ByTime   []runBucketJSON `json:"by_time"`
	}{
		runSumsJSON(t.RunSums), t.AtLeast, t.Indexing,
		wire.Limit(t.Piece / time.Minute), wire.Time(t.Since), wire.Time(t.Until),
		wire.Map(t.ByTime, func(b storage.RunBucket) runBucketJSON {
			return runBucketJSON{wire.Time(b.Since), runSumsJSON(b.RunSums)}
		}),
	})
	return nil
}

// refuseBuckets adds a problem to a chart by minutes of which it is not said
// where it begins, or that has too many points.
func (s *Server) refuseBuckets(q *request.Query, f storage.RunFilter, by storage.RunPieces) {
	end := f.Until
	if end.IsZero() || end.After(s.Now()) {
		end = s.Now()
	}
	switch {
	case by.Most > 0:
		q.Refuse("buckets", q.String("buckets", maxTagText), "goes without bucket_minutes")
	case f.Since.IsZero() || policies.NewPieces(by.Length, by.Zone, f.Since, end).Count(f.Since, end) > maxBuckets:
		q.Refuse("bucket_minutes", q.String("bucket_minutes", maxTagText),
			"needs since, and makes 1000 pieces at most")
	}
}

// readRunChoices answers GET /v1/run-filters: what runs can be filtered by.
func (s *Server) readRunChoices(c *call) error {
	choices, err := s.store.RunChoices(c.ctx(), c.who.workspace)
	same := func(text string) string { return text }
	return c.ok(map[string]any{
		"tag_keys": wire.Map(choices.TagKeys, same), "tools": wire.Map(choices.Tools, same),
	}, err)
}

// Exports read for long: a few at once, and one of a workspace, so that lists
// and other tenants have readers left.
const (
	maxExports    = 2
	exportTimeout = 10 * time.Minute
	exportChunk   = 32 << 10 // bytes between two looks at whether somebody reads
)

// exports are those under way.
type exports struct {
	mu sync.Mutex
	of map[storage.WorkspaceKey]bool
}

// begin counts an export, until end is called.
func (e *exports) begin(ws storage.WorkspaceKey) (end func(), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.of[ws]:
		return nil, retryLater(http.StatusTooManyRequests,
			"An export of this workspace is under way. Try again when it has ended.", "5")
	case len(e.of) >= maxExports:
		return nil, retryLater(http.StatusServiceUnavailable,
			"The server makes as many exports at once as it may. Try again in some seconds.", "5")
	}
	if e.of == nil {
		e.of = make(map[storage.WorkspaceKey]bool)
	}
	e.of[ws] = true
	return func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.of, ws)
	}, nil
}

// runWriter writes runs in a format of exports.
type runWriter struct {
	contentType []string
	head        func(io.Writer) error
	row         func(io.Writer, storage.Run) error
}

// runWriters are the formats of an export: the content type, the beginning, and a run.
func runWriters() map[string]runWriter {
	return map[string]runWriter{
		"csv": {
			[]string{"text/csv; charset=utf-8"},
			func(w io.Writer) error { return writeCSV(w, csvColumns()) },
			func(w io.Writer, r storage.Run) error { return writeCSV(w, csvRow(r)) },
		},
		"jsonl": {
			[]string{"application/jsonl"},
			func(io.Writer) error { return nil },
			func(w io.Writer, r storage.Run) error {
				line, err := wire.Encode(wire.RunOf(r))
				if err == nil {
					_, err = w.Write(append(line, '\n'))
				}
				return err
			},
		},
	}
}

// exportRuns streams all runs that a filter finds. An answer that cannot be
// finished is cut off, so that nobody takes a part for the whole.
func (s *Server) exportRuns(c *call) error {
	q := request.ReadQuery(c.r)
	f := runFilter(q)
	format := q.RequiredLiteral("format", "csv", "jsonl")
	if err := q.Err(); err != nil {
		return err
	}
	end, err := s.exports.begin(c.who.workspace)
	if err != nil {
		return err
	}
	defer end()
	ctx, cancel := context.WithTimeout(c.ctx(), exportTimeout)
	defer cancel()
	to := runWriters()[format]
	h := c.w.Header()
	h["Content-Type"] = to.contentType
	h.Set("Content-Disposition", fmt.Sprintf(`attachment; filename="pikarc-runs-%s.%s"`,
		s.Now().UTC().Format(time.DateOnly), format))
	out := &chunkWriter{c: c, conn: http.NewResponseController(c.w)}
	if c.r.Method == http.MethodHead {
		return out.flush()
	}
	if err := to.head(out); err != nil {
		return err
	}
	err = s.store.ExportRuns(ctx, c.who.workspace, f, func(r storage.Run) error {
		return to.row(out, r)
	})
	if err == nil {
		err = out.flush()
	}
	if err != nil && c.status != 0 {
		c.cutOff = true
		if !c.isGone(err) {
			s.Log.Warn("an export was cut off", "request_id", c.id, "error", err.Error())
		}
		return nil
	}
	return err
}

// chunkWriter collects what is written and sends it in chunks, each of which must be
// taken in the time that an answer may take.
type chunkWriter struct {
	c    *call
	conn *http.ResponseController
	b    []byte
}

// Write gathers rows, so that an export is not sent row by row.
func (p *chunkWriter) Write(b []byte) (int, error) {
	p.b = append(p.b, b...)
	if len(p.b) < exportChunk {
		return len(b), nil
	}
	return len(b), p.flush()
}

// chunkTimeout is how long a reader may take for a chunk.
const chunkTimeout = 30 * time.Second

// flush sends what was gathered. Each chunk has a deadline of its own: an export may take as long
// as it makes progress.
func (p *chunkWriter) flush() error {
	err := p.conn.SetWriteDeadline(time.Now().Add(chunkTimeout))
	if err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if p.c.status == 0 {
		p.c.status = http.StatusOK
		p.c.w.WriteHeader(http.StatusOK)
	}
	n, err := p.c.w.Write(p.b)
	p.c.written += n
	p.b = p.b[:0]
	return err
}

// csvColumns are the columns of an export, in the order of csvRow.
func csvColumns() []string {
	return []string{
		"id", "title", "user_id", "status", "deny_reason", "started_at", "ended_at", "ended_reason", "duration_ms",
		"step_count", "blocked_step_count", "prompt_tokens", "completion_tokens", "total_usd", "unpriced_tokens",
		"calls_without_usage", "last_call_at", "agent",
	}
}

// csvRow writes a run; unknown values are empty.
func csvRow(run storage.Run) []string {
	r := wire.RunOf(run)
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	at := func(t wire.Time) string {
		if time.Time(t).IsZero() {
			return ""
		}
		return time.Time(t).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	duration := ""
	if r.DurationMillis != nil {
		duration = number(*r.DurationMillis)
	}
	return []string{
		r.ID.String(), inert(string(r.Title)), inert(r.UserID), r.Status, string(r.DenyReason),
		at(r.StartedAt), at(r.EndedAt), string(r.EndedReason), duration,
		number(r.StepCount), number(r.BlockedStepCount), number(r.PromptTokens), number(r.CompletionTokens),
		r.Total.String(), number(r.Unpriced), number(r.WithoutUsage), at(r.LastCallAt), inert(string(r.Agent)),
	}
}

// inert has a spreadsheet take a text as a text: what would begin a formula
// gets an apostrophe in front.
func inert(text string) string {
	first, _ := utf8.DecodeRuneInString(strings.TrimLeft(text, " \u00a0\ufeff"))
	if strings.ContainsRune("=+-@\t\r\n＝＋－＠", first) && text != "" {
		return "'" + text
	}
	return text
}

// writeCSV writes a row as RFC 4180 has it.
func writeCSV(w io.Writer, row []string) error {
	out := csv.NewWriter(w)
	out.UseCRLF = true // RFC 4180
	if err := out.Write(row); err != nil {
		return err
	}
	out.Flush()
	return out.Error()
}

package storage

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage/dbfile"
	"github.com/pikarc/server/storage/postgres"
	"github.com/pikarc/server/storage/sqlite"
)

// millisPerDay converts between times and days; a UTC day always has this length here.
const millisPerDay = 24 * 60 * 60 * 1000

// dayOf numbers the UTC day of an instant, from 1970-01-01.
func dayOf(t time.Time) int64 { return floorDiv(t.UnixMilli(), millisPerDay) }

// localDays is what is added to the number of a date of a workspace's own zone, so that rows by UTC
// day and rows by its dates lie in the same tables. See docs/adr/0075.
const localDays = 1_000_000

// dateIn numbers the date that an instant has in a zone, from 1970-01-01.
func dateIn(t time.Time, zone *time.Location) int64 {
	_, offset := t.In(zone).Zone()
	return floorDiv(t.UnixMilli()+int64(offset)*1000, millisPerDay)
}

// firstOfMonth numbers the first day of an instant's UTC month.
func firstOfMonth(t time.Time) int64 {
	y, m, _ := t.UTC().Date()
	return dayOf(time.Date(y, m, 1, 0, 0, 0, 0, time.UTC))
}

// dayStart is the first instant of a numbered day.
func dayStart(day int64) time.Time { return time.UnixMilli(day * millisPerDay).UTC() }

// floorDiv rounds down, also below zero: a time before 1970 belongs to the day before.
func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// newID makes a UUIDv7 of the transaction's time: 48 bits of milliseconds, 12 bits of the fraction
// of the millisecond, the rest random. So ids made by one clock sort by time.
func newID(now time.Time) uuid.UUID {
	id := idFloor(now)
	fraction := uint16(now.Nanosecond() % int(time.Millisecond) * 4096 / int(time.Millisecond))
	binary.BigEndian.PutUint16(id[6:8], 0x7000|fraction)
	binary.BigEndian.PutUint64(id[8:], rand.Uint64()>>2|1<<63) // variant 10
	return id
}

// idFloor is the smallest id of t's millisecond: not above any id made in it.
func idFloor(t time.Time) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:8], uint64(max(0, t.UnixMilli()))<<16)
	return id
}

// daysAgo is below the ids of what is younger.
func daysAgo(tx *Tx, days int64) uuid.UUID { return idFloor(tx.now.AddDate(0, 0, -int(days))) }

// idMillis is the millisecond that an id begins with.
func idMillis(id uuid.UUID) int64 { return int64(binary.BigEndian.Uint64(id[:8]) >> 16) }

// idCeiling is the largest id: where a newest-first list begins.
func idCeiling() (id uuid.UUID) {
	for i := range id {
		id[i] = 0xff
	}
	return id
}

// timeOf returns the zero time for NULL.
func timeOf(millis sql.NullInt64) time.Time {
	if !millis.Valid {
		return time.Time{}
	}
	return time.UnixMilli(millis.Int64).UTC()
}

// nullMillis stores the zero time as NULL.
func nullMillis(t time.Time) sql.NullInt64 {
	return sql.NullInt64{Int64: t.UnixMilli(), Valid: !t.IsZero()}
}

// nullInt returns NULL for nil.
func nullInt(p *int64) sql.NullInt64 {
	if p == nil {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: *p, Valid: true}
}

// nullZero stores 0 as NULL.
func nullZero(n int64) sql.NullInt64 { return sql.NullInt64{Int64: n, Valid: n != 0} }

// nullJSON stores nothing as NULL, and JSON as the text it is.
func nullJSON(b []byte) sql.NullString { return sql.NullString{String: string(b), Valid: b != nil} }

// nullString stores the empty text as NULL.
func nullString(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

// jsonOf returns nil for NULL, and otherwise the JSON as it is stored.
func jsonOf(s sql.NullString) []byte {
	if !s.Valid {
		return nil
	}
	return []byte(s.String)
}

// stringPtr returns nil for NULL.
func stringPtr(s sql.NullString) *string {
	if !s.Valid {
		return nil
	}
	return &s.String
}

// int64Ptr returns nil for NULL.
func int64Ptr[T ~int64](n sql.NullInt64) *T {
	if !n.Valid {
		return nil
	}
	return new(T(n.Int64))
}

// budgetOf reads a budget: NULL is no budget, which is not a budget of 0.
func budgetOf(nanos sql.NullInt64) plans.Budget {
	return plans.Budget{Limit: plans.Money(nanos.Int64), Set: nanos.Valid}
}

// nullBudget is the inverse of budgetOf.
func nullBudget(b plans.Budget) sql.NullInt64 {
	return sql.NullInt64{Int64: int64(b.Limit), Valid: b.Set}
}

// boolInt returns 1 for true: STRICT tables have no booleans.
func boolInt(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// cursorKind is the list that a cursor belongs to, so that a cursor of another list is refused.
type cursorKind byte

const (
	// The values are in cursors that clients hold: never renumber.
	listRuns  cursorKind = 1
	listSteps cursorKind = 2
	listUsers cursorKind = 3
	// listUsersBySpend is another order, so its cursors fit no other.
	listUsersBySpend cursorKind = 4
	listAudit        cursorKind = 5
	listRunsByCall   cursorKind = 6
	listKeys         cursorKind = 7
	listReprice      cursorKind = 8
	listRunSearch    cursorKind = 9
	listUsersByName  cursorKind = 12
	listDeliveries   cursorKind = 20
	listReviews      cursorKind = 10
	listGrantUses    cursorKind = 11
)

// cursorSumSize is the length of a cursor's checksum, in bytes.
const cursorSumSize = 4

// cursor is opaque to callers. It holds the kind of list, its owner (the workspace, or the run
// whose steps are listed), the key of the last row, and a short checksum to catch typing mistakes.
// It is not secret: whatever a cursor says, queries stay in the workspace.
func cursor(l cursorKind, owner int64, key []byte) string {
	raw := binary.BigEndian.AppendUint64([]byte{byte(l)}, uint64(owner))
	raw = append(raw, key...)
	sum := sha256.Sum256(raw)
	return base64.RawURLEncoding.EncodeToString(append(raw, sum[:cursorSumSize]...))
}

// parseCursor returns the key inside a cursor, which must have the given size:
// ErrBadCursor for anything that cursor did not make for this list and owner.
func parseCursor(l cursorKind, owner int64, text string, size int) ([]byte, error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	const head = 1 + 8
	if err != nil || len(raw) != head+size+cursorSumSize {
		return nil, ErrBadCursor
	}
	key := raw[head : head+size]
	if cursor(l, owner, key) != text {
		return nil, ErrBadCursor
	}
	return key, nil
}

// Errors that a caller can act on, together with those of packages sqlite and dbfile. Any other
// error is a bug.
var (
	// ErrNotFound: no such row in the caller's workspace.
	ErrNotFound = errors.New("not found")
	// ErrConflict: a unique name is taken.
	ErrConflict = errors.New("already exists")
	// ErrBusy: nothing was written; try again.
	ErrBusy          = errors.New("the write queue is full")
	ErrClosed        = sqlite.ErrClosed
	ErrUnavailable   = sqlite.ErrUnavailable
	ErrSchemaOld     = dbfile.ErrSchemaOld
	ErrSchemaNewer   = dbfile.ErrSchemaNewer
	ErrAccountExists = errors.New("there is an account already")
	// ErrBadCursor: of another list, another workspace, or mistyped.
	ErrBadCursor = errors.New("not a cursor of this list")
	// ErrKeyReused: a replay must repeat the body, byte for byte.
	ErrKeyReused = errors.New("the idempotency key was used with another body")
	// ErrStepBlocked: what was denied cannot have used anything.
	ErrStepBlocked = errors.New("a blocked step cannot be updated")
	// Found by the writer, after the server has accepted the key from its cache.
	ErrKeyRevoked    = errors.New("the API key is no longer active")
	ErrKeyExpired    = errors.New("the API key has expired")
	ErrTooManyKeys   = errors.New("the workspace has too many active API keys")
	ErrTooManyViews  = errors.New("the workspace has too many saved views")
	ErrOutdated      = errors.New("it was changed meanwhile: read it again")
	ErrBadPassword   = errors.New("the password has changed meanwhile")
	ErrCorrupt       = dbfile.ErrCorrupt
	ErrNoSpace       = dbfile.ErrNoSpace
	ErrReadOnly      = dbfile.ErrReadOnly
	errJobPanicked   = errors.New("panic in a write")
	errBatchRollback = errors.New("the batch was rolled back")
)

// ErrNoBackup says that a database is not backed up by this binary.
var ErrNoBackup = errors.New("a PostgreSQL database is backed up and restored by PostgreSQL's own tools: pg_dump, pg_basebackup, or pgBackRest")

// errDamaged is ErrCorrupt with what to do about a damaged PostgreSQL database.
var errDamaged = fmt.Errorf("%w: stop all nodes, and restore the latest backup with PostgreSQL's own tools (see docs/ops/cluster.md)", ErrCorrupt)

// ErrUnknownOutcome says that nobody could say in time whether a batch was committed.
var ErrUnknownOutcome = postgres.ErrUnknownOutcome

// ErrOtherSecret says that what one node has sealed or signed, this one could not
// open or believe.
var ErrOtherSecret = errors.New("the server secret is not the one with which this database is served")

// EndedError says that a run has already ended in another way than asked.
type EndedError struct{ Status RunStatus }

// Error is also the text that the API answers.
func (e *EndedError) Error() string {
	return fmt.Sprintf("Run has already ended as %s", e.Status)
}

// missingRow is the error for a row that another row refers to. It is not ErrNotFound, because a
// caller would take that for an answer.
func missingRow(row string) error {
	return fmt.Errorf("%s is missing: %w", row, ErrCorrupt)
}

// ignoreNotFound drops ErrNotFound, for look-ups where a missing row is a valid answer.
func ignoreNotFound(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// placeholders are those of n arguments that follow some.
func placeholders(after, n int) string {
	names := make([]string, n)
	for i := range names {
		names[i] = "$" + strconv.Itoa(after+i+1)
	}
	return "(" + strings.Join(names, ", ") + ")"
}

// UsageSums are what was used. What the rollup of the group does not keep is 0.
type UsageSums struct {
	Spend                          plans.Money
	PromptTokens, CompletionTokens int64
	Runs                           int64 // allowed
	BlockedRuns                    int64
}

// add adds up sums of different rows.
func (s *UsageSums) add(o UsageSums) {
	s.Spend += o.Spend
	s.PromptTokens += o.PromptTokens
	s.CompletionTokens += o.CompletionTokens
	s.Runs += o.Runs
	s.BlockedRuns += o.BlockedRuns
}

// subtract takes sums back.
func (s *UsageSums) subtract(o UsageSums) {
	s.add(UsageSums{-o.Spend, -o.PromptTokens, -o.CompletionTokens, -o.Runs, -o.BlockedRuns})
}

// usageSource is a rollup of parts of a workspace's days.
type usageSource struct {
	table, id string
	columns   [5]string // in the order of UsageSums; 0 where it has none
	where     string    // beside the workspace and the days, with a place for the key's parameter
	key       []any     // a tag's
	names     string    // selects ids with their names; "" where the id is the name
	prefix    string    // of the names, not shown
}

// condition is where with the number of the key's parameter.
func (s usageSource) condition(parameter int) string {
	if s.key == nil {
		return s.where
	}
	return fmt.Sprintf(s.where, parameter)
}

func usageSourceOf(group UsageGroup) (s usageSource, err error) {
	key, isTag := strings.CutPrefix(string(group), tagGroup)
	switch {
	case isTag:
		s = usageSource{table: "tag_days", id: "value", where: " AND d.key = $%d", key: []any{key}}
	case group == ByModel:
		s = usageSource{table: "model_days", id: "model_id", names: "SELECT id, name FROM models"}
	case group == ByTool:
		s = usageSource{table: "model_days", id: "model_id", names: "SELECT id, name FROM models", prefix: toolPrefix}
		s.where = ` AND d.model_id IN (SELECT id FROM models WHERE workspace_id = $1 AND name >= 'tool:' AND name < 'tool;')`
	case group == ByUser:
		s = usageSource{table: "user_days", id: "user_id", names: "SELECT id, external_id FROM users"}
	case group == ByKey:
		s = usageSource{table: "key_days", id: "key_id", names: "SELECT id, uuid FROM api_keys"}
	default:
		return s, fmt.Errorf("no usage by %q", group)
	}
	tokens, runs, blocked := group.Keeps()
	s.columns = [5]string{"d.spend_nanos", "0", "0", "0", "0"}
	if tokens {
		s.columns[1], s.columns[2] = "d.prompt_tokens", "d.completion_tokens"
	}
	if runs {
		s.columns[3] = "d.run_count"
	}
	if blocked {
		s.columns[4] = "d.blocked_run_count"
	}
	return s, nil
}

// scan reads a row that begins with an id: a number, or a text where the id is the name.
func (s usageSource) scan(rows scanner, id *any, rest ...any) error {
	var number int64
	var text string
	if s.names == "" {
		err := rows.Scan(append([]any{&text}, rest...)...)
		*id = text
		return err
	}
	err := rows.Scan(append([]any{&number}, rest...)...)
	*id = number
	return err
}

// localDay is today's date in the workspace's zone, where dates are counted.
func (w *cachedWorkspace) localDay(tx *Tx) (day sql.NullInt64, err error) {
	if w.localFrom == 0 || dayOf(tx.now) < w.localFrom {
		return day, nil
	}
	c, err := w.calendar()
	if err == nil {
		day = sql.NullInt64{Int64: dateIn(tx.now, c.zone), Valid: true}
	}
	return day, err
}

// dayRange are days of rollups, both included.
type dayRange struct{ first, last int64 }

// ranges are the days of rollups that hold some dates: UTC days while the workspace counted by
// them, and its own dates since. The date in which that began may be in both.
func (u *usageBy) ranges(from, to int64) (of []dayRange) {
	if u.localFrom == 0 {
		return []dayRange{{from, to}}
	}
	if last := min(to, u.localFrom-1); from <= last {
		of = append(of, dayRange{from, last})
	}
	if first := max(from, u.localFrom-1); first <= to {
		of = append(of, dayRange{localDays + first, localDays + to})
	}
	return of
}

// inRanges selects the rows of a rollup that are of one of some ranges, whose parameters it
// appends.
func inRanges(table string, of []dayRange, args *[]any) string {
	parts := make([]string, len(of))
	for i, r := range of {
		*args = append(*args, r.first, r.last)
		parts[i] = fmt.Sprintf("SELECT * FROM %s WHERE workspace_id = $1 AND day >= $%d AND day <= $%d",
			table, len(*args)-1, len(*args))
	}
	return strings.Join(parts, " UNION ALL ")
}

// dateOfDay is the date that a day of a rollup belongs to.
func dateOfDay(day int64) int64 {
	if day >= localDays {
		return day - localDays
	}
	return day
}

// Distribution counts observations by size. Counts has one more element than
// Bounds, for what is above all of them.
type Distribution struct {
	Bounds []int64
	Counts []uint64
	Sum    int64
}

// histogram makes a Distribution. Observing costs two atomic additions.
type histogram struct {
	bounds []int64
	counts []atomic.Uint64
	sum    atomic.Int64
}

// newHistogram returns a histogram with these upper bounds, and a last bucket for everything above.
func newHistogram(bounds ...int64) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// observe counts one value. It takes no lock; a scrape may see the count before the sum.
func (h *histogram) observe(n int64) {
	i, _ := slices.BinarySearch(h.bounds, n)
	h.counts[i].Add(1)
	h.sum.Add(n)
}

// distribution returns a copy for the metrics.
func (h *histogram) distribution() Distribution {
	d := Distribution{Bounds: h.bounds, Counts: make([]uint64, len(h.counts)), Sum: h.sum.Load()}
	for i := range h.counts {
		d.Counts[i] = h.counts[i].Load()
	}
	return d
}

// firstCharacters cuts a text that is longer.
func firstCharacters(text []byte, most int) string {
	if n := len(text); n > most*utf8.UTFMax {
		text = text[:most*utf8.UTFMax]
	}
	if all := []rune(string(text)); len(all) > most {
		return string(all[:most])
	}
	return string(text)
}

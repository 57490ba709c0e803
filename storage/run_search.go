package storage

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/google/uuid"

	"github.com/pikarc/server/guard"
)

// A search narrows by conditions that each have an index of their own: a set of
// ids. The smallest set is looked up whole, if it has no more than maxSearched
// runs, and the other conditions are checked for each of its runs: what is
// answered then is exact. Where every set is larger, the runs are walked newest
// first, at most maxSearched of them at once: a list goes on from there with its
// cursor, and totals say that they are a lower bound.

// maxSearched is how many runs one query may look at.
const maxSearched = 100_000

// fewRuns is how many runs are looked up at once, rather than walked to in
// their order.
const fewRuns = 2_000

// RunOrder is the order of a list of runs.
type RunOrder uint8

// The orders. They are part of cursors.
const (
	// NewestFirst needs no index of its own: run ids begin with the time.
	NewestFirst RunOrder = iota
	// OldestFirst reads the same index backwards.
	OldestFirst
	// The others sort what the filter leaves; see maxSearched.
	CostliestFirst
	LongestFirst
	MostStepsFirst
	MostTokensFirst
)

// orderedBy is what a run is ordered by; $4 is now.
func (o RunOrder) orderedBy() string {
	return [...]string{
		"0", "0", "r.spend_nanos", "(" + runDuration + ")", "r.step_count", "r.prompt_tokens + r.completion_tokens",
	}[o]
}

// runDuration is how long a run took or, while it is RUNNING, takes.
const runDuration = `coalesce(r.ended_at, $4) - r.started_at`

// IsSearch reports whether the filter asks for what only a search can find, or order.
func (f RunFilter) IsSearch() bool {
	return f.Text != "" || f.UserPrefix != "" || len(f.Models)+len(f.Tools)+len(f.Tags) > 0 || f.MinCost > 0 || f.MinDuration > 0 || f.Order != NewestFirst
}

// fingerprint tells the cursors of one filter from those of others.
func (f RunFilter) fingerprint() (sum [8]byte) {
	f.Cursor, f.Limit = "", 0
	text, err := json.Marshal(f)
	if err != nil {
		panic(err) // texts, numbers and times
	}
	all := sha256.Sum256(text)
	copy(sum[:], all[:])
	return sum
}

// runSearch is the query of a filter while it is put together.
type runSearch struct {
	tx   *Tx
	args []any
	sets []string // of ids, each from an index
	also []string // conditions on a run that are no sets
	// checks are the sets' conditions as they are asked of a run that is found otherwise.
	checks []string
}

// The arguments that every query has: $1 to $4.
func newSearch(tx *Tx, ws WorkspaceKey, f RunFilter, before, from uuid.UUID) *runSearch {
	q := &runSearch{tx: tx, args: []any{ws, before[:], from[:], tx.now.UnixMilli()}}
	q.columns(f)
	q.texts(f.Text)
	q.anyTerm(termModel, f.Models)
	q.anyTerm(termTool, f.Tools)
	byKey := map[string][]string{}
	var keys []string
	for _, t := range f.Tags {
		if byKey[t.Key] == nil {
			keys = append(keys, t.Key)
		}
		byKey[t.Key] = append(byKey[t.Key], t.Value)
	}
	for _, key := range keys {
		q.tag(key, byKey[key])
	}
	return q
}

// arg adds an argument and returns its placeholder. Values never become part of the SQL text.
func (q *runSearch) arg(value any) string {
	q.args = append(q.args, value)
	return "$" + strconv.Itoa(len(q.args))
}

// between bounds the ids of a set in an index whose column has that name.
func between(column string) string { return " AND " + column + " < $2 AND " + column + " >= $3" }

// column adds a set by a column of runs that has an index.
func (q *runSearch) column(condition string) {
	q.sets = append(q.sets, `SELECT d.uuid FROM runs d WHERE d.workspace_id = $1 AND d.`+condition+between("d.uuid"))
	q.checks = append(q.checks, "r."+condition)
}

// columns adds the filters that are columns of the run itself.
func (q *runSearch) columns(f RunFilter) {
	if f.Status != 0 {
		q.column("status = " + q.arg(int64(f.Status)))
	}
	if f.UserID != "" {
		q.column("user_id = (SELECT id FROM users WHERE workspace_id = $1 AND external_id = " + q.arg(f.UserID) + ")")
	}
	if f.UserPrefix != "" {
		q.column("user_id IN (SELECT id FROM users WHERE workspace_id = $1 AND external_id >= " + q.arg(f.UserPrefix) +
			" AND external_id < " + q.arg(f.UserPrefix+"\U0010ffff") + ")")
	}
	if f.Key != uuid.Nil {
		q.column("key_id = (SELECT id FROM api_keys WHERE workspace_id = $1 AND uuid = " + q.arg(f.Key[:]) + ")")
	}
	if f.Denied || f.Reason != guard.None {
		reasons := make([]string, len(guard.Reasons()))
		for i := range reasons {
			reasons[i] = strconv.Itoa(i + int(guard.RunAlreadyEnded))
		}
		q.column("deny_reason IN (" + strings.Join(reasons, ", ") + ")")
	}
	if f.Reason != guard.None {
		q.also = append(q.also, "EXISTS (SELECT 1 FROM denials n WHERE n.run_id = r.id AND n.reason = "+q.arg(int64(f.Reason))+")")
	}
	if f.MinCost > 0 {
		q.also = append(q.also, "r.spend_nanos >= "+q.arg(int64(f.MinCost)))
	}
	if f.MinDuration > 0 {
		q.also = append(q.also, runDuration+" >= "+q.arg(f.MinDuration.Milliseconds()))
	}
}

// texts wants every word of the text to begin a word of the run, or the text
// to begin its id.
func (q *runSearch) texts(text string) {
	if text == "" {
		return
	}
	if first, last, ok := idsBeginningWith(text); ok {
		low, high := q.arg(first[:]), q.arg(last[:])
		words, checks := q.words(wordsOf(text))
		q.sets = append(q.sets, `SELECT d.uuid FROM runs d WHERE d.workspace_id = $1 AND d.uuid >= `+low+` AND d.uuid <= `+high+
			between("d.uuid")+` UNION ALL `+words[0])
		q.checks = append(q.checks, "1 = 1") // below, because the set may have runs of the first word alone
		q.also = append(q.also, "(r.uuid >= "+low+" AND r.uuid <= "+high+" OR "+strings.Join(checks, " AND ")+")")
		return
	}
	sets, checks := q.words(wordsOf(text))
	if len(sets) == 0 { // nothing to find by: no word
		q.also = append(q.also, "1 = 0")
	}
	q.sets, q.checks = append(q.sets, sets...), append(q.checks, checks...)
}

// words returns, for each word of the search, a query for the runs that have it as a set, and a
// check of one run: the planner gets whichever is cheaper. A word matches terms that begin with it.
func (q *runSearch) words(words []string) (sets, checks []string) {
	for _, word := range words {
		kind, low, high := q.arg(int64(termWord)), q.arg(word), q.arg(word+"\U0010ffff")
		sets = append(sets, `SELECT t.run_uuid FROM run_terms t WHERE t.workspace_id = $1 AND t.kind = `+kind+
			` AND t.term >= `+low+` AND t.term < `+high+between("t.run_uuid"))
		checks = append(checks, `EXISTS (SELECT 1 FROM run_terms c WHERE c.run_id = r.id AND c.kind = `+kind+
			` AND c.term >= `+low+` AND c.term < `+high+`)`)
	}
	return sets, checks
}

// idsBeginningWith are the bounds of the ids that a text begins, which has the
// first eight digits at least.
func idsBeginningWith(text string) (first, last uuid.UUID, ok bool) {
	const least = 8
	digits := strings.ReplaceAll(strings.TrimSpace(text), "-", "")
	if len(digits) < least || len(digits) > 2*len(first) {
		return first, last, false
	}
	low, err := uuid.Parse(digits + strings.Repeat("0", 2*len(first)-len(digits)))
	if err != nil {
		return first, last, false
	}
	high, err := uuid.Parse(digits + strings.Repeat("f", 2*len(first)-len(digits)))
	return low, high, err == nil
}

// anyTerm wants a run to have one of some models or tools.
func (q *runSearch) anyTerm(kind termKind, terms []string) {
	if len(terms) == 0 {
		return
	}
	var sets, checks []string
	k := q.arg(int64(kind))
	for _, term := range terms {
		is := ` AND t.term = ` + q.arg(term)
		sets = append(sets, `SELECT t.run_uuid FROM run_terms t WHERE t.workspace_id = $1 AND t.kind = `+k+is+between("t.run_uuid"))
		checks = append(checks, `EXISTS (SELECT 1 FROM run_terms t WHERE t.run_id = r.id AND t.kind = `+k+is+`)`)
	}
	q.sets = append(q.sets, strings.Join(sets, " UNION ALL "))
	q.checks = append(q.checks, "("+strings.Join(checks, " OR ")+")")
}

// tag wants a run's tag to have one of some values.
func (q *runSearch) tag(key string, values []string) {
	var sets, checks []string
	k := q.arg(key)
	for _, value := range values {
		is := ` AND g.key = ` + k + ` AND g.value = ` + q.arg(value)
		sets = append(sets, `SELECT g.run_uuid FROM run_tags g WHERE g.workspace_id = $1`+is+between("g.run_uuid"))
		checks = append(checks, `EXISTS (SELECT 1 FROM run_tags g WHERE g.run_id = r.id`+is+`)`)
	}
	q.sets = append(q.sets, strings.Join(sets, " UNION ALL "))
	q.checks = append(q.checks, "("+strings.Join(checks, " OR ")+")")
}

// scope is what a query looks at: the runs of one set, or those that are walked.
type scope struct {
	where string // on r, with all conditions
	// bounded says that a walk ends at floor, before the last run.
	bounded bool
	floor   uuid.UUID
}

// smallest finds the set that has the fewest runs, if it is small enough.
func (q *runSearch) smallest(most int64) (set int, size int64, err error) {
	set, size = -1, most+1
	for i, ids := range q.sets {
		var n int64
		limit := "$" + strconv.Itoa(len(q.args)+1)
		err := q.tx.get(`SELECT count(*) FROM (SELECT 1 FROM (`+ids+`) i LIMIT `+limit+`) n`, append(q.args, size), &n)
		if err != nil {
			return -1, 0, err
		}
		if n < size {
			set, size = i, n
		}
	}
	return set, size, nil
}

// setScope looks at the runs of one set, and asks the rest of each.
func (q *runSearch) setScope(set int) scope {
	where := []string{`r.workspace_id = $1`, `r.uuid IN (` + q.sets[set] + `)`, `r.uuid < $2`, `r.uuid >= $3`}
	for i, check := range q.checks {
		if i != set {
			where = append(where, check)
		}
	}
	return scope{where: strings.Join(append(where, q.also...), " AND ")}
}

// walkScope looks at the newest runs, at most so many; 0 for all.
func (q *runSearch) walkScope(most int64) (sc scope, err error) {
	where := append([]string{`r.workspace_id = $1`, `r.uuid < $2`, `r.uuid >= $3`}, q.checks...)
	if most > 0 {
		err = ignoreNotFound(q.tx.get(`SELECT uuid FROM runs WHERE workspace_id = $1 AND uuid < $2 AND uuid >= $3
			ORDER BY uuid DESC LIMIT 1 OFFSET $4`, append(q.args[:3:3], most-1), &sc.floor))
		if err != nil {
			return sc, err
		}
	}
	if sc.bounded = sc.floor != uuid.Nil; sc.bounded {
		where = append(where, "r.uuid >= "+q.arg(sc.floor[:]))
	}
	sc.where = strings.Join(append(where, q.also...), " AND ")
	return sc, nil
}

// scope decides between the two.
func (q *runSearch) scope(searched int64) (scope, error) {
	set, _, err := q.smallest(searched)
	if err != nil {
		return scope{}, err
	}
	if set >= 0 {
		return q.setScope(set), nil
	}
	return q.walkScope(searched)
}

// searchPlace is the last run of a page: by what the list is ordered, and its id.
type searchPlace struct {
	value int64
	id    uuid.UUID
}

// searchPlaceSize is the length of a place in a cursor: the filter's fingerprint, the value sorted
// by, the run.
const searchPlaceSize = 8 + 8 + 16

// cursor encodes the place. It carries the filter's fingerprint, because a place means nothing in
// another list.
func (p searchPlace) cursor(ws WorkspaceKey, f RunFilter) string {
	sum := f.fingerprint()
	key := binary.BigEndian.AppendUint64(sum[:], uint64(p.value))
	return cursor(listRunSearch, int64(ws), append(key, p.id[:]...))
}

// parseSearchCursor decodes a cursor: ErrBadCursor if it belongs to another filter.
func parseSearchCursor(ws WorkspaceKey, f RunFilter) (p searchPlace, err error) {
	key, err := parseCursor(listRunSearch, int64(ws), f.Cursor, searchPlaceSize)
	if err != nil {
		return p, err
	}
	if sum := f.fingerprint(); string(sum[:]) != string(key[:8]) {
		return p, ErrBadCursor
	}
	p.value = int64(binary.BigEndian.Uint64(key[8:16]))
	copy(p.id[:], key[16:])
	return p, nil
}

// searchRuns lists the runs of a search. A page may have fewer runs than asked
// for, or none, and a cursor all the same: no more were looked at.
func (s *Store) searchRuns(ctx context.Context, ws WorkspaceKey, f RunFilter) (runs []Run, next string, err error) {
	var after *searchPlace
	if f.Cursor != "" {
		p, err := parseSearchCursor(ws, f)
		if err != nil {
			return nil, "", err
		}
		after = &p
	}
	before, from, err := idBounds(listRuns, ws, f.Since, f.Until, "")
	if err != nil {
		return nil, "", err
	}
	if after != nil && f.Order == NewestFirst && string(after.id[:]) < string(before[:]) {
		before, after = after.id, nil
	}
	err = s.read(ctx, func(tx *Tx) error {
		q := newSearch(tx, ws, f, before, from)
		set, size, err := q.smallest(s.searched)
		if err != nil {
			return err
		}
		if set >= 0 && (size <= fewRuns || f.Order != NewestFirst) {
			runs, next, err = q.page(ws, f, q.setScope(set), after)
			return err
		}
		walk, err := q.walkScope(s.searched)
		if err != nil {
			return err
		}
		runs, next, err = q.page(ws, f, walk, after)
		if err == nil && set >= 0 && walk.bounded && int64(len(runs)) < f.Limit {
			runs, next, err = q.page(ws, f, q.setScope(set), after)
		}
		return err
	})
	return runs, next, err
}

// page reads a page of a scope in the filter's order.
func (q *runSearch) page(ws WorkspaceKey, f RunFilter, sc scope, after *searchPlace) (runs []Run, next string, err error) {
	value := f.Order.orderedBy()
	order, than := "r.uuid DESC", "<"
	switch f.Order {
	case NewestFirst:
	case OldestFirst:
		order, than = "r.uuid", ">"
	default:
		order = value + " DESC, r.uuid DESC"
	}
	where := sc.where
	if after != nil {
		id := q.arg(after.id[:])
		if f.Order == OldestFirst {
			where += " AND r.uuid > " + id
		} else {
			where += " AND (" + value + ", r.uuid) " + than + " (" + q.arg(after.value) + ", " + id + ")"
		}
	}
	// What is shown of a run is read for those of the page alone, however many were put in order.
	ids := `SELECT r.id, r.uuid, ` + value + ` AS place FROM runs r WHERE ` + where + ` ORDER BY ` + order + ` LIMIT ` + q.arg(f.Limit+1)
	// Asked for the workspace or an order of r as they are, SQLite walks all runs of the workspace.
	query := strings.NewReplacer("FROM runs r", ", page.place FROM ("+ids+") page JOIN runs r ON r.id = page.id",
		"r.workspace_id = $1", "r.workspace_id + 0 = $1").Replace(selectRun) +
		" ORDER BY " + strings.NewReplacer(value+" ", "page.place ", "r.uuid", "page.uuid").Replace(order)
	var last searchPlace
	err = q.tx.each(query, q.args, func(rows scanner) error {
		if int64(len(runs)) == f.Limit {
			next = last.cursor(ws, f)
			return nil
		}
		r, err := scanRun(rows.Scan, &last.value)
		last.id = r.ID
		runs = append(runs, r)
		return err
	})
	if err == nil && next == "" && sc.bounded && f.Order == NewestFirst {
		next = searchPlace{id: sc.floor}.cursor(ws, f)
	}
	return runs, next, err
}

// RunChoices are what runs can be filtered by, each in alphabetical order, maxRunChoices of it at most.
type RunChoices struct{ TagKeys, Tools []string }

const maxRunChoices = 50

// RunChoices looks which tags and tools the runs have that are kept.
func (s *Store) RunChoices(ctx context.Context, ws WorkspaceKey) (c RunChoices, err error) {
	err = s.read(ctx, func(tx *Tx) (err error) {
		c.TagKeys, err = tx.different(`SELECT key FROM run_tags WHERE workspace_id = $1 AND key > $2 ORDER BY key LIMIT 1`, ws, "")
		if err == nil {
			c.Tools, err = tx.different(`SELECT term FROM run_terms WHERE workspace_id = $1 AND kind = $3 AND term > $2 ORDER BY term LIMIT 1`,
				ws, "", int64(termTool))
		}
		return err
	})
	return c, err
}

// different lists the different values of an index: a query finds the next after one, its second
// argument.
func (tx *Tx) different(query string, args ...any) (values []string, err error) {
	for len(values) < maxRunChoices {
		var next string
		if err := tx.get(query, args, &next); err != nil {
			return values, ignoreNotFound(err)
		}
		values = append(values, next)
		args[1] = next
	}
	return values, nil
}

// termKind is what a term is. The values are stored: never renumber.
type termKind int64

const (
	// termWord is a word of a title, a user or an error.
	termWord termKind = 1
	// termModel is a model that a step named or reported.
	termModel termKind = 2
	// termTool is a tool that a step called.
	termTool termKind = 3
)

const (
	maxWords    = 24 // of one text
	maxWordSize = 32 // characters
	// maxErrorText is how much of an error is read for its words.
	maxErrorText = 500
)

// wordsOf are the words of a text in small letters, each once. Everything but
// letters, digits and the marks on them parts words.
func wordsOf(text string) (words []string) {
	apart := func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r) }
	for word := range strings.FieldsFuncSeq(strings.ToLower(text), apart) {
		if runes := []rune(word); len(runes) > maxWordSize {
			word = string(runes[:maxWordSize])
		}
		if !slices.Contains(words, word) {
			words = append(words, word)
		}
		if len(words) == maxWords {
			break
		}
	}
	return words
}

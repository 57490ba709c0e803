package storage

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/pikarc/server/guard"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/policies"
	"github.com/pikarc/server/storage/verify"
)

// madeRun is a run with all that it can be found by.
type madeRun struct {
	Run
	words         []string // of title, user and errors
	models, tools []string
	tags          map[string]string
}

// tagged starts a run with metadata.
func (w *world) tagged(ws WorkspaceKey, user, metadata string) uuid.UUID {
	w.t.Helper()
	a, err := w.StartRun(context.Background(), w.caller(ws), NewRun{UserID: user, Metadata: []byte(metadata)}, guard.Decide)
	w.must(err)
	return a.ID
}

func (w *world) index() {
	w.t.Helper()
	_, err := w.IndexRuns(context.Background())
	w.must(err)
}

// makeRuns makes runs of every kind, in each combination of what they are found by.
func makeRuns(w *world, ws WorkspaceKey) (made []madeRun) {
	titles := []string{"Refund the double charges", "Answer ticket 48402: wants a refund", "Zürich invoices", ""}
	users := []string{"acme/maria", "acme/jo", "cust-1042"}
	models := []string{"gpt-4o", "sonnet"}
	tools := []string{"search", "refund"}
	agents := []string{"billing", "support", ""}
	for _, model := range models {
		w.price(ws, model, 2_500_000, 10_000_000)
	}
	for i := range 60 {
		m := madeRun{tags: map[string]string{}}
		title, user := titles[i%len(titles)], users[i%len(users)]
		metadata := map[string]any{"title": title}
		if agent := agents[i%5%len(agents)]; agent != "" {
			m.tags["agent"], m.tags["env"] = agent, fmt.Sprint("e", i%2)
			metadata["tags"] = m.tags
		}
		text, err := json.Marshal(metadata)
		w.must(err)
		id := w.tagged(ws, user, string(text))
		m.words = wordsOf(title + " " + user)
		for j := range i % 4 {
			model, tool := models[(i+j)%2], tools[(i/2+j)%2]
			w.Advance(time.Duration(i) * time.Second)
			step := w.createModelCall(ws, id, model)
			w.patch(ws, id, step, int64(100*i), 10)
			call := w.tool(ws, id, tool)
			if j == 1 {
				text := "TimeoutError: fetch_statement"
				w.report(ws, id, call, StepUpdate{Status: StepFailed, Error: &text})
				m.words = append(m.words, wordsOf(text)...)
			}
			m.models, m.tools = append(m.models, model), append(m.tools, tool)
		}
		if i%3 != 0 {
			w.end(ws, id, []RunStatus{RunCompleted, RunFailed}[i%2])
		}
		w.Advance(time.Minute)
		m.Run = w.detail(ws, id).Run
		made = append(made, m)
	}
	return made
}

// finds says what a filter finds, without any index.
func (f RunFilter) finds(m madeRun, now time.Time) bool {
	begins := func(word string) bool {
		return slices.ContainsFunc(m.words, func(w string) bool { return strings.HasPrefix(w, word) })
	}
	any := func(wanted, has []string) bool {
		return len(wanted) == 0 || slices.ContainsFunc(wanted, func(w string) bool { return slices.Contains(has, w) })
	}
	for _, word := range wordsOf(f.Text) {
		if !begins(word) && !strings.HasPrefix(m.ID.String(), f.Text) {
			return false
		}
	}
	for _, t := range f.Tags {
		if !slices.ContainsFunc(f.Tags, func(o Tag) bool { return o.Key == t.Key && m.tags[o.Key] == o.Value }) {
			return false
		}
	}
	end := m.EndedAt
	if end.IsZero() {
		end = now
	}
	return any(f.Models, m.models) && any(f.Tools, m.tools) && (f.Status == 0 || m.Status == f.Status) &&
		(f.UserID == "" || m.UserID == f.UserID) && m.Spend >= f.MinCost && end.Sub(m.StartedAt) >= f.MinDuration &&
		(f.Since.IsZero() || !m.StartedAt.Before(f.Since)) && (f.Until.IsZero() || m.StartedAt.Before(f.Until))
}

func drawFilter(t *rapid.T, made []madeRun) (f RunFilter) {
	maybe := func(name string, set func()) {
		if rapid.IntRange(0, 3).Draw(t, name) == 0 {
			set()
		}
	}
	one := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	maybe("text", func() {
		id := rapid.SampledFrom(made).Draw(t, "run").ID.String()
		f.Text = one("words", "refund", "ref", "REFUND tick", "zür", "acme", "acme jo", "timeout", "nothing", "48402", id, id[:13])
	})
	maybe("model", func() {
		f.Models = rapid.SliceOfN(rapid.SampledFrom([]string{"gpt-4o", "sonnet", "other"}), 1, 2).Draw(t, "models")
	})
	maybe("tool", func() { f.Tools = []string{one("tools", "search", "refund")} })
	maybe("agent", func() { f.Tags = append(f.Tags, Tag{"agent", one("agent", "billing", "support")}) })
	maybe("either", func() { f.Tags = append(f.Tags, Tag{"agent", "support"}) })
	maybe("env", func() { f.Tags = append(f.Tags, Tag{"env", one("env", "e0", "e1", "e2")}) })
	maybe("status", func() {
		f.Status = rapid.SampledFrom([]RunStatus{RunRunning, RunCompleted, RunFailed}).Draw(t, "status")
	})
	maybe("user", func() { f.UserID = one("user", "acme/jo", "cust-1042", "nobody") })
	maybe("cost", func() { f.MinCost = plans.Money(rapid.SampledFrom([]int64{1, 5_000_000, 20_000_000}).Draw(t, "cost")) })
	maybe("duration", func() { f.MinDuration = 30 * time.Second })
	maybe("since", func() { f.Since = rapid.SampledFrom(made).Draw(t, "first").StartedAt })
	maybe("until", func() { f.Until = rapid.SampledFrom(made).Draw(t, "end").StartedAt })
	return f
}

// Whatever is asked for, the lists in every order, the totals and the export
// have exactly the runs that match, however few runs may be looked at at once.
func TestASearchFindsExactlyWhatMatches(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	made := makeRuns(w, ws)
	w.tagged(w.unlimitedWorkspace(), "acme/maria", `{"title":"Refund of others","agent":"billing"}`)
	w.index()
	zone, err := time.LoadLocation("Asia/Kathmandu")
	w.must(err)
	rapid.Check(t, func(t *rapid.T) {
		f := drawFilter(t, made)
		w.searched = rapid.SampledFrom([]int64{1, 7, 40, maxSearched}).Draw(t, "searched")
		var want []madeRun
		var sums RunSums
		for _, m := range made {
			if f.finds(m, w.Now()) {
				want = append(want, m)
				sums.Runs++
				sums.Spend += m.Spend
			}
		}
		f.Order = RunOrder(rapid.IntRange(0, int(MostTokensFirst)).Draw(t, "order"))
		if w.searched < int64(len(made)) {
			f.Order = NewestFirst // the others order what was looked at
		}
		slices.SortFunc(want, func(a, b madeRun) int { return f.Order.compare(a.Run, b.Run, w.Now()) })
		f.Limit = rapid.Int64Range(1, 20).Draw(t, "limit")
		got := allPages(t, w.Store, ws, f)
		if !slices.Equal(idsOf(got), idsOf(want)) {
			t.Fatalf("%+v lists\n%v, want\n%v", f, idsOf(got), idsOf(want))
		}
		for i, m := range want {
			if got[i].Agent != m.tags["agent"] {
				t.Fatalf("%+v: run %d is of the agent %q, want %q", f, i, got[i].Agent, m.tags["agent"])
			}
		}
		var exported []madeRun
		err := w.ExportRuns(context.Background(), ws, f, func(r Run) error { exported = append(exported, madeRun{Run: r}); return nil })
		slices.SortFunc(want, func(a, b madeRun) int { return NewestFirst.compare(a.Run, b.Run, w.Now()) })
		if got := idsOf(exported); err != nil || !slices.Equal(got, idsOf(want)) {
			t.Fatalf("%+v exports %v: %v\nwant %v", f, got, err, idsOf(want))
		}
		pieces := rapid.SampledFrom([]RunPieces{{}, {Length: 24 * time.Hour, Zone: zone}, {Most: 5}}).Draw(t, "pieces")
		totals, err := w.RunTotals(context.Background(), ws, f, pieces)
		if err != nil {
			t.Fatal(err)
		}
		if totals.AtLeast && (totals.Runs > sums.Runs || totals.Spend > sums.Spend || w.searched > int64(len(made))) {
			t.Fatalf("%+v: at least %+v, but %+v", f, totals, sums)
		}
		if !totals.AtLeast && (totals.Runs != sums.Runs || totals.Spend != sums.Spend) {
			t.Fatalf("%+v: %+v, want %+v", f, totals, sums)
		}
		if pieces.Length > 0 && !totals.AtLeast {
			mustBeDates(t, totals.ByTime, want, zone)
		}
	})
}

// mustBeDates wants a piece for each date in a zone on which a run started.
func mustBeDates(t *rapid.T, pieces []RunBucket, runs []madeRun, zone *time.Location) {
	dates := map[string]int64{}
	for _, m := range runs {
		year, month, day := m.StartedAt.In(zone).Date()
		dates[policies.StartOfDate(year, month, day, zone).String()]++
	}
	got := map[string]int64{}
	for _, b := range pieces {
		got[b.Since.String()] += b.Runs
	}
	if !maps.Equal(got, dates) || len(got) != len(pieces) {
		t.Fatalf("pieces of %v, want %v", got, dates)
	}
}

// The values that runs can be filtered by are found one by one, however many
// runs have each, and none of others.
func TestWhatRunsCanBeFilteredBy(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.tagged(w.unlimitedWorkspace(), "u", `{"tags":{"foreign":"x"}}`)
	for i := range 3 {
		run := w.tagged(ws, "u", fmt.Sprintf(`{"tags":{"team":"t%d","agent":"a","ä":"x"}}`, i))
		w.tool(ws, run, "search")
		w.tool(ws, run, fmt.Sprintf("refund %d", i))
	}
	w.index()
	c, err := w.RunChoices(t.Context(), ws)
	w.must(err)
	want := RunChoices{TagKeys: []string{"agent", "team", "ä"}, Tools: []string{"refund 0", "refund 1", "refund 2", "search"}}
	if !reflect.DeepEqual(c, want) {
		t.Errorf("%+v, want %+v", c, want)
	}
	run := w.start(ws, "u").ID
	for i := range 2 * maxRunChoices {
		w.tool(ws, run, fmt.Sprintf("tool %03d", i))
	}
	w.index()
	if c, err = w.RunChoices(t.Context(), ws); err != nil || len(c.Tools) != maxRunChoices || c.Tools[49] != "tool 045" {
		t.Errorf("%d tools, %v", len(c.Tools), err)
	}
}

func (o RunOrder) compare(a, b Run, now time.Time) int {
	length := func(r Run) int64 {
		if r.EndedAt.IsZero() {
			return int64(now.Sub(r.StartedAt))
		}
		return int64(r.EndedAt.Sub(r.StartedAt))
	}
	figure := func(r Run) int64 {
		return []int64{0, 0, int64(r.Spend), length(r), r.StepCount, r.PromptTokens + r.CompletionTokens}[o]
	}
	if o == OldestFirst {
		return -newestFirst(a.ID, b.ID)
	}
	return cmp.Or(cmp.Compare(figure(b), figure(a)), newestFirst(a.ID, b.ID))
}

func idsOf(runs []madeRun) (ids []string) {
	for _, r := range runs {
		ids = append(ids, r.ID.String()[9:])
	}
	return ids
}

// allPages follows the cursors, past pages that are not full.
func allPages(t *rapid.T, s *Store, ws WorkspaceKey, f RunFilter) (runs []madeRun) {
	for {
		page, next, err := s.Runs(context.Background(), ws, f)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page {
			runs = append(runs, madeRun{Run: r})
		}
		if f.Cursor = next; next == "" {
			return runs
		}
	}
}

func TestACursorFitsItsOwnSearchOnly(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	for range 3 {
		w.tagged(ws, "u", `{"title":"refund"}`)
	}
	w.index()
	f := RunFilter{Text: "refund", Limit: 1}
	_, next, err := w.Runs(t.Context(), ws, f)
	w.must(err)
	for _, other := range []RunFilter{
		{Text: "refund", Limit: 1, Order: CostliestFirst}, {Text: "refunds", Limit: 1}, {Text: "refund", Limit: 1, Tags: []Tag{{"a", "b"}}},
		{Limit: 1},
	} {
		other.Cursor = next
		if _, _, err := w.Runs(t.Context(), ws, other); !errors.Is(err, ErrBadCursor) {
			t.Errorf("%+v takes it: %v", other, err)
		}
	}
	f.Cursor, f.Limit = next, 2
	if runs, _, err := w.Runs(t.Context(), ws, f); err != nil || len(runs) != 2 {
		t.Errorf("%d runs, %v", len(runs), err)
	}
}

func TestTagsAreTakenFromMetadata(t *testing.T) {
	for metadata, want := range map[string]string{
		``:                                       "[]",
		`{"title":"x"}`:                          "[]",
		`{"agent":"billing"}`:                    "[{agent billing}]",
		`{"\u0061gent":"billing"}`:               "[{agent billing}]",
		`{"agent":7}`:                            "[]",
		`{"tags":{"b":"2","a":"1"},"agent":"x"}`: "[{a 1} {b 2}]",
		`{"tags":{},"agent":"x"}`:                "[]",
	} {
		if got := fmt.Sprint(tagsOf([]byte(metadata))); got != want {
			t.Errorf("%s: %s, want %s", metadata, got, want)
		}
	}
}

// A day is counted by so many values of tags. What comes later is in no
// value's row, and the books agree.
func TestUsageByTagIsBoundedAndProvable(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	for i := range maxTagValues + 20 {
		w.tagged(ws, "u", fmt.Sprintf(`{"agent":"a%d"}`, i))
	}
	run := w.tagged(ws, "u", `{"tags":{"agent":"a1","late":"x"}}`)
	w.patch(ws, run, w.step(ws, run).ID, 500, 100)
	w.Advance(24 * time.Hour)
	w.patch(ws, run, w.step(ws, run).ID, 50, 10) // on a day that has room
	q := UsageQuery{Group: ByTag("agent"), From: noon().Truncate(24 * time.Hour), To: w.Now().Add(24 * time.Hour), Limit: 1}
	r, err := w.UsageBy(t.Context(), ws, q)
	w.must(err)
	if p := r.Parts[0]; p.Value != "a1" || p.Spend != 2_475_000 || p.Runs != 2 || p.PromptTokens != 550 || r.Other.Runs != maxTagValues+19 {
		t.Errorf("%+v, other %d runs", p, r.Other.Runs)
	}
	if n := w.number(`SELECT count(*) FROM tag_days WHERE day = (SELECT min(day) FROM tag_days)`); n != maxTagValues {
		t.Errorf("%d rows", n)
	}
	if n := w.number(`SELECT count(*) FROM tag_days WHERE key = 'late'`); n != 1 {
		t.Errorf("the late tag has %d rows", n)
	}
}

// The value of a tag whose last run is erased is gone, and makes room for another.
func TestAValueThatIsErasedMakesRoom(t *testing.T) {
	w := newVerifiedWorld(t)
	ws := w.unlimitedWorkspace()
	w.tagged(ws, "gone", `{"agent":"only theirs"}`)
	w.tagged(ws, "stays", `{"agent":"another"}`)
	if _, err := w.EraseUser(t.Context(), ws, "gone", time.Minute); err != nil {
		t.Fatal(err)
	}
	w.mustRememberTheTruth()
	w.tagged(ws, "stays", `{"agent":"only theirs"}`)
	w.mustRememberTheTruth()
	if n := w.number(`SELECT count(*) FROM tag_days`); n != 2 {
		t.Errorf("%d values have a row", n)
	}
}

// The index forgets whoever is erased, and whatever retention deletes.
func TestTheIndexForgetsTheErasedAndTheExpired(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 2_500_000, 10_000_000)
	metadata := `{"title":"` + mariaTitle + `","tags":{"customer":"marias-bakery","env":"live"}}`
	other := w.tagged(ws, "jo", `{"title":"t","tags":{"env":"live"}}`)
	w.patch(ws, other, w.step(ws, other).ID, 5, 1)
	run := w.tagged(ws, maria, metadata)
	w.patch(ws, run, w.step(ws, run).ID, 500, 100)
	failed := mariaError
	w.report(ws, run, w.step(ws, run).ID, StepUpdate{Status: StepFailed, Error: &failed})
	w.index()
	find := func(f RunFilter) int {
		f.Limit = 10
		runs, _, err := w.Runs(t.Context(), ws, f)
		w.must(err)
		return len(runs)
	}
	searches := []RunFilter{
		{Text: "plans"}, {Text: "declined"}, {Text: "maria"}, {Tags: []Tag{{"customer", "marias-bakery"}}},
	}
	for _, f := range searches {
		if find(f) != 1 {
			t.Fatalf("%+v finds nothing before", f)
		}
	}
	w.erase(ws, maria)
	w.index()
	for _, f := range searches {
		if find(f) != 0 {
			t.Errorf("%+v finds who is erased", f)
		}
	}
	if found := w.remnants(append(ofMaria(), "marias-bakery", "declined", "plans")...); found != nil {
		t.Error(found)
	}
	if find(RunFilter{Models: []string{"gpt-4o"}}) != 2 || find(RunFilter{Tags: []Tag{{"env", "live"}}}) != 1 {
		t.Error("a model or somebody else's tag is gone")
	}
	q := UsageQuery{Group: ByTag("env"), From: noon().Truncate(24 * time.Hour), To: noon().Add(24 * time.Hour), Limit: 9}
	r, err := w.UsageBy(t.Context(), ws, q)
	w.must(err)
	if len(r.Parts) != 1 || r.Parts[0].Runs != 1 || r.Parts[0].PromptTokens != 5 {
		t.Errorf("%+v", r.Parts)
	}
	if report := w.verify(verify.Options{}); report.Found != 0 {
		t.Errorf("%+v", report.Differences)
	}
	w.end(ws, other, RunCompleted)
	w.Advance(400 * 24 * time.Hour)
	_, err = w.Expire(t.Context())
	w.must(err)
	w.index()
	for _, table := range []string{"run_tags", "run_terms", "unindexed_steps"} {
		if n := w.number(`SELECT count(*) FROM ` + table); n != 0 {
			t.Errorf("%s has %d rows of runs that are gone", table, n)
		}
	}
}

// The index goes on where it was, and misses nothing that another process
// writes meanwhile.
func TestTheIndexGoesOnWhereItWas(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	run := w.tagged(ws, "u", `{"title":"one"}`)
	w.createModelCall(ws, run, "first model")
	w.index()
	other := w.second()
	err := other.WriteBackfill(t.Context(), func(p Backfill) error {
		for range 3 * segmentSteps {
			if _, err := p.CreateStep(noon(), ws, run, NewStep{Type: ModelCall, Model: new("of another process")}, allow); err != nil {
				return err
			}
		}
		return nil
	})
	w.must(err)
	w.index()
	w.createModelCall(ws, run, "second model")
	step := w.createModelCall(ws, run, "asked for")
	w.report(ws, run, step, StepUpdate{Model: new("answered by")})
	w.tool(ws, run, "a tool")
	w.reopen()
	w.index()
	for _, f := range []RunFilter{
		{Text: "one"}, {Tools: []string{"a tool"}}, {Models: []string{"first model"}}, {Models: []string{"second model"}},
		{Models: []string{"answered by"}}, {Models: []string{"of another process"}},
	} {
		f.Limit = 2
		if runs, _, err := w.Runs(t.Context(), ws, f); err != nil || len(runs) != 1 {
			t.Errorf("%+v finds %d: %v", f, len(runs), err)
		}
	}
	if n, err := w.IndexRuns(t.Context()); n != 0 || err != nil {
		t.Errorf("%d were left: %v", n, err)
	}
}

// After a long rest all runs have expired, and numbers are given again.
func TestTheIndexFindsWhatComesAfterAllHasExpired(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	for _, title := range []string{"one", "two", "three"} {
		run := w.tagged(ws, "u", `{"title":"`+title+`"}`)
		w.createModelCall(ws, run, "a model")
		w.must(w.write(t.Context(), modeCached, func(tx *Tx) error { tx.cache.segment++; return nil }))
		w.end(ws, run, RunCompleted)
	}
	w.index()
	w.Advance(400 * 24 * time.Hour)
	_, err := w.Expire(t.Context())
	w.must(err)
	w.index()
	w.must(w.Close())
	w.Store = openStore(t, cmp.Or(w.url, w.path), w.clock.Now)
	w.createModelCall(ws, w.tagged(ws, "u", `{"title":"after"}`), "another model")
	w.index()
	w.mustFind(ws, RunFilter{Text: "after"}, RunFilter{Models: []string{"another model"}})
}

// mustFind ends the test unless each filter finds one run.
func (w *world) mustFind(ws WorkspaceKey, filters ...RunFilter) {
	w.t.Helper()
	for _, f := range filters {
		f.Limit = 2
		if runs, _, err := w.Runs(context.Background(), ws, f); err != nil || len(runs) != 1 {
			w.t.Errorf("%+v finds %d: %v", f, len(runs), err)
		}
	}
}

// searchForms are searches whose queries differ.
func searchForms() (all []RunFilter) {
	for _, f := range []RunFilter{
		{Text: "re fund"}, {Text: "01a2073c-1a43"}, {Text: "?"}, {Models: []string{"m"}}, {Tools: []string{"t"}},
		{Tags: []Tag{{"agent", "a"}, {"agent", "b"}}}, {UserPrefix: "acme/"},
		{Tags: []Tag{{"a", "b"}}, Text: "refund", Status: RunRunning, UserID: "u", Key: uuid.New(), MinCost: 1, MinDuration: time.Second},
		{Order: OldestFirst, Denied: true}, {Order: MostStepsFirst, Reason: guard.UserBlocked}, {Order: CostliestFirst},
		{Order: LongestFirst, Status: RunFailed}, {Order: MostTokensFirst, UserID: "u"},
	} {
		f.Limit = 1
		all = append(all, f)
	}
	return all
}

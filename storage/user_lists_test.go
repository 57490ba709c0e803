package storage

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// seedSpend creates users u0, u1, … in that order. A pair is an amount and a number of days: the
// amount is booked that many days ago, and again on the day before.
func seedSpend(w *world, ws WorkspaceKey, spends [][2]int64) {
	w.t.Helper()
	w.must(w.write(w.t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i, s := range spends {
			id, err := insertUser(tx, ws, fmt.Sprintf("u%d", i))
			if err != nil {
				return err
			}
			for _, ago := range []int64{s[1], s[1] + 1} { // on two days, to be added up
				if _, err := tx.exec(`INSERT INTO user_days (workspace_id, day, user_id, spend_nanos, run_count)
					VALUES ($1, $2, $3, $4, 1)`, ws, dayOf(tx.now)-ago, id, s[0]); err != nil {
					return err
				}
			}
			if i%3 == 0 {
				if err := tx.execOne(`UPDATE users SET blocked_at = 1 WHERE id = $1`, id); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// listUsersInEachForm reads each list of users whose query is its own.
func listUsersInEachForm(w *world, ws WorkspaceKey) (errs []error) {
	yes, no := true, false
	w.start(ws, "user two")
	for _, w.searched = range []int64{1, maxSearched} {
		for _, f := range []UserFilter{{}, {BySpend: true}, {Prefix: "u"}} {
			for _, f.Query = range []string{"", "u"} {
				for _, f.Blocked = range []*bool{nil, &yes, &no} {
					f.Limit, f.Cursor = 1, ""
					_, next, err := w.Users(w.t.Context(), ws, f)
					f.Cursor = next
					_, _, err2 := w.Users(w.t.Context(), ws, f)
					errs = append(errs, err, err2)
				}
			}
		}
	}
	return errs
}

// A workspace may have a million users of whom one is blocked.
func TestBlockedUsersAreReadFromAnIndexOfThemAlone(t *testing.T) {
	w := newWorld(t)
	w.must(errors.Join(listUsersInEachForm(w, w.unlimitedWorkspace())...))
	queries, conn := queriesOf(w), w.conn()
	lists := 0
	for _, query := range queries {
		if !strings.Contains(query, "AND u.blocked_at IS NOT NULL") || strings.Contains(query, "ORDER BY d.spend") {
			continue
		}
		lists++
		plan := planOf(w, conn, query)
		if !slices.ContainsFunc(plan, func(line string) bool { return strings.Contains(line, "users_blocked") }) {
			t.Errorf("%s\n\tis read so: %q", query, plan)
		}
	}
	if lists < 8 {
		t.Errorf("%d queries were looked at", lists)
	}
}

func TestListsOfUsersAreThoseOfANaiveSort(t *testing.T) {
	w := newWorld(t)
	other := w.unlimitedWorkspace()
	seedSpend(w, other, [][2]int64{{1000, 0}, {0, 0}})
	yes, no := true, false
	rapid.Check(t, func(r *rapid.T) {
		w.searched = rapid.SampledFrom([]int64{1, 4, maxSearched}).Draw(r, "searched")
		ws := w.unlimitedWorkspace()
		var spends [][2]int64
		for range rapid.IntRange(0, 25).Draw(r, "users") {
			spends = append(spends, [2]int64{rapid.Int64Range(0, 4).Draw(r, "spend"), rapid.Int64Range(0, 35).Draw(r, "days ago")})
		}
		seedSpend(w, ws, spends)
		f := UserFilter{
			BySpend: rapid.Bool().Draw(r, "by spend"), Limit: rapid.Int64Range(1, 9).Draw(r, "limit"),
			Query:   rapid.SampledFrom([]string{"", "1", "u"}).Draw(r, "q"),
			Prefix:  rapid.SampledFrom([]string{"", "u", "u1", "x"}).Draw(r, "prefix"),
			Blocked: rapid.SampledFrom([]*bool{nil, &yes, &no}).Draw(r, "blocked"),
		}
		sum := func(i int) (n int64) {
			for _, ago := range []int64{spends[i][1], spends[i][1] + 1} {
				if ago < usageDays {
					n += spends[i][0]
				}
			}
			return n
		}
		var order []int
		for i := range spends {
			if f.Query == "1" && !slices.Contains([]int{1, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21}, i) {
				continue
			}
			if (f.Blocked == nil || *f.Blocked == (i%3 == 0)) && strings.HasPrefix(fmt.Sprintf("u%d", i), f.Prefix) {
				order = append(order, i)
			}
		}
		slices.SortFunc(order, func(a, b int) int {
			switch {
			case f.Prefix != "":
				return cmp.Compare(strconv.Itoa(a), strconv.Itoa(b))
			case !f.BySpend:
				return cmp.Compare(b, a)
			}
			return cmp.Or(cmp.Compare(sum(b), sum(a)), cmp.Compare(b, a))
		})
		var want []string
		for _, i := range order {
			want = append(want, fmt.Sprintf("u%d", i))
		}
		got, err := listUserIDs(w.Store, ws, f, nothing)
		if err != nil {
			r.Fatal(err)
		}
		if !slices.Equal(got, want) {
			r.Fatalf("users %q, want %q", got, want)
		}
	})
}

func TestCursorOfOneOrderIsRefusedByTheOther(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	seedSpend(w, ws, [][2]int64{{1, 0}, {2, 0}, {0, 0}, {0, 0}})
	for _, bySpend := range []bool{true, false} {
		f := UserFilter{Limit: 1, BySpend: bySpend}
		for more := true; more; more = f.Cursor != "" {
			_, next, err := w.Users(t.Context(), ws, f)
			w.must(err)
			if f.Cursor = next; next == "" {
				break
			}
			other := f
			other.BySpend = !bySpend
			if _, _, err := w.Users(t.Context(), ws, other); !errors.Is(err, ErrBadCursor) {
				t.Errorf("a cursor by spend %v in the other order: %v", bySpend, err)
			}
		}
	}
}

// Users are found by how their ids begin, in the order of their ids, however
// many there are; what an id begins with is no pattern.
func TestUsersAreFoundByHowTheirIDsBegin(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	seedUsers(t, w, w.unlimitedWorkspace(), []string{"acme/other"})
	seedUsers(t, w, ws, []string{"acme/zoé", "acme/ann", "Acme/b", "a%me/x", "acme", "bcme", "acme/\U0010fffe", "acme/jo"})
	for prefix, want := range map[string][]string{
		"acme": {"acme", "acme/ann", "acme/jo", "acme/zoé", "acme/\U0010fffe"}, "acme/": {"acme/ann", "acme/jo", "acme/zoé", "acme/\U0010fffe"},
		"a%": {"a%me/x"}, "acme/zoé": {"acme/zoé"}, "c": nil,
	} {
		for _, limit := range []int64{1, 2, 50} {
			got, err := listUserIDs(w.Store, ws, UserFilter{Prefix: prefix, BySpend: true, Limit: limit}, nothing)
			w.must(err)
			if !slices.Equal(got, want) {
				t.Errorf("%q by %d: %q, want %q", prefix, limit, got, want)
			}
		}
	}
	// Erased in between, the last one of a page no longer says where the next begins.
	f := UserFilter{Prefix: "acme/", Limit: 1}
	_, next, err := w.Users(t.Context(), ws, f)
	w.must(err)
	f.Cursor = next
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		return tx.execOne(`UPDATE users SET external_id = 'erased-1' WHERE workspace_id = $1 AND external_id = 'acme/ann'`, ws)
	}))
	if _, _, err := w.Users(t.Context(), ws, f); !errors.Is(err, ErrBadCursor) {
		t.Errorf("after an erasure: %v", err)
	}
}

// seedUsers creates a user for each name, and blocks every third.
func seedUsers(t *testing.T, w *world, ws WorkspaceKey, names []string) {
	t.Helper()
	w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error {
		for i, name := range names {
			id, err := insertUser(tx, ws, name)
			if err != nil {
				return err
			}
			if i%3 == 0 {
				if err := tx.execOne(`UPDATE users SET blocked_at = 1 WHERE id = $1`, id); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// listUserIDs follows the cursors to the end, and calls between after each page but the last.
func listUserIDs(s *Store, ws WorkspaceKey, f UserFilter, between func()) (ids []string, err error) {
	for {
		page, next, err := s.Users(context.Background(), ws, f)
		if err != nil {
			return nil, err
		}
		for _, u := range page {
			ids = append(ids, u.UserID)
		}
		if next == "" {
			return ids, nil
		}
		if int64(len(page)) != f.Limit && f.Query == "" {
			return nil, fmt.Errorf("a page of %d, though not the last", len(page))
		}
		f.Cursor = next
		between()
	}
}

func TestUserFiltersAreThoseOfANaiveSearch(t *testing.T) {
	w := newWorld(t)
	ws, other := w.unlimitedWorkspace(), w.unlimitedWorkspace()
	names := []string{
		`100%`, `100x`, `a_b`, `axb`, `A_B`, `back\slash`, `back/slash`, `%`, `_`, `\`, `\%`, `\_`, `%%`, `a%b_c\d`,
		`é`, `É`, `日本`, `ab`, `AB`, `aB`, ` `, `'`, `"`, `--`,
	}
	seedUsers(t, w, ws, names)
	seedUsers(t, w, other, names)
	fold := func(s string) string { // of ASCII letters only
		return strings.Map(func(r rune) rune {
			if r >= 'A' && r <= 'Z' {
				return r + 'a' - 'A'
			}
			return r
		}, s)
	}
	yes, no := true, false
	rapid.Check(t, func(r *rapid.T) {
		f := UserFilter{
			Query:   rapid.StringOfN(rapid.SampledFrom([]rune(`%_\aAbBéÉ0x'"-`)), 0, 3, -1).Draw(r, "q"),
			Blocked: rapid.SampledFrom([]*bool{nil, &yes, &no}).Draw(r, "blocked"),
			Limit:   rapid.Int64Range(3, 30).Draw(r, "limit"),
		}
		var want []string
		for i, name := range slices.Backward(names) {
			if strings.Contains(fold(name), fold(f.Query)) && (f.Blocked == nil || *f.Blocked == (i%3 == 0)) {
				want = append(want, name)
			}
		}
		got, err := listUserIDs(w.Store, ws, f, nothing)
		if err != nil {
			r.Fatal(err)
		}
		if !slices.Equal(got, want) {
			r.Fatalf("users %q, want %q", got, want)
		}
	})
}

func TestUsersPageThroughInsertionsAndDeletionsWithoutRepeatOrGap(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	var want []string
	for i := range 100 {
		want = append(want, fmt.Sprintf("u%d", i))
	}
	seedUsers(t, w, ws, want)
	slices.Reverse(want)
	made, last := 0, len(want)
	got, err := listUserIDs(w.Store, ws, UserFilter{Limit: 7}, func() {
		made, last = made+1, last-7
		w.start(ws, fmt.Sprintf("new%d", made))
		w.must(w.write(t.Context(), modeBulkSQL, func(tx *Tx) error { // the user at the cursor
			return tx.execOne(`DELETE FROM users WHERE external_id = $1`, fmt.Sprintf("u%d", last))
		}))
	})
	w.must(err)
	if !slices.Equal(got, want) {
		t.Errorf("users %q, want %q", got, want)
	}
}

func TestUserShowsSpendOfTodayAndThirtyDays(t *testing.T) {
	w := newWorld(t)
	ws := w.unlimitedWorkspace()
	w.price(ws, "gpt-4o", 1000, 1000)
	for _, spend := range []struct {
		daysAgo int
		tokens  int64
	}{{30, 1}, {29, 10}, {1, 100}, {0, 1000}} {
		w.Set(noon().AddDate(0, 0, -spend.daysAgo))
		run := w.start(ws, "u")
		w.patch(ws, run.ID, w.step(ws, run.ID).ID, spend.tokens, 0)
	}
	reason := "why"
	_, err := w.BlockUser(t.Context(), ws, "never seen", &reason)
	w.must(err)
	got, _, err := w.Users(t.Context(), ws, UserFilter{Limit: 10})
	w.must(err)
	want := []User{
		{UserID: "never seen", Blocked: true, BlockedAt: noon(), BlockedReason: &reason},
		{UserID: "u", Today: UserSpend{Spend: 1000}, Last30Days: UserSpend{Spend: 1110}, RunCount: 4, LastSeenAt: noon()},
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("users (-want +got):\n%s", diff)
	}
}

package storage

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// seedSpend books, for users u0, u1, … in the order they became known, spend on days before today.
func seedSpend(w *world, ws WorkspaceKey, spends [][2]int64) {
	w.t.Helper()
	w.must(w.write(w.t.Context(), bySQL, func(tx *Tx) error {
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

func TestUsersBySpendAreThoseOfANaiveSort(t *testing.T) {
	w := newWorld(t)
	other := w.roomy()
	seedSpend(w, other, [][2]int64{{1000, 0}, {0, 0}})
	yes, no := true, false
	rapid.Check(t, func(r *rapid.T) {
		ws := w.roomy()
		var spends [][2]int64
		for range rapid.IntRange(0, 25).Draw(r, "users") {
			spends = append(spends, [2]int64{rapid.Int64Range(0, 4).Draw(r, "spend"), rapid.Int64Range(0, 35).Draw(r, "days ago")})
		}
		seedSpend(w, ws, spends)
		f := UserFilter{
			BySpend: true, Limit: rapid.Int64Range(1, 9).Draw(r, "limit"),
			Query:   rapid.SampledFrom([]string{"", "1", "u"}).Draw(r, "q"),
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
			if f.Blocked == nil || *f.Blocked == (i%3 == 0) {
				order = append(order, i)
			}
		}
		slices.SortFunc(order, func(a, b int) int { return cmp.Or(cmp.Compare(sum(b), sum(a)), cmp.Compare(b, a)) })
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
	ws := w.roomy()
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
			if _, _, err := w.Users(t.Context(), ws, other); err != ErrBadCursor {
				t.Errorf("a cursor by spend %v in the other order: %v", bySpend, err)
			}
		}
	}
}

package e2e_test

import (
	"database/sql"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// pagesOf lists the pages of a table or an index, of a database that nobody uses.
func pagesOf(t *testing.T, dir, name string) (pages []int64) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "pikarc.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.QueryContext(t.Context(), `SELECT rootpage FROM sqlite_master WHERE tbl_name = $1 AND rootpage > 0`, name)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var page int64
		if err := rows.Scan(&page); err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page)
	}
	if err := rows.Err(); err != nil || len(pages) == 0 {
		t.Fatalf("pages of %s: %v, %v", name, pages, err)
	}
	return pages
}

// Pages of workspaces that break while the server runs: what cannot be read is
// a 503, never "not found", and readiness says it.
func TestDamageWhileServingIsA503(t *testing.T) {
	t.Parallel()
	const pageSize = 4096
	emptyLeaf := make([]byte, pageSize)
	emptyLeaf[0] = 13 // a table's leaf without rows
	garbage := make([]byte, pageSize)
	for i := range garbage {
		garbage[i] = byte(i*7 + 3)
	}
	for name, page := range map[string][]byte{"zeros": make([]byte, pageSize), "garbage": garbage, "an empty leaf": emptyLeaf} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			p, u := roomy(t, dir)
			run := p.start(t, u.APIKey, "someone")
			p.stop(t)
			pages := pagesOf(t, dir, "workspaces")
			p = serve(t, dir)
			defer p.kill()
			file, err := os.OpenFile(filepath.Join(dir, "pikarc.db"), os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for _, n := range pages {
				if _, err := file.WriteAt(page, (n-1)*pageSize); err != nil {
					t.Fatal(err)
				}
			}
			steps := "/v1/runs/" + run.ID + "/steps"
			step := map[string]any{"type": "MODEL_CALL", "sequence": 1}
			for range 3 {
				p.call(t, "POST", "/v1/runs/", u.APIKey, map[string]string{"user_id": "someone"}).want(t, http.StatusServiceUnavailable)
				p.call(t, "POST", steps, u.APIKey, step).want(t, http.StatusServiceUnavailable)
				p.call(t, "GET", "/v1/runs/"+run.ID, u.APIKey, nil).want(t, http.StatusServiceUnavailable)
				p.call(t, "GET", "/v1/runs/", u.APIKey, nil).want(t, http.StatusServiceUnavailable)
				p.call(t, "GET", "/v1/workspace/", u.APIKey, nil).want(t, http.StatusServiceUnavailable)
			}
			p.await(t, "was not ready", func() bool {
				return p.call(t, "GET", "/health/ready", "", nil).status == http.StatusServiceUnavailable
			})
			p.call(t, "GET", "/health", "", nil).want(t, http.StatusOK)
		})
	}
}

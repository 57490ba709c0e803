package storage

import (
	"context"
	"database/sql"
	"errors"
	"sync"

	"github.com/google/uuid"
)

func (h *hammer) mustBalanceUnderLoad() {
	found, err := h.verified()
	if err != nil || len(found) > 0 {
		h.t.Errorf("books under load: %v, %v", found, err)
	}
}

// mustHoldWhatItSaid compares the ledger's rows with the answers: each of them
// is there, as answered, and none that nobody was told of.
func (h *hammer) mustHoldWhatItSaid() {
	h.t.Helper()
	for _, c := range []struct {
		known *sync.Map
		query string
	}{
		{&h.runs, `SELECT uuid, NOT (status = 4 AND ended_by IS NULL) FROM runs`},
		{&h.steps, `SELECT uuid, status <> 4 FROM steps`},
	} {
		said := map[uuid.UUID]bool{}
		for id, allowed := range c.known.Range {
			said[id.(uuid.UUID)] = allowed.(bool)
		}
		rows, err := h.conn().QueryContext(context.Background(), c.query)
		h.must(err)
		for rows.Next() {
			var id uuid.UUID
			var allowed bool
			h.must(rows.Scan(&id, &allowed))
			if was, ok := said[id]; !ok || was != allowed {
				h.t.Errorf("%s is allowed: %t; answered: %t, allowed: %t", id, allowed, ok, was)
			}
			delete(said, id)
		}
		h.must(errors.Join(rows.Err(), rows.Close()))
		if len(said) > 0 {
			h.t.Errorf("%d answers are not in the ledger: %v", len(said), said)
		}
	}
	rows, err := h.conn().QueryContext(context.Background(), `SELECT uuid, status, ended_at, coalesce(ended_by, 0) FROM runs`)
	h.must(err)
	for rows.Next() {
		var end RunEnd
		var at sql.NullInt64
		var by EndedBy
		h.must(rows.Scan(&end.ID, &end.Status, &at, &by))
		end.EndedAt = timeOf(at)
		said, ok := h.ends.Load(end.ID)
		if ok && said != end || !ok && (by == EndedByClient || by == EndedByDashboard) {
			h.t.Errorf("run %s has ended as %+v, answered: %+v", end.ID, end, said)
		}
	}
	h.must(errors.Join(rows.Err(), rows.Close()))
}

// mustHaveMet wants each kind of thing to have happened, so that the hammer
// cannot go blind. No seed comes near these bounds.
func (h *hammer) mustHaveMet() {
	h.t.Helper()
	for what, c := range map[string]struct {
		least int64
		query string
	}{
		"allowed runs":     {50, `SELECT sum(run_count) FROM users`},
		"denied runs":      {20, `SELECT count(*) FROM denials WHERE octet_length(step_uuid) = 0`},
		"denied steps":     {50, `SELECT count(*) FROM denials WHERE octet_length(step_uuid) > 0`},
		"kinds of denial":  {6, `SELECT count(DISTINCT reason) FROM denials`},
		"idle runs":        {5, `SELECT count(*) FROM runs WHERE ended_by = 3`},
		"abandoned steps":  {5, `SELECT count(*) FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.status = 1 AND r.status <> 1`},
		"priced steps":     {20, `SELECT count(*) FROM steps WHERE cost_nanos > 0`},
		"unpriced steps":   {20, `SELECT count(*) FROM steps WHERE booked_day IS NOT NULL AND cost_nanos IS NULL`},
		"late reports":     {5, `SELECT count(*) FROM steps s JOIN runs r ON r.id = s.run_id WHERE s.completed_at > r.ended_at`},
		"days":             {8, `SELECT count(*) FROM workspace_days`},
		"idempotency keys": {20, `SELECT count(*) FROM idempotency_keys`},

		"cached tokens":    {20, `SELECT count(*) FROM step_usage WHERE cached_tokens > 0`},
		"tokens written":   {20, `SELECT count(*) FROM step_usage WHERE cache_write_tokens > cache_write_1h_tokens AND cache_write_1h_tokens > 0`},
		"reasoning":        {20, `SELECT count(*) FROM step_usage WHERE reasoning_tokens > 0`},
		"service tiers":    {6, `SELECT count(DISTINCT service_tier) FROM step_usage`},
		"wholes raised":    {10, `SELECT count(*) FROM repairs WHERE fields <> 0`},
		"kinds' own price": {10, `SELECT count(*) FROM step_usage u JOIN run_steps s ON s.run_id = u.run_id AND s.uuid = u.step_uuid WHERE cached_picos <> input_picos`},
		"reported costs":   {5, `SELECT count(*) FROM steps WHERE cost_nanos > 0 AND input_picos IS NULL`},
		"paid tool calls":  {5, `SELECT count(*) FROM steps s JOIN price_points p ON p.id = s.price_id WHERE s.type = 2 AND p.name = 'tool:search'`},
		"price sources":    {3, `SELECT count(DISTINCT p.source) FROM steps s JOIN price_points p ON p.id = s.price_id`},
		"unpriced refused": {5, `SELECT count(*) FROM denials WHERE reason = 8`},
	} {
		n := h.number(c.query)
		h.t.Logf("%s: %d", what, n)
		if n < c.least {
			h.t.Errorf("%s: %d, want %d at least", what, n, c.least)
		}
	}
}

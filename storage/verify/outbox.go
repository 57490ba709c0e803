package verify

// orphanInvariants: what belongs to something belongs to what exists, in the same
// workspace. These rows have no foreign keys (docs/adr/0006).
func outboxInvariants() []invariant {
	return []invariant{
		{
			name: "endpoints", holds: "a reason when it is off, and a secret when it signs", key: 2,
			query: `SELECT workspace_id, id, kind, off_at, off_reason FROM endpoints
				WHERE (off_at IS NULL) <> (off_reason IS NULL) OR (kind = 'webhook') <> (secret IS NOT NULL)
				OR (old_secret IS NULL) <> (old_secret_until IS NULL) OR old_secret IS NOT NULL AND secret IS NULL`,
		},
		{
			name: "deliveries", holds: "a next attempt while it is pending", key: 2,
			query: `SELECT endpoint_id, uuid, state, due_at FROM deliveries
				WHERE state NOT BETWEEN 1 AND 4 OR (state = 1) <> (due_at IS NOT NULL)`,
		},
		{
			name: "orphans", holds: "the delivery's endpoint is one of the workspace", key: 2,
			query: `SELECT d.endpoint_id, d.uuid FROM deliveries d
				WHERE NOT EXISTS (SELECT 1 FROM endpoints e WHERE e.id = d.endpoint_id AND e.workspace_id = d.workspace_id)`,
		},
		{
			name: "users.erased_at", holds: "nothing that endpoints were told of them, once the erasure is finished", key: 2,
			query: `SELECT d.endpoint_id, d.uuid FROM deliveries d JOIN users u ON u.id = d.user_id
				WHERE u.erased_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM erasures e WHERE e.user_id = u.id)`,
		},
	}
}

package verify

// reviewInvariants are what holds between steps, the policies that they were asked of, their
// reviews and grants.
func reviewInvariants() []invariant {
	const name = "reviews"
	return []invariant{
		{
			name: name, holds: "a step waits exactly while its review is pending", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.status, v.resolution FROM ledger_steps s
				LEFT JOIN reviews v ON v.run_id = s.run_id AND v.step_uuid = s.uuid
				WHERE s.run_id > $1 AND s.run_id <= $2 AND (s.status = 6) <> (coalesce(v.resolution, 1) = 0)`,
		},
		{
			name: name, holds: "a step is blocked when its review was refused, expired, cancelled or superseded", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.status, v.resolution FROM ledger_steps s
				JOIN reviews v ON v.run_id = s.run_id AND v.step_uuid = s.uuid
				WHERE s.run_id > $1 AND s.run_id <= $2 AND (s.status = 4) <> (v.resolution BETWEEN 2 AND 5)`,
		},
		{
			name: name, holds: "a known resolution, decided at some time unless it is pending", key: 1,
			query: `SELECT id, resolution, decided_at FROM reviews
				WHERE NOT (resolution BETWEEN 0 AND 6 AND (decided_at IS NULL) = (resolution = 0))`,
		},
		{
			name: name, holds: "no grant used more often than it allows", key: 1,
			query: `SELECT id AS grant_id, used, uses FROM grants WHERE used > uses OR used < 0`,
		},
		{
			name: "orphans", holds: "the policies that a step was asked of are the workspace's", key: 2, chunked: true,
			query: `SELECT a.run_id, a.step_uuid, a.policy_id FROM step_policies a JOIN runs r ON r.id = a.run_id
				WHERE a.run_id > $1 AND a.run_id <= $2
				AND NOT EXISTS (SELECT 1 FROM policies p WHERE p.id = a.policy_id AND p.workspace_id = r.workspace_id)`,
		},
		{
			name: "orphans", holds: "what policies said of a step is a whole text", key: 2, chunked: true,
			query: `SELECT s.run_id, s.uuid, s.policies FROM ledger_steps s
				WHERE s.run_id > $1 AND s.run_id <= $2 AND s.policies NOT ` + wholeText,
		},
		{
			name: "orphans", holds: "what policies said of a start is a whole text", key: 1, chunked: true,
			query: `SELECT id, policies FROM runs WHERE id > $1 AND id <= $2 AND policies NOT ` + wholeText,
		},
		{
			name: "orphans", holds: "the policies that a start was asked of are the workspace's", key: 1, chunked: true,
			query: `SELECT a.run_id, a.policy_id FROM run_policies a WHERE a.run_id > $1 AND a.run_id <= $2
				AND NOT EXISTS (SELECT 1 FROM policies p WHERE p.id = a.policy_id AND p.workspace_id = a.workspace_id)`,
		},
	}
}

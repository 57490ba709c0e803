package verify

// payloadPlaces are the places that the steps of a chunk have in blocks of payloads.
const payloadPlaces = `SELECT r.workspace_id, s.run_id, s.uuid, s.input_payload / 256 AS number
		FROM ledger_steps s JOIN runs r ON r.id = s.run_id WHERE s.run_id > $1 AND s.run_id <= $2 AND s.input_payload IS NOT NULL
	UNION ALL SELECT r.workspace_id, s.run_id, s.uuid, s.report_payload / 256
		FROM ledger_steps s JOIN runs r ON r.id = s.run_id WHERE s.run_id > $1 AND s.run_id <= $2 AND s.report_payload IS NOT NULL`

// payloadInvariants are what holds between steps and the blocks in which their texts are.
func payloadInvariants() []invariant {
	return []invariant{
		{
			name: "orphans", holds: "the block of the step's payloads exists", key: 2, chunked: true,
			query: `SELECT p.run_id, p.uuid, p.number FROM (` + payloadPlaces + `) p WHERE NOT EXISTS
				(SELECT 1 FROM payload_blocks b WHERE b.workspace_id = p.workspace_id AND b.number = p.number)`,
		},
		{
			name: "orphans", holds: "the block of what was dropped exists", key: 2,
			query: `SELECT d.workspace_id, d.place FROM dropped_payloads d WHERE NOT EXISTS
				(SELECT 1 FROM payload_blocks b WHERE b.workspace_id = d.workspace_id AND b.number = d.place / 256)`,
		},
		{
			name: "payload_blocks.payloads", holds: "as many as steps have there, and were dropped", key: 2,
			query: `SELECT b.workspace_id, b.number, b.payloads, coalesce(l.n, 0) FROM payload_blocks b
				LEFT JOIN (SELECT a.workspace_id, a.number, sum(a.n) AS n FROM
						(SELECT workspace_id, number, n FROM ledger_payloads
						UNION ALL SELECT workspace_id, place / 256, 1 FROM dropped_payloads) a
					GROUP BY a.workspace_id, a.number) l
					ON l.workspace_id = b.workspace_id AND l.number = b.number
				WHERE b.payloads <> coalesce(l.n, 0)`,
		},
	}
}

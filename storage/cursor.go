package storage

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
)

// list names what a cursor belongs to, so that one of another list is refused.
type list byte

const (
	listRuns  list = 1
	listSteps list = 2
	listUsers list = 3
	// listUsersBySpend is another order, so its cursors fit no other.
	listUsersBySpend list = 4
	listAudit        list = 5
	listRunsByCall   list = 6
	listKeys         list = 7
)

const cursorSumSize = 4

// cursor is opaque to callers: list, owner (the workspace, or the run whose
// steps are listed), the last row's key, and a short checksum against typing
// mistakes. It is no secret: whatever it says, queries stay in the workspace.
func cursor(l list, owner int64, key []byte) string {
	raw := binary.BigEndian.AppendUint64([]byte{byte(l)}, uint64(owner))
	raw = append(raw, key...)
	sum := sha256.Sum256(raw)
	return base64.RawURLEncoding.EncodeToString(append(raw, sum[:cursorSumSize]...))
}

// parseCursor returns the key inside a cursor, which must have the given size:
// ErrBadCursor for anything that cursor did not make for this list and owner.
func parseCursor(l list, owner int64, text string, size int) ([]byte, error) {
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

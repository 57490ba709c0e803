package policies

import (
	"encoding/json"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
)

// decodeObject makes of a JSON object what an expression can look into. Numbers
// are doubles, as CEL says of JSON. Nothing is an empty object, so that
// has(input.amount) is false of it; a value that is no object is kept as the
// ledger keeps it, under "value".
func decodeObject(raw []byte) ref.Val {
	var value any
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &value); err != nil {
			return types.NewErr("the payload cannot be read: %v", err)
		}
	}
	switch value := value.(type) {
	case nil:
		return types.DefaultTypeAdapter.NativeToValue(map[string]any{})
	case map[string]any:
		return types.DefaultTypeAdapter.NativeToValue(value)
	default:
		return types.DefaultTypeAdapter.NativeToValue(map[string]any{"value": value})
	}
}

package policies

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

// The dashboard is built with the same file.
//
//go:embed ready.json
var readyJSON []byte

// Ready returns the ready-made policies, to be switched on as they are or
// changed first.
func Ready() []Policy {
	var bodies []json.RawMessage
	if err := json.Unmarshal(readyJSON, &bodies); err != nil {
		panic(fmt.Sprintf("policies: ready.json: %v", err))
	}
	ready := make([]Policy, len(bodies))
	for i, body := range bodies {
		p, err := Parse("", body)
		if err != nil {
			panic(fmt.Sprintf("policies: ready.json: %v", err))
		}
		ready[i] = p
	}
	return ready
}

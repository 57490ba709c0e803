// Command gocalls times guarded calls beside the same two requests by net/http
// alone, in turns: gocalls CALLS.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"strconv"
	"time"

	pikarc "github.com/pikarc/server/clients/go"
)

func main() {
	calls, err := strconv.Atoi(os.Args[1])
	must(err)
	guard, err := pikarc.New()
	must(err)
	run := ask("POST", "/v1/runs/", map[string]any{"user_id": "bare"})
	var bare, guarded []float64
	must(guard.Run(context.Background(), "guarded", nil, func(ctx context.Context, r *pikarc.Run) error {
		for range calls {
			started := time.Now()
			step := ask("POST", "/v1/runs/"+run+"/steps", map[string]any{"type": "TOOL_CALL", "sequence": 1, "tool_name": "t"})
			ask("PATCH", "/v1/runs/"+run+"/steps/"+step, map[string]any{"status": "COMPLETED", "duration_ms": 0})
			bare = append(bare, time.Since(started).Seconds())
			started = time.Now()
			if _, err := pikarc.ToolCall(ctx, r, "t", nil, func(context.Context) (any, error) { return nil, nil }); err != nil {
				return err
			}
			guarded = append(guarded, time.Since(started).Seconds())
		}
		return nil
	}))
	must(json.NewEncoder(os.Stdout).Encode(map[string]any{"beside": "net/http", "bare": bare, "guarded": guarded}))
}

func ask(method, path string, body any) string {
	content, err := json.Marshal(body)
	must(err)
	req, err := http.NewRequest(method, os.Getenv("PIKARC_BASE_URL")+path, bytes.NewReader(content))
	must(err)
	req.Header.Set("Authorization", "Bearer "+os.Getenv("PIKARC_API_KEY"))
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	must(err)
	defer resp.Body.Close()
	var answer struct{ ID string }
	must(json.NewDecoder(resp.Body).Decode(&answer))
	return answer.ID
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// Command meddle changes a workspace's configuration from a process of its own while a server runs
// on the same data directory: as the operator's commands do, but thousands of times.
//
//	meddle DATA_DIR EMAIL
//
// It executes each line of its input and answers it with a line: "ok", and for rotate also the new
// key.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/pikarc/server/auth"
	"github.com/pikarc/server/embed"
	"github.com/pikarc/server/plans"
	"github.com/pikarc/server/storage"
)

// main changes a workspace from another process than the server.
func main() {
	if err := meddle(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// meddle carries out commands from standard input.
func meddle(ctx context.Context, dir, email string) error {
	secret, err := auth.LoadSecret(dir, "")
	if err != nil {
		return err
	}
	store, err := storage.Open(ctx, filepath.Join(dir, "pikarc.db"), storage.Options{Migrations: embed.Migrations(), Secret: secret})
	if err != nil {
		return err
	}
	w, err := store.WorkspaceByEmail(ctx, email)
	if err != nil {
		return err
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		said, err := do(ctx, store, w.Key(), strings.Fields(lines.Text()))
		if err != nil {
			return fmt.Errorf("%s: %w", lines.Text(), err)
		}
		fmt.Println(strings.TrimSpace("ok " + said))
	}
	return store.Close()
}

// do carries out one of them.
func do(ctx context.Context, store *storage.Store, ws storage.WorkspaceKey, words []string) (said string, err error) {
	switch what, arg := words[0], words[1]; what {
	case "kill":
		_, err = store.SetKillSwitch(ctx, ws, arg == "on", "")
	case "block":
		_, err = store.BlockUser(ctx, ws, arg, nil)
	case "unblock":
		_, err = store.UnblockUser(ctx, ws, arg)
	case "price":
		var price plans.Price
		if price, err = plans.ParsePrice(arg); err == nil {
			_, err = store.SetPrice(ctx, ws, storage.ModelPrice{Model: "gpt-4o", Input: price, Active: true})
		}
	case "plan":
		var plan plans.Plan
		if plan, err = plans.ByID(plans.ID(arg)); err == nil {
			_, err = store.SetPlan(ctx, ws, plan)
		}
	case "rotate":
		var k storage.APIKey
		k, err = store.RotateKey(ctx, ws, storage.Rotation{Label: arg})
		said = k.Full
	default:
		err = fmt.Errorf("unknown command %q", what)
	}
	return said, err
}

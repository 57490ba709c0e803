// Command pocketbase is PocketBase with one collection, whose records are like
// our steps: the peer that the bench compares with.
//
// Everything is PocketBase's default, request log included. Who creates a
// record must be signed in, as who asks us for a decision must have a key; the
// file "token" in its data directory holds what to sign in with. Unlike ours,
// its default is synchronous=NORMAL, which does not wait for the disk.
//
// In the environment, BENCH_DURABLE=1 makes it wait, and BENCH_OPEN=1 lets
// anybody create records.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/pocketbase/dbx"
	"github.com/pocketbase/pocketbase"
	"github.com/pocketbase/pocketbase/core"
)

// main serves PocketBase, with a durable database if the environment asks for it.
func main() {
	config := pocketbase.Config{HideStartBanner: true}
	if os.Getenv("BENCH_DURABLE") == "1" {
		config.DBConnect = connectDurably
	}
	app := pocketbase.NewWithConfig(config)
	app.OnServe().BindFunc(func(e *core.ServeEvent) error {
		e.InstallerFunc = nil // opens a browser
		if err := allow(e.App, os.Getenv("BENCH_OPEN") == "1"); err != nil {
			return fmt.Errorf("say who may create records: %w", err)
		}
		return e.Next()
	})
	if err := app.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// connectDurably is core.DefaultDBConnect but for synchronous=FULL.
func connectDurably(path string) (*dbx.DB, error) {
	return dbx.Open("sqlite",
		path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=journal_size_limit(200000000)"+
			"&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-32000)")
}

// allow lets anybody create steps, or only who is signed in.
func allow(app core.App, anybody bool) error {
	rule := `@request.auth.id != ""`
	if anybody {
		rule = ""
	}
	steps, err := app.FindCollectionByNameOrId("steps")
	if err != nil { // at the first start
		if steps, err = newSteps(), makeUser(app); err != nil {
			return err
		}
	}
	steps.CreateRule = &rule
	return app.Save(steps)
}

// newSteps is the collection "steps", with no index but PocketBase's own.
func newSteps() *core.Collection {
	steps := core.NewBaseCollection("steps")
	steps.Fields.Add(
		&core.TextField{Name: "run", Required: true, Max: 36},
		&core.NumberField{Name: "sequence", Required: true, OnlyInt: true},
		&core.TextField{Name: "type", Required: true, Max: 32},
		&core.TextField{Name: "status", Required: true, Max: 32},
		&core.TextField{Name: "model", Max: 255},
		&core.AutodateField{Name: "created", OnCreate: true},
	)
	return steps
}

// makeUser makes a user and leaves its token in the data directory.
func makeUser(app core.App) error {
	users, err := app.FindCollectionByNameOrId("users")
	if err != nil {
		return err
	}
	user := core.NewRecord(users)
	user.SetEmail("agent@example.com")
	user.SetRandomPassword()
	if err := app.Save(user); err != nil {
		return err
	}
	token, err := user.NewAuthToken()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(app.DataDir(), "token"), []byte(token), 0o600)
}

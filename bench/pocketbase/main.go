// Command pocketbase is PocketBase with one collection, whose records are like
// our steps: the peer that the bench compares with.
//
// Everything is PocketBase's default, request log included. Two things favour
// it: creating a record needs no credential, and its default is
// synchronous=NORMAL, which does not wait for the disk. With BENCH_DURABLE=1 in
// the environment it waits, as we do.
package main

import (
	"fmt"
	"os"

	"github.com/pocketbase/dbx"
	"github.com/pocketbase/pocketbase"
	"github.com/pocketbase/pocketbase/core"
)

func main() {
	config := pocketbase.Config{HideStartBanner: true}
	if os.Getenv("BENCH_DURABLE") == "1" {
		config.DBConnect = connectDurably
	}
	app := pocketbase.NewWithConfig(config)
	app.OnServe().BindFunc(func(e *core.ServeEvent) error {
		e.InstallerFunc = nil // opens a browser
		if _, err := e.App.FindCollectionByNameOrId("steps"); err == nil {
			return e.Next() // made by an earlier start
		}
		if err := createSteps(e.App); err != nil {
			return fmt.Errorf("create the collection: %w", err)
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
	return dbx.Open("sqlite", path+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=journal_size_limit(200000000)"+
		"&_pragma=synchronous(FULL)&_pragma=foreign_keys(ON)&_pragma=temp_store(MEMORY)&_pragma=cache_size(-32000)")
}

// createSteps makes the collection "steps", with no index but PocketBase's own.
func createSteps(app core.App) error {
	open := ""
	steps := core.NewBaseCollection("steps")
	steps.CreateRule = &open
	steps.Fields.Add(
		&core.TextField{Name: "run", Required: true, Max: 36},
		&core.NumberField{Name: "sequence", Required: true, OnlyInt: true},
		&core.TextField{Name: "type", Required: true, Max: 32},
		&core.TextField{Name: "status", Required: true, Max: 32},
		&core.TextField{Name: "model", Max: 255},
		&core.AutodateField{Name: "created", OnCreate: true},
	)
	return app.Save(steps)
}

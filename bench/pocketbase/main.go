// Command pocketbase is PocketBase with one collection, whose records are like
// our steps: the peer that the bench compares with.
//
// Everything is PocketBase's default, request log included. Two things favour
// it: creating a record needs no credential, and its default is
// synchronous=NORMAL, which does not wait for the disk.
package main

import (
	"fmt"
	"os"

	"github.com/pocketbase/pocketbase"
	"github.com/pocketbase/pocketbase/core"
)

func main() {
	app := pocketbase.NewWithConfig(pocketbase.Config{HideStartBanner: true})
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

// Package embed holds the files that travel inside the binary: the database
// migrations and the dashboard. It holds bytes only.
package embed

import (
	"embed"
	"io/fs"
)

//go:embed migrations/*.sql
var migrations embed.FS

//go:embed all:dashboard
var dashboard embed.FS

// Migrations returns the goose migrations, one file a schema version.
func Migrations() fs.FS { return sub(migrations, "migrations") }

// Dashboard returns the dashboard's files, index.html at its root.
func Dashboard() fs.FS { return sub(dashboard, "dashboard") }

// sub cannot fail for the constant directories above: the compiler has
// checked that they exist.
func sub(files embed.FS, dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err)
	}
	return f
}

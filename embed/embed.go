// Package embed holds the files that travel inside the binary: the database
// migrations, the dashboard, the price catalogue and the client libraries. It holds
// bytes only.
package embed

import (
	"embed"
	"io/fs"
)

//go:embed migrations/*.sql migrations/postgres/*.sql
var migrations embed.FS

// dashboard is empty but for .gitkeep unless the dashboard was built.
//
//go:embed all:dashboard/dist
var dashboard embed.FS

//go:embed placeholder
var placeholder embed.FS

// clients is empty but for .gitkeep unless the client libraries were packed.
//
//go:embed all:clients/dist
var clients embed.FS

//go:embed catalogue/catalogue.txt
var catalogue string

// Catalogue returns the catalogue of published prices, as text.
func Catalogue() string { return catalogue }

// Migrations returns the goose migrations of SQLite, one file a schema version.
func Migrations() fs.FS { return sub(migrations, "migrations") }

// PostgresMigrations returns those of PostgreSQL, under the same numbers.
func PostgresMigrations() fs.FS { return sub(migrations, "migrations/postgres") }

// Dashboard returns the dashboard as it was built, or else a plain page that
// says how to build it; index.html is at the root of either.
func Dashboard() fs.FS {
	built := sub(dashboard, "dashboard/dist")
	if _, err := fs.Stat(built, "index.html"); err != nil {
		return sub(placeholder, "placeholder")
	}
	return built
}

// Clients returns the packages of the client libraries, as pip and npm take
// them; none where they were not packed.
func Clients() fs.FS { return sub(clients, "clients/dist") }

// sub cannot fail for the constant directories above: the compiler has
// checked that they exist.
func sub(files embed.FS, dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err)
	}
	return f
}

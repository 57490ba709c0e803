package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
)

// Config says where a database is, and how to sign in there.
type Config struct {
	pgx     *pgx.ConnConfig
	timeout time.Duration
}

// What is wrong with a URL. None of them repeats it, because there may be a
// password in it.
var (
	// Mistakes in the URL, found before anything is connected. None repeats the URL, which may have
	// a password.
	ErrNoURL      = errors.New("that is no URL of a PostgreSQL database: it begins with postgres://, as in postgres://user:password@host:5432/database?sslmode=verify-full; SQLite's file is found by --data-dir")
	ErrBadURL     = errors.New("the database URL cannot be read: it looks like postgres://user:password@host:5432/database?sslmode=verify-full, and in a password : / ? # @ % are written as %3A %2F %3F %23 %40 %25")
	ErrNoDatabase = errors.New("the database URL names no database: it ends in the database's name, as in postgres://user@host:5432/pikarc")
)

// IsURL reports whether a text is meant as the URL of a PostgreSQL database.
func IsURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://")
}

// ParseURL reads where a database is.
func ParseURL(url string) (Config, error) {
	if !IsURL(url) {
		return Config{}, ErrNoURL
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return Config{}, ErrBadURL // the cause may have the password
	}
	if config.Database == "" {
		return Config{}, ErrNoDatabase
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "pikarc"
	}
	return Config{config, DefaultTimeout}.WithTimeout(DefaultTimeout), nil
}

// With is the same database with a parameter of the session set, such as search_path.
func (c Config) With(name, value string) Config {
	changed := c.pgx.Copy()
	changed.RuntimeParams[name] = value
	return Config{changed, c.timeout}
}

// WithTimeout is the same database, which is given up on when it has not answered
// a statement for so long.
func (c Config) WithTimeout(timeout time.Duration) Config {
	changed := c.pgx.Copy()
	changed.ConnectTimeout = timeout
	return Config{changed, timeout}
}

// String names the database without the password.
func (c Config) String() string {
	return fmt.Sprintf("postgres://%s@%s:%d/%s", c.pgx.User, c.pgx.Host, c.pgx.Port, c.pgx.Database)
}

// OpenDB opens the database through database/sql, for what takes as long as it
// takes: time limits that are meant for calls do not end it.
func (c Config) OpenDB() *sql.DB {
	return stdlib.OpenDB(*c.pgx, stdlib.OptionAfterConnect(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN
			('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`)
		return err
	}))
}

// oldest is the first version of PostgreSQL that is supported.
const oldest = 15

// The reasons for which a server cannot be used.
var (
	// What a server must be like, looked at with each new connection.
	ErrTooOld   = fmt.Errorf("the server is older than PostgreSQL %d: upgrade it", oldest)
	ErrEncoding = errors.New("the database does not keep texts in UTF-8: make one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0")
	ErrReadOnly = errors.New("the PostgreSQL server takes no writes: it is a standby, or set to read only; name the primary")
)

// Check returns why a server cannot be used, or nil.
func Check(ctx context.Context, c *Conn) error {
	var version int64
	var encoding, readOnly string
	var standby bool
	var session Session
	err := c.Query(ctx, `SELECT current_setting('server_version_num')::bigint, current_setting('server_encoding'),
		current_setting('default_transaction_read_only'), pg_is_in_recovery(), pid, coalesce(backend_start::text, '')
		FROM pg_stat_get_activity(pg_backend_pid())`, nil, func(row Row) error {
		return row.Scan(&version, &encoding, &readOnly, &standby, &session.pid, &session.start)
	})
	switch {
	case err != nil:
		return err
	case version < oldest*10000:
		return ErrTooOld
	case encoding != "UTF8":
		return ErrEncoding
	case standby || readOnly == "on":
		return ErrReadOnly
	}
	c.session = session
	// An answer given is an answer kept: a session may wait for more than its
	// own disk, and never for less. A node that is gone without a word, or that
	// hangs, loses its locks within seconds: behind a proxy keepalives do not say
	// so, and between two statements of a batch there are milliseconds.
	return c.Run(ctx, `SELECT set_config('synchronous_commit', 'on', false)
			WHERE current_setting('synchronous_commit') IN ('off', 'local');
		SELECT set_config('tcp_keepalives_idle', '4', false), set_config('tcp_keepalives_interval', '2', false),
			set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '10000', false),
			set_config('idle_in_transaction_session_timeout', '3000', false), set_config('idle_session_timeout', '0', false)`)
}

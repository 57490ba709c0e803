package storage

import (
	"context"
	"errors"
)

// hooks are what a test puts between the writer and its database. They are set
// while the writer is idle, or inside a write.
type hooks struct {
	onCommit func() bool                        // before each commit, which fails when it returns false
	onExec   func(query string) error           // before it, and instead of it when there is an error
	onQuery  func(query string, rows int) error // after it

	// Those of the file's connection alone.
	onRun    func(query string) error // before it, and instead of it when there is an error
	onReopen func() error
}

// errRefused is the error of a commit that a test has refused.
var errRefused = errors.New("the commit is refused")

// hooks returns those of the store, which has none until they are first asked for.
func (w *world) hooks() *hooks {
	switch e := w.engine.(type) {
	case *hookedEngine:
		return e.hooks
	case *sqliteEngine:
		h, ok := e.writer.(*hookedFile)
		if !ok {
			h = &hookedFile{writerConn: e.writer, hooks: &hooks{}}
			e.writer = h
		}
		return h.hooks
	default:
		h := &hookedEngine{engine: e, hooks: &hooks{}}
		w.engine = h
		return h.hooks
	}
}

// onCommit calls hook before each commit; where it returns false, the commit fails.
func (w *world) onCommit(hook func() bool) { w.hooks().onCommit = hook }

// hookedFile is the writer's connection to a file.
type hookedFile struct {
	writerConn
	*hooks
}

func (h *hookedFile) Run(query string) error {
	if query == "COMMIT" && h.onCommit != nil && !h.onCommit() {
		// As when SQLite's own commit hook objects.
		return errors.Join(errRefused, h.writerConn.Run("ROLLBACK"))
	}
	if h.onRun != nil {
		if err := h.onRun(query); err != nil {
			return err
		}
	}
	return h.writerConn.Run(query)
}

func (h *hookedFile) Reopen() error {
	if err := h.writerConn.Reopen(); err != nil || h.onReopen == nil {
		return err
	}
	return h.onReopen()
}

func (h *hookedFile) Exec(ctx context.Context, query string, args []any) (int64, error) {
	return h.exec(ctx, h.writerConn, query, args)
}

func (h *hookedFile) Query(ctx context.Context, query string, args []any, each func(scanner) error) error {
	return h.query(ctx, h.writerConn, query, args, each)
}

// hookedEngine is the engine for PostgreSQL.
type hookedEngine struct {
	engine
	*hooks
}

func (h *hookedEngine) commit(changed []WorkspaceKey) (versions, error) {
	if h.onCommit == nil || h.onCommit() {
		return h.engine.commit(changed)
	}
	// The server itself refuses what is sent with the COMMIT.
	err := h.engine.pipeline().Queue(`SELECT 1 / 0`, nil, false)
	found, commitErr := h.engine.commit(changed)
	return found, errors.Join(errRefused, err, commitErr)
}

func (h *hookedEngine) conn() conn         { return hookedConn{h.engine.conn(), h.hooks} }
func (h *hookedEngine) pipeline() pipeline { return hookedPipeline{h.engine.pipeline(), h.hooks} }

type hookedConn struct {
	conn
	*hooks
}

func (h hookedConn) Exec(ctx context.Context, query string, args []any) (int64, error) {
	return h.exec(ctx, h.conn, query, args)
}

func (h hookedConn) Query(ctx context.Context, query string, args []any, each func(scanner) error) error {
	return h.query(ctx, h.conn, query, args, each)
}

type hookedPipeline struct {
	pipeline
	*hooks
}

func (h hookedPipeline) Queue(query string, args []any, must bool) error {
	if h.onExec != nil {
		if err := h.onExec(query); err != nil {
			return err
		}
	}
	return h.pipeline.Queue(query, args, must)
}

func (h *hooks) exec(ctx context.Context, c conn, query string, args []any) (int64, error) {
	if h.onExec != nil {
		if err := h.onExec(query); err != nil {
			return 0, err
		}
	}
	return c.Exec(ctx, query, args)
}

func (h *hooks) query(ctx context.Context, c conn, query string, args []any, each func(scanner) error) error {
	rows := 0
	err := c.Query(ctx, query, args, func(row scanner) error {
		rows++
		return each(row)
	})
	if h.onQuery != nil {
		err = errors.Join(err, h.onQuery(query, rows))
	}
	return err
}

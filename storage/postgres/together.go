package postgres

import (
	"context"
	"errors"
	"iter"
)

// Reader is how a function that Together runs reads.
type Reader struct{ yield func(*question) bool }

// question is a query whose rows a function waits for.
type question struct {
	query string
	args  []any
	each  func(Row) error
	err   error
}

// errNoWrite says that a function that only reads has tried to write.
var errNoWrite = errors.New("a statement that writes, among those that are read together")

// errStopped ends a function whose rows nobody will read.
var errStopped = errors.New("what was to be read together was given up")

// Query waits until the rows are there, and meanwhile lets others ask.
func (r Reader) Query(_ context.Context, query string, args []any, each func(Row) error) error {
	q := &question{query: query, args: args, each: each}
	if !r.yield(q) {
		return errStopped
	}
	return q.err
}

// Exec refuses.
func (r Reader) Exec(context.Context, string, []any) (int64, error) { return 0, errNoWrite }

// Together runs some functions in turn, each until it asks for rows. What all of
// them ask for is sent in one round trip, and then they go on. An error is that of
// the connection or of the server, after which the transaction is lost.
func (c *Conn) Together(ctx context.Context, fns []func(Reader)) error {
	type asking struct {
		next func() (*question, bool)
		stop func()
	}
	var all []asking
	for _, fn := range fns {
		next, stop := iter.Pull(func(yield func(*question) bool) { fn(Reader{yield}) })
		all = append(all, asking{next, stop})
	}
	defer func() {
		for _, a := range all {
			a.stop()
		}
	}()
	for len(all) > 0 {
		left, asked := all[:0], make([]*question, 0, len(all))
		for _, a := range all {
			if q, ok := a.next(); ok {
				left, asked = append(left, a), append(asked, q)
			}
		}
		if all = left; len(all) == 0 {
			return nil
		}
		if err := c.ask(ctx, asked); err != nil {
			return err
		}
	}
	return nil
}

// ask sends queries together: those of one text as one query.
func (c *Conn) ask(ctx context.Context, asked []*question) error {
	for _, q := range asked {
		if err := checkTexts(q.args); err != nil {
			return err
		}
	}
	var last queued
	for i, same := range sameText(asked) {
		if i > 0 {
			c.queue = append(c.queue, last)
		}
		last = queued{query: same[0].query, args: same[0].args, each: same[0].read}
		if r := c.textOf(last.query, len(last.args)).query(last.query); len(same) > 1 && r.fitAll(same) {
			last = r.ask(same)
		} else if len(same) > 1 {
			for _, q := range same[1:] {
				c.queue = append(c.queue, last)
				last = queued{query: q.query, args: q.args, each: q.read}
			}
		}
	}
	return c.Query(ctx, last.query, last.args, last.each)
}

// sameText groups queries by their texts, in the order of the first of each.
func sameText(asked []*question) (groups [][]*question) {
	at := make(map[string]int)
	for _, q := range asked {
		i, found := at[q.query]
		if !found {
			i = len(groups)
			at[q.query] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], q)
	}
	return groups
}

// query is what is known of the text of a query that can be asked for many rows of parameters.
func (t *text) query(query string) *rowText {
	if t.asks == nil {
		t.asks = &rowText{params: paramsOf(query), before: query}
	}
	return t.asks
}

// fitAll reports whether queries can be asked as one.
func (r *rowText) fitAll(asked []*question) bool {
	for _, q := range asked {
		if !r.fits(q.args) {
			return false
		}
	}
	return len(r.params) > 0
}

// ask is one query for several, whose rows have the number of the one that they are for.
func (r *rowText) ask(asked []*question) queued {
	if r.sql == "" {
		arrays, names, named := r.arrays()
		r.sql = "SELECT v.n, q.* FROM unnest(" + arrays + ") WITH ORDINALITY AS v (" + names + ", n), LATERAL (" + named(r.before) + ") AS q"
	}
	rows := make([][]any, len(asked))
	for i, q := range asked {
		rows[i] = q.args
	}
	return queued{query: r.sql, args: r.columns(rows), each: func(got Row) error {
		var n int64
		numbered := got.(*row)
		err := numbered.integer(0, &n)
		if err == nil {
			err = asked[n-1].read(&row{fields: numbered.fields[1:], values: numbered.values[1:]})
		}
		return err
	}}
}

// read gives a row to the function that waits for it, which alone learns of an error.
func (q *question) read(row Row) error {
	if q.err == nil {
		q.err = q.each(row)
	}
	return nil
}

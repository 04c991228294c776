// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
)

// maxBatch bounds how many changes are in one transaction, so that the first of
// them is not kept waiting by those that came much later.
const maxBatch = 512

// change is what one call wants written.
type change struct {
	ctx   context.Context
	apply func(*writer) error
	err   error
	done  chan error // buffered: the writer waits for nobody
}

// change hands a change to the writer and waits for it to be on the disk.
func (s *Store) change(ctx context.Context, apply func(*writer) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.calls.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &change{ctx: ctx, apply: apply, done: make(chan error, 1)}
	select {
	case s.changes <- c:
		return failed(s.path, <-c.done)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writer has the only connection that writes. Its methods are called from one
// goroutine.
type writer struct {
	db    *sql.DB
	conn  *sql.Conn
	ended chan struct{}

	statements                        []*sql.Stmt
	begin, commit, rollback           *sql.Stmt
	savepoint, release, undo          *sql.Stmt
	insertSession                     *sql.Stmt
	insertRequest                     *sql.Stmt
	findJoined, deleteJoined          *sql.Stmt
	insertTarget, insertRun           *sql.Stmt
	findSession, updateSession        *sql.Stmt
	findRun, updateRun, deleteSession *sql.Stmt
}

func newWriter(path string) (*writer, error) {
	db, err := sql.Open("sqlite", source(path, "busy_timeout(10000)", "synchronous(FULL)", "foreign_keys(1)", "journal_size_limit(16777216)"))
	if err != nil {
		return nil, err
	}
	w := &writer{db: db, ended: make(chan struct{})}
	if w.conn, err = db.Conn(context.Background()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := w.prepare(); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *writer) prepare() error {
	for _, p := range []struct {
		statement **sql.Stmt
		text      string
	}{
		{&w.begin, "BEGIN IMMEDIATE"},
		{&w.commit, "COMMIT"},
		{&w.rollback, "ROLLBACK"},
		{&w.savepoint, "SAVEPOINT one"},
		{&w.release, "RELEASE one"},
		{&w.undo, "ROLLBACK TO one"},
		{&w.insertSession, `INSERT INTO sessions (id, state, created_ns, revision, cancel_by, asked, session)
			VALUES (?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO NOTHING`},
		{&w.insertRequest, "INSERT INTO requests (request_id, session, joined) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"},
		{&w.findJoined, "SELECT request_id FROM requests WHERE session = ? AND joined"},
		{&w.deleteJoined, "DELETE FROM requests WHERE request_id = ? AND session = ? AND joined"},
		{&w.insertTarget, "INSERT INTO targets (session, pid) VALUES (?, ?) ON CONFLICT DO NOTHING"},
		{&w.insertRun, "INSERT INTO runs (session, host, state, run) VALUES (?, ?, ?, ?)"},
		{&w.findSession, `SELECT number, revision, state, coalesce((SELECT request_id FROM requests WHERE session = number AND NOT joined), '')
			FROM sessions WHERE id = ?`},
		{&w.updateSession, "UPDATE sessions SET revision = revision + 1, state = ?, cancel_by = ?, session = ? WHERE number = ?"},
		{&w.findRun, "SELECT r.session, r.state FROM sessions s JOIN runs r ON r.session = s.number WHERE s.id = ? AND r.host = ?"},
		{&w.updateRun, "UPDATE runs SET state = ?, run = ? WHERE session = ? AND host = ?"},
		{&w.deleteSession, "DELETE FROM sessions WHERE id = ?"},
	} {
		var err error
		if *p.statement, err = w.conn.PrepareContext(context.Background(), p.text); err != nil {
			return err
		}
		w.statements = append(w.statements, *p.statement)
	}
	return nil
}

// close closes the connection. Its statements go first: one that is left keeps
// the file open.
func (w *writer) close() error {
	var errs []error
	for _, s := range w.statements {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, w.conn.Close(), w.db.Close())...)
}

// serve carries out changes until there are no more to come: what waits when it
// is free goes into one transaction.
func (w *writer) serve(changes <-chan *change) {
	defer close(w.ended)
	for first := range changes {
		batch := []*change{first}
	waiting:
		for len(batch) < maxBatch {
			select {
			case c, ok := <-changes:
				if !ok {
					break waiting
				}
				batch = append(batch, c)
			default:
				break waiting
			}
		}
		w.carryOut(batch)
	}
}

// carryOut answers each change of a batch. Some errors (a full disk, one of
// input or output) end the transaction with all that is in it: then each change
// is tried alone, and has its own answer.
func (w *writer) carryOut(batch []*change) {
	err := w.transaction(batch)
	if err != nil && len(batch) > 1 {
		for _, c := range batch {
			w.carryOut([]*change{c})
		}
		return
	}
	for _, c := range batch {
		if err != nil {
			c.err = err
		}
		c.done <- c.err
	}
}

// transaction does all of a batch, or, with an error, nothing of it.
func (w *writer) transaction(batch []*change) error {
	if err := run(w.begin); err != nil {
		return err
	}
	err := func() error {
		for _, c := range batch {
			if c.err = c.ctx.Err(); c.err != nil {
				continue
			}
			if err := w.one(c); err != nil {
				return err
			}
		}
		return run(w.commit)
	}()
	if err != nil {
		// That fails only where SQLite has done it by itself already.
		_ = run(w.rollback)
	}
	return err
}

// one makes one change. The error it returns is that of the whole transaction.
func (w *writer) one(c *change) error {
	if err := run(w.savepoint); err != nil {
		return err
	}
	if c.err = c.apply(w); c.err != nil {
		if err := run(w.undo); err != nil {
			return errors.Join(c.err, err) // the transaction is gone
		}
	}
	return run(w.release)
}

func run(s *sql.Stmt, args ...any) error {
	_, err := s.ExecContext(context.Background(), args...)
	return err
}

// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// Get tells of a session; see [store.Store].
func (s *Store) Get(ctx context.Context, id session.ID) (*store.Record, error) {
	return s.only(ctx, choice{"s.id = ?", []any{string(id)}}, fmt.Sprintf("session %s", id))
}

// ByRequest finds a session by its request ID; see [store.Store].
func (s *Store) ByRequest(ctx context.Context, requestID string) (*store.Record, error) {
	return s.only(ctx, choice{"s.number = (SELECT session FROM requests WHERE request_id = ?)", []any{requestID}}, fmt.Sprintf("the session of request %q", requestID))
}

// List tells of the chosen sessions; see [store.Store].
func (s *Store) List(ctx context.Context, f session.Filter) ([]*store.Record, error) {
	return s.records(ctx, choose(f))
}

func (s *Store) only(ctx context.Context, c choice, what string) (*store.Record, error) {
	records, err := s.records(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 {
		return nil, fmt.Errorf("%s: %w", what, store.ErrNotFound)
	}
	return records[0], nil
}

// choice is the condition by which sessions (s) are chosen.
type choice struct {
	where string
	args  []any
}

// choose is session.Filter.Chooses in SQL.
func choose(f session.Filter) choice {
	c := choice{where: "TRUE"}
	if len(f.States) > 0 {
		c.where += " AND s.state IN (?" + strings.Repeat(", ?", len(f.States)-1) + ")"
		for _, state := range f.States {
			c.args = append(c.args, string(state))
		}
	}
	if f.PID != 0 {
		c.where += " AND EXISTS (SELECT 1 FROM targets t WHERE t.session = s.number AND t.pid = ?)"
		c.args = append(c.args, f.PID)
	}
	return c
}

// records reads the chosen sessions and their runs, all as of one moment.
func (s *Store) records(ctx context.Context, c choice) (records []*store.Record, err error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	select {
	case s.reading <- struct{}{}:
		defer func() { <-s.reading }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	tx, err := s.read.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, failed(s.path, err)
	}
	defer func() { err = failed(s.path, errors.Join(err, tx.Rollback())) }()
	byNumber := map[int64]*store.Record{}
	err = each(ctx, tx, "SELECT s.number, s.revision, s.cancel_by, s.asked, s.session FROM sessions s WHERE "+c.where+" ORDER BY s.created_ns, s.number", c.args, func(rows *sql.Rows) error {
		number, rec, err := scanSession(rows)
		if err == nil {
			records, byNumber[number] = append(records, rec), rec
		}
		return err
	})
	if err != nil || len(records) == 0 {
		return nil, err
	}
	err = each(ctx, tx, "SELECT r.session, r.run FROM sessions s JOIN runs r ON r.session = s.number WHERE "+c.where+" ORDER BY r.session, r.host", c.args, func(rows *sql.Rows) error {
		var (
			number int64
			text   sql.RawBytes
			r      store.Run
		)
		if err := rows.Scan(&number, &text); err != nil {
			return err
		}
		if err := decode(text, &r); err != nil {
			return fmt.Errorf("a run of session %s: %w", byNumber[number].Session.ID, err)
		}
		byNumber[number].Runs = append(byNumber[number].Runs, r)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return records, nil
}

// each calls scan for the rows of a query.
func each(ctx context.Context, tx *sql.Tx, query string, args []any, scan func(*sql.Rows) error) error {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := ctx.Err(); err != nil {
			return errors.Join(err, rows.Close())
		}
		if err := scan(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

func scanSession(rows *sql.Rows) (int64, *store.Record, error) {
	var (
		number         int64
		rec            store.Record
		first, current sql.RawBytes
	)
	if err := rows.Scan(&number, &rec.Revision, &rec.CancelBy, &first, &current); err != nil {
		return 0, nil, err
	}
	if err := decodeSession(first, current, &rec); err != nil {
		return 0, nil, fmt.Errorf("session number %d: %w", number, err)
	}
	return number, &rec, nil
}

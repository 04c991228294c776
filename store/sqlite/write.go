// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// Create keeps a new session; see [store.Store].
func (s *Store) Create(ctx context.Context, rec *store.Record) error {
	e, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	if err := s.change(ctx, func(w *writer) error { return w.create(rec, e) }); err != nil {
		return err
	}
	rec.Revision = 1
	return nil
}

func (w *writer) create(rec *store.Record, e *encoded) error {
	n := &rec.Session
	result, err := w.insertSession.Exec(string(n.ID), string(n.State), n.Created.UnixNano(), rec.CancelBy, e.asked, e.session)
	if err != nil {
		return err
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 0 {
		return errors.Join(err, fmt.Errorf("session %s: %w", n.ID, store.ErrExists))
	}
	number, err := result.LastInsertId()
	if err != nil {
		return err
	}
	if own := n.Spec.RequestID; own != "" {
		if err := w.request(number, own, 0); err != nil {
			return err
		}
	}
	if err := w.join(number, n.Spec.RequestID, rec.Requests); err != nil {
		return err
	}
	for _, pid := range n.Spec.PIDs {
		if err := run(w.insertTarget, number, pid); err != nil {
			return err
		}
	}
	for i := range e.runs {
		if err := run(w.insertRun, number, e.runs[i].host, e.runs[i].state, e.runs[i].run); err != nil {
			return err
		}
	}
	return nil
}

// request notes that a request ID leads to a session.
func (w *writer) request(number int64, id string, joined int) error {
	result, err := w.insertRequest.Exec(id, number, joined)
	if err != nil {
		return err
	}
	if rows, err := result.RowsAffected(); err != nil || rows == 0 {
		return errors.Join(err, fmt.Errorf("a session of request %q: %w", id, store.ErrExists))
	}
	return nil
}

// join makes the given request IDs, and no others beside its own, lead to a
// session.
func (w *writer) join(number int64, own string, requests []string) error {
	want := map[string]bool{}
	for _, id := range requests {
		want[id] = id != "" && id != own
	}
	rows, err := w.findJoined.Query(number)
	if err != nil {
		return err
	}
	var gone []string
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return errors.Join(err, rows.Close())
		}
		if !want[id] {
			gone = append(gone, id)
		}
		delete(want, id)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, id := range gone {
		if err := run(w.deleteJoined, id, number); err != nil {
			return err
		}
	}
	for id, is := range want {
		if !is {
			continue
		}
		if err := w.request(number, id, 1); err != nil {
			return err
		}
	}
	return nil
}

// Update writes a session as it is now; see [store.Store].
func (s *Store) Update(ctx context.Context, rec *store.Record) error {
	text, err := encodeSession(rec)
	if err != nil {
		return err
	}
	if err := s.change(ctx, func(w *writer) error { return w.update(rec, text) }); err != nil {
		return err
	}
	rec.Revision++
	return nil
}

func (w *writer) update(rec *store.Record, text string) error {
	var (
		number, revision int64
		state            session.State
		own              string
	)
	err := w.findSession.QueryRow(string(rec.Session.ID)).Scan(&number, &revision, &state, &own)
	switch to := rec.Session.State; {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("session %s: %w", rec.Session.ID, store.ErrNotFound)
	case err != nil:
		return err
	case revision != rec.Revision:
		return fmt.Errorf("session %s is of revision %d, not %d: %w", rec.Session.ID, revision, rec.Revision, store.ErrChanged)
	case state != to && !state.May(to):
		return fmt.Errorf("session %s is %s and cannot become %q: %w", rec.Session.ID, state, to, store.ErrTransition)
	}
	if err := w.join(number, own, rec.Requests); err != nil {
		return err
	}
	return run(w.updateSession, string(rec.Session.State), rec.CancelBy, text, number)
}

// UpdateRun writes the run of one host as it is now; see [store.Store].
func (s *Store) UpdateRun(ctx context.Context, id session.ID, r *store.Run) error {
	e, err := encodeRun(r)
	if err != nil {
		return err
	}
	return s.change(ctx, func(w *writer) error { return w.change(id, e) })
}

func (w *writer) change(id session.ID, e encodedRun) error {
	var (
		number int64
		state  session.State
	)
	err := w.findRun.QueryRow(string(id), e.host).Scan(&number, &state)
	switch to := session.State(e.state); {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("the run of session %s on host %s: %w", id, e.host, store.ErrNotFound)
	case err != nil:
		return err
	case state != to && !state.May(to):
		return fmt.Errorf("the run of session %s on host %s is %s and cannot become %s: %w", id, e.host, state, to, store.ErrTransition)
	}
	return run(w.updateRun, e.state, e.run, number, e.host)
}

// Delete forgets a session; see [store.Store].
func (s *Store) Delete(ctx context.Context, id session.ID) error {
	return s.change(ctx, func(w *writer) error {
		result, err := w.deleteSession.Exec(string(id))
		if err != nil {
			return err
		}
		if rows, err := result.RowsAffected(); err != nil || rows == 0 {
			return errors.Join(err, fmt.Errorf("session %s: %w", id, store.ErrNotFound))
		}
		return nil
	})
}

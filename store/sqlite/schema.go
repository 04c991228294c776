// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/session"
)

// applicationID marks a file as ours ("SRPS", in the header of the file: section
// 1.3.17 of SQLite's file format).
const applicationID = 0x53525053

// migrations are the steps from each version of the schema to the next one; the
// version of a file is how many of them it has seen. JSON in the columns belongs
// to the version too: what cannot read what an older one wrote takes a step that
// rewrites it.
var migrations = []string{`
CREATE TABLE sessions (
	number     INTEGER PRIMARY KEY, -- in the order of creation
	id         TEXT NOT NULL UNIQUE,
	state      TEXT NOT NULL,
	created_ns INTEGER NOT NULL,
	revision   INTEGER NOT NULL,
	cancel_by  TEXT NOT NULL,
	asked      TEXT NOT NULL,       -- JSON, written once
	session    TEXT NOT NULL        -- JSON of the rest
) STRICT;
CREATE INDEX sessions_by_state ON sessions (state);
CREATE TABLE requests (
	request_id TEXT NOT NULL PRIMARY KEY,
	session    INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
	joined     INTEGER NOT NULL     -- 0: it is that of the spec
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_by_session ON requests (session);
CREATE TABLE targets (
	session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
	pid     INTEGER NOT NULL,
	PRIMARY KEY (session, pid)
) STRICT, WITHOUT ROWID;
CREATE TABLE runs (
	session INTEGER NOT NULL REFERENCES sessions ON DELETE CASCADE,
	host    TEXT NOT NULL,
	state   TEXT NOT NULL,
	run     TEXT NOT NULL,          -- JSON
	PRIMARY KEY (session, host)
) STRICT, WITHOUT ROWID;
`}

// prepare checks a file and brings its schema up to date. A file that is refused
// stays as it is.
func prepare(ctx context.Context, path string) (err error) {
	db, err := sql.Open("sqlite", source(path, "busy_timeout(10000)", "synchronous(FULL)"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	version, err := versionOf(ctx, conn, path)
	if err != nil {
		return err
	}
	if err := check(ctx, conn, path); err != nil {
		return err
	}
	var mode string
	if err := conn.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return fmt.Errorf("the journal of %s is of mode %s, and cannot be made a WAL: the file system may not be able to share memory", path, mode)
	}
	for ; version < len(migrations); version++ {
		step := fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", migrations[version], applicationID, version+1)
		if _, err := conn.ExecContext(ctx, step); err != nil {
			return fmt.Errorf("bring the schema from version %d to %d: %w", version, version+1, err)
		}
	}
	return nil
}

// versionOf is the version of a file's schema; 0 is that of an empty one.
func versionOf(ctx context.Context, conn *sql.Conn, path string) (int, error) {
	var id, version, tables int
	row := conn.QueryRowContext(ctx, "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_application_id, pragma_user_version")
	if err := row.Scan(&id, &version, &tables); err != nil {
		return 0, err
	}
	if id != applicationID && (id != 0 || version != 0 || tables != 0) {
		return 0, &session.Error{Code: "store_unavailable", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("%s is a database of another program", path),
			Remedy: "name another data directory"}
	}
	if version > len(migrations) {
		return 0, &session.Error{Code: "store_newer", Kind: session.ErrUnavailable,
			Problem: fmt.Sprintf("the store %s was written by a newer version of this program (schema %d, this one knows %d)", path, version, len(migrations)),
			Remedy:  "install that version again, or name another data directory"}
	}
	return version, nil
}

// check reads the whole file once: to find out in the middle of things that a
// session is not readable would be too late.
func check(ctx context.Context, conn *sql.Conn, path string) error {
	var result string
	if err := conn.QueryRowContext(ctx, "PRAGMA quick_check(1)").Scan(&result); err != nil {
		return err
	}
	if result != "ok" {
		return damaged(path, errors.New(result))
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package sqlite

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/store"
)

// failed makes of an error of SQLite, or of the file system, one that says what
// to do. Errors that a Store may return stay as they are.
func failed(path string, err error) error {
	var known *session.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrChanged) || errors.Is(err, store.ErrTransition) || errors.Is(err, errRecord) {
		return err
	}
	var row damagedRow
	if errors.As(err, &row) {
		return damaged(path, err)
	}
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff { // the rest says more about the same
		case sqlite3.SQLITE_FULL:
			return full(path, err)
		case sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB:
			return damaged(path, err)
		case sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			// To map the index of the log, or to make it, fails in other ways
			// on a full disk.
			if noRoom(path) {
				return full(path, err)
			}
		}
	}
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return full(path, err)
	}
	return &session.Error{Code: "store_unavailable", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the store %s cannot be used", path), Cause: err,
		Remedy: "see that the directory is there, that this program may write to it, and that its disk works"}
}

func full(path string, err error) error {
	return &session.Error{Code: "disk_full", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("there is no room on the disk of the store %s", path), Cause: err,
		Remedy: "make room, or name a data directory on another disk"}
}

func damaged(path string, err error) error {
	return &session.Error{Code: "store_damaged", Kind: session.ErrUnavailable, Problem: fmt.Sprintf("the store %s is damaged", path), Cause: err,
		Remedy: "move it away, with the files beside it of the same name and -wal and -shm, to begin with an empty one; the profiles are not in it"}
}

// noRoom says that the disk of a file is full.
func noRoom(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(filepath.Dir(path), &fs) == nil && fs.Blocks > 0 && fs.Bavail == 0
}

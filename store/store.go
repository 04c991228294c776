// SPDX-License-Identifier: Apache-2.0

// Package store is what a poller keeps beyond its own life: sessions, what
// became of them on each host, and (package files) their profiles. [Store] is
// the interface to it, narrow on purpose; all implementations pass the suite in
// package storetest.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
)

// Errors of a Store, to branch on with errors.Is. What else goes wrong is a
// *session.Error of kind session.ErrUnavailable where a user can do something
// about it: disk_full, store_unavailable, store_newer (made by a newer version),
// store_damaged.
var (
	ErrNotFound = errors.New("not in the store")
	ErrExists   = errors.New("in the store already")
	// ErrChanged says that a record is not any more what it was when it was read.
	ErrChanged = errors.New("changed meanwhile")
	// ErrTransition refuses what session.State's table does not allow.
	ErrTransition = errors.New("no such transition")
)

// Record is a session as it is kept.
type Record struct {
	// Session without its Hosts: these are Runs.
	Session session.Session
	// Revision counts the changes of what is not a Run; a store counts it up.
	Revision int64
	// CancelBy says who asked for the end of the session; empty: nobody. What
	// still runs is to be canceled.
	CancelBy string

	// Requests are the request IDs of those who joined the session, beside that
	// of its Spec: they lead here after a crash, too.
	Requests []string

	Runs []Run // of its hosts, by name
}

// Run is one host's part of a session, and what it takes to go on with it
// after a crash at any moment.
type Run struct {
	session.HostRun
	// Command is the request ID under which the host is asked, made before it is
	// asked for the first time: whoever asks again, asks for the same.
	Command string
	// Instance is that life of the host's profiler in which the host may first
	// have got the command: noted before the command is sent. Empty: it was
	// never sent.
	Instance string
	Sent     time.Time // noted with Instance
	// Until is when it is given up that the host answers.
	Until time.Time
	// Collected is set when its profile lies in the files.
	Collected bool
}

// Store keeps sessions. It is safe for use by several goroutines. What a method
// has returned without an error from, survives a crash of the process and of
// the machine; what it has returned an error from, has not happened. A context
// that ends is an error only while it did not happen yet. After Close all
// methods fail.
type Store interface {
	// Create keeps a new session with its runs, and makes its revision 1. The
	// error is ErrExists if there is one of its ID, or one that a request ID of it
	// leads to already.
	Create(context.Context, *Record) error

	// Get tells of a session, with its runs.
	Get(context.Context, session.ID) (*Record, error)

	// ByRequest finds the session that was started with a request ID, or joined
	// by it.
	ByRequest(ctx context.Context, requestID string) (*Record, error)

	// List tells of the chosen sessions, with their runs, oldest first.
	List(context.Context, session.Filter) ([]*Record, error)

	// Update writes Session, CancelBy and Requests, if the revision is still the
	// given one, and counts up that of the record given. Runs are not looked at;
	// Created and Spec stay as they were created. The state may go only where
	// session.State.May lets it, or stay; ErrExists is as for Create.
	Update(context.Context, *Record) error

	// UpdateRun writes one host's run of a session. The state may go only where
	// session.State.May lets it, or stay.
	UpdateRun(context.Context, session.ID, *Run) error

	// Delete forgets a session, with its runs.
	Delete(context.Context, session.ID) error

	Close() error
}

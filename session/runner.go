// SPDX-License-Identifier: Apache-2.0

package session

import (
	"context"
	"io"
	"iter"
)

// Runner runs sessions: on this host (package profiler), or on another one
// (package remote). All implementations pass the suite in package sessiontest.
//
// Errors are *Error where a user can do something about them. To name a session
// that is not known is one of kind ErrNotFound.
type Runner interface {
	// Start begins a session, or joins one: the one that was started with the
	// same RequestID, or one that does exactly the same and has not ended. It
	// returns when sampling is on, or when the session waits for its turn, and
	// not when the session is over. The error is of kind ErrBusy when too many
	// wait already.
	Start(context.Context, Spec) (Session, error)

	// Get tells of a session.
	Get(context.Context, ID) (Session, error)

	// List tells of the chosen sessions, oldest first.
	List(context.Context, Filter) ([]Session, error)

	// Watch tells of a session at once, then of each change of its state and
	// of its progress, a few times a second. It ends after a final state, or
	// with an error.
	Watch(context.Context, ID) iter.Seq2[Session, error]

	// Fetch yields the profile of a session, as often as it is asked to; that
	// of a running session is what is known so far. A session that has none
	// has its error for an answer: a failed one what made it fail, a pending
	// one an error of kind ErrNotReady.
	Fetch(context.Context, ID, Want) (*Content, error)

	// Cancel ends a session for all whom it serves. What was sampled up to then
	// can be fetched. To cancel what has ended already changes nothing and is no
	// error.
	Cancel(context.Context, ID) (Session, error)
}

// FormatPprof is the name of the format in which profiles are kept and sent:
// gzip'd pprof. Any other one is made from it.
const FormatPprof = "pprof"

// Want says in which form, and from where on, a profile is wanted.
type Want struct {
	Format string // its name in package encoding; "" means pprof
	Host   string // whose part of a fleet's session; "" means all of it in one
	// Offset skips so many bytes of the content that has the given digest,
	// because they are there already: the fetch is resumed. Without a Digest
	// it must be zero.
	Offset int64
	Digest string // SHA-256 in lower-case hexadecimal
}

// Content is an encoded profile.
type Content struct {
	Session Session // as it was when the content was made: a running one has more to come
	Format  string
	Size    int64  // of all of it
	Offset  int64  // where Body begins
	Digest  string // of all of it: SHA-256 in lower-case hexadecimal
	Body    io.ReadCloser
}

// SPDX-License-Identifier: Apache-2.0

package session

import (
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Kinds of failure, to branch on with errors.Is. Others are from the standard
// library: fs.ErrNotExist (no such process), fs.ErrPermission, and
// errors.ErrUnsupported (this kernel cannot).
var (
	ErrInvalid     = errors.New("invalid request")
	ErrNoSamples   = errors.New("no samples")
	ErrNotFound    = errors.New("no such session")
	ErrNotReady    = errors.New("not ready")   // there is nothing yet: ask again later
	ErrBusy        = errors.New("busy")        // all places are taken: ask again later
	ErrUnavailable = errors.New("unavailable") // who should answer cannot be reached, or is about to stop
	ErrTooLarge    = errors.New("too large")   // for what is left of a limit
	ErrCanceled    = errors.New("canceled")    // the session, not the call that asks: that is context.Canceled

	// ErrForbidden is an fs.ErrPermission: not this program lacks a right, but
	// whoever asks it.
	ErrForbidden = fmt.Errorf("forbidden: %w", fs.ErrPermission)
)

// Error is a failure that a user meets: what is wrong, and what to do. Its
// text is one sentence.
type Error struct {
	Code       string        // stable, for programs: "no_such_process"
	Kind       error         // one of the kinds
	Problem    string        // "there is no process 4242"
	Remedy     string        // "ps -e lists the running ones"
	Cause      error         // what the kernel or a library said; may be nil
	RetryAfter time.Duration // when it may be different; 0 if that is not known
	// Undone says that what was asked for was not done, for sure: the call never
	// left, or was refused. Where it is false, that is not known.
	Undone bool
}

// Error is the sentence: problem, cause, remedy.
func (e *Error) Error() string {
	s := e.Problem
	if e.Cause != nil {
		s += " (" + e.Cause.Error() + ")"
	}
	if e.Remedy != "" {
		s += "; " + e.Remedy
	}
	return s
}

// Unwrap lets errors.Is find the kind and the cause.
func (e *Error) Unwrap() []error {
	if e.Cause == nil {
		return []error{e.Kind}
	}
	return []error{e.Kind, e.Cause}
}

// Invalid is an Error of kind ErrInvalid.
func Invalid(code, problem, remedy string) *Error {
	return &Error{Code: code, Kind: ErrInvalid, Problem: problem, Remedy: remedy}
}

// NotPermitted is an Error of kind fs.ErrPermission.
func NotPermitted(code, problem, remedy string, cause error) *Error {
	return &Error{Code: code, Kind: fs.ErrPermission, Problem: problem, Remedy: remedy, Cause: cause}
}

// Unsupported is an Error of kind errors.ErrUnsupported.
func Unsupported(code, problem, remedy string, cause error) *Error {
	return &Error{Code: code, Kind: errors.ErrUnsupported, Problem: problem, Remedy: remedy, Cause: cause}
}

// NotFound is the Error that tells that a session is not known.
func NotFound(id ID) *Error {
	return &Error{Code: "no_such_session", Kind: ErrNotFound, Problem: fmt.Sprintf("there is no session %s", id),
		Remedy: "sessions are forgotten some time after their end; srprof list shows those that are known"}
}

// Cause is err without the path that a sentence names already.
func Cause(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

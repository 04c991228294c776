// SPDX-License-Identifier: Apache-2.0

package auth

// Error says why peers cannot be told who they are, or are not believed.
type Error struct {
	Code    string // stable, for programs: "certificate_expired"
	Problem string // "the certificate /etc/…/profiler.pem expired on 2025-01-31"
	Remedy  string // "make a new one"
	Cause   error  // what the system or a library said; may be nil
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

// Unwrap lets errors.Is find the cause.
func (e *Error) Unwrap() error { return e.Cause }

// SPDX-License-Identifier: Apache-2.0

package output

import (
	"errors"
	"io"
	"io/fs"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/session"
)

// ErrNoReader says that who read standard output does so no more. Nothing is
// wrong then, and there is nobody to tell.
var ErrNoReader = errors.New("nobody reads standard output")

// Standard is standard output. It remembers why it could not be written, for
// those who do not look at each line.
type Standard struct {
	to  io.Writer
	err error
}

// NewStandard is a standard output that is w.
func NewStandard(w io.Writer) *Standard { return &Standard{to: w} }

// Write writes until it cannot any more.
func (s *Standard) Write(b []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.to.Write(b)
	switch {
	case errors.Is(err, syscall.EPIPE):
		s.err = ErrNoReader
	case err != nil:
		s.err = notWritten("cannot write to standard output", err)
	}
	return n, s.err
}

// Failed is why it could not be written.
func (s *Standard) Failed() error { return s.err }

// Fd is its file's, for who asks whether that is a terminal.
func (s *Standard) Fd() uintptr {
	if f, ok := s.to.(interface{ Fd() uintptr }); ok {
		return f.Fd()
	}
	return ^uintptr(0) // is none
}

// CodeNotWritten is the code of errors about outputs that could not be written.
const CodeNotWritten = "output_not_written"

// notWritten is the error about an output that took a part, or nothing.
func notWritten(problem string, err error) error {
	e := &session.Error{Code: CodeNotWritten, Kind: errors.ErrUnsupported, Problem: problem, Cause: session.Cause(err), Remedy: "name another output"}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.Kind, e.Remedy = session.ErrTooLarge, "make room there, or name an output in another place"
	case errors.Is(err, fs.ErrPermission):
		e.Kind = fs.ErrPermission
	}
	return e
}

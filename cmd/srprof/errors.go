// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// Exit codes. They are part of the command's contract; srprof --help tells them.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitPartial      = 3
	exitNotPermitted = 4
	exitNoSamples    = 5
	exitInterrupted  = 130
	exitPipe         = 141 // as a shell tells of who ended by SIGPIPE
)

// errInterrupted says that the run was ended early by a signal; what was
// collected is written.
var errInterrupted = errors.New("interrupted")

// errPartial says that a session has a profile, but not of all its hosts; which
// ones are missing, and why, has been told.
var errPartial = errors.New("some hosts failed")

// printError prints one line: the sentence, and the code where there is one.
// Some of the words may be another host's.
func printError(w io.Writer, err error) {
	text := terminal.Printable(strings.ReplaceAll(err.Error(), "\n", "; ")) // of several
	if code := errorCode(err); code != codeFailed {
		text += " [" + terminal.Printable(code) + "]"
	}
	fmt.Fprintf(w, "srprof: %s\n", text)
}

// printErrorJSON prints the same for programs.
func printErrorJSON(w io.Writer, err error) {
	var e *session.Error
	if !errors.As(err, &e) {
		e = &session.Error{Code: errorCode(err), Kind: err, Problem: err.Error()}
	}
	if err := writeJSON(w, e); err != nil { // what has no JSON form has a text
		printError(w, e)
	}
}

// codeFailed is the code of errors that have none of their own.
const codeFailed = "failed"

// errorCode is what programs tell an error by.
func errorCode(err error) string {
	var e *session.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return codeFailed
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, output.ErrNoReader):
		return exitPipe
	case errors.Is(err, errPartial):
		return exitPartial
	case errors.Is(err, session.ErrNoSamples):
		return exitNoSamples
	case errors.Is(err, session.ErrInvalid):
		return exitUsage
	case errors.Is(err, fs.ErrPermission):
		return exitNotPermitted
	}
	return exitFailed
}

// SPDX-License-Identifier: Apache-2.0

// Package daemon is what each of our services is as a program of a host: its
// command line, and how it says what is wrong and with which exit code
// ([Program]), where its configuration comes from ([Source]), its log in
// ServiceRadar's shape ([Logging], [Outlet]), its ports and who comes through
// them ([Ports]), and its life between the signals of who started it ([Service],
// [Manager]).
package daemon

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Streams is where a program writes.
type Streams struct{ Out, Err io.Writer }

// Exit codes. They are part of the commands' contract; --help tells them.
const (
	ExitOK           = 0
	ExitFailed       = 1
	ExitConfig       = 2
	ExitNotPermitted = 4
)

// ErrCannotServe marks failures that are not of the configuration.
var ErrCannotServe = errors.New("cannot serve")

// exit says what a program failed with, a line each, and returns its exit code.
func exit(program string, err error, w io.Writer) int {
	if err == nil {
		return ExitOK
	}
	for _, e := range each(err) {
		fmt.Fprintf(w, "%s: %v%s\n", program, e, code(e))
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ExitNotPermitted
	case code(err) != "" && !errors.Is(err, ErrCannotServe) || isUsage(err):
		return ExitConfig
	}
	return ExitFailed
}

// oldFlags lets -config stand for --config, as the flags of ServiceRadar's
// services are written.
func oldFlags(args []string) []string {
	args = append([]string{}, args...)
	for i, a := range args {
		if a == "-config" || strings.HasPrefix(a, "-config=") {
			args[i] = "-" + a
		}
	}
	return args
}

// each are the errors that are joined in err.
func each(err error) []error {
	if all, ok := err.(interface{ Unwrap() []error }); ok && errors.As(err, new(*config.Error)) {
		return all.Unwrap()
	}
	return []error{err}
}

// code is what programs branch on, in brackets; empty if there is none.
func code(err error) string {
	var (
		ofConfig  *config.Error
		ofAuth    *auth.Error
		ofSession *session.Error
	)
	switch {
	case errors.As(err, &ofConfig):
		return " [" + ofConfig.Code + "]"
	case errors.As(err, &ofAuth):
		return " [" + ofAuth.Code + "]"
	case errors.As(err, &ofSession):
		return " [" + ofSession.Code + "]"
	}
	return ""
}

// isUsage reports whether err is about the command line: cobra's errors have
// no type.
func isUsage(err error) bool {
	for _, prefix := range []string{"unknown ", "accepts ", "flag needs ", "invalid argument", "bad flag"} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

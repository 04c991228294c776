// SPDX-License-Identifier: Apache-2.0

// Package daemon is what each of our services is as a program of a host: its
// log in ServiceRadar's shape ([Logging], [Outlet]), what it tells the service
// manager ([Manager]), how it says what is wrong and with which exit code
// ([Exit]), and where it listens.
package daemon

import (
	"cmp"
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

// Exit says what a program failed with, a line each, and returns its exit code.
func Exit(program string, err error, w io.Writer) int {
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

// OldFlags lets -config stand for --config, as the flags of ServiceRadar's
// services are written.
func OldFlags(args []string) []string {
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

// Source is what a configuration was read from.
type Source struct {
	File      string   // empty: none
	Prefix    string   // of variables of the environment that stand for keys
	Variables []string // that were taken
}

// Of says where a key may have been set: in the file, and in those variables.
// No key stands for all.
func (s *Source) Of(key string) string {
	own := config.Variable(s.Prefix, key)
	var names []string
	for _, name := range s.Variables {
		if key == "" || name == own || strings.HasPrefix(name, own+"_") || key == "logging" && !strings.HasPrefix(name, s.Prefix) {
			names = append(names, name)
		}
	}
	switch {
	case len(names) == 0:
		return cmp.Or(s.File, "the defaults")
	case s.File == "":
		return strings.Join(names, ", ")
	}
	return s.File + " with " + strings.Join(names, ", ")
}

// Wrong says where what is wrong was said.
func (s *Source) Wrong(key string, err error) error {
	return fmt.Errorf("%s: %s: %w", s.Of(key), key, err)
}

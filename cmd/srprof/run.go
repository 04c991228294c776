// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/version"
)

// streams is where a command writes: results to out, everything else to err.
type streams struct{ out, err io.Writer }

// Exit codes. They are part of the command's contract; srprof record --help tells them.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitNotPermitted = 4
	exitNoSamples    = 5
	exitInterrupted  = 130
)

// errInterrupted says that the run was ended early by a signal; what was
// collected is written.
var errInterrupted = errors.New("interrupted")

// errUsage marks mistakes in the command line itself.
var errUsage = errors.New("usage")

// run is the program as a function. It returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := rootCommand(s)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err != nil && !errors.Is(err, errInterrupted) && !errors.Is(err, errNotReady) {
		if f := c.Flags().Lookup(jsonFlag); f != nil && slices.Contains(args, "--"+jsonFlag) {
			printErrorJSON(s.err, err)
		} else {
			printError(s.err, err)
		}
	}
	return exitCode(err)
}

func rootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "srprof",
		Short: "See what a running process does: a flame graph in seconds, no restart",
		Long: `srprof samples a running process with eBPF and draws what it does as a flame
graph, with function names of user and kernel code. The process needs no
restart, no rebuild and no preparation. It may be on this host or, where
serviceradar-profiler serves, on another one.`,
		Example: `  srprof record --pid 4242 --output web.svg
  srprof symbolize web.pb.gz --debug-dir debug --output web.svg
  srprof record --pid 4242 --server web-01 --cert-dir certs --output web.svg
  srprof doctor`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	cobra.AddTemplateFunc("flagGroups", flagGroups)
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "{{flagGroups .}}", 1))
	root.SetVersionTemplate("srprof {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", errUsage, err)
	})
	for _, g := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Record:", []*cobra.Command{recordCommand(s), symbolizeCommand(s), doctorCommand(s)}},
		{"Sessions of a profiler, serviceradar-profiler on some host:", []*cobra.Command{startCommand(s), watchCommand(s), fetchCommand(s),
			listCommand(s), getCommand(s), cancelCommand(s), certsCommand(s)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	return root
}

// printError prints one line: the sentence, and the code where there is one.
// Some of the words may be another host's.
func printError(w io.Writer, err error) {
	code := errorCode(err)
	switch {
	case code == codeUsage:
		fmt.Fprintf(w, "srprof: %v; srprof --help shows how it is used\n", err)
	case code != codeFailed:
		fmt.Fprintf(w, "srprof: %s [%s]\n", printable(err.Error()), printable(code))
	default:
		fmt.Fprintf(w, "srprof: %s\n", printable(err.Error()))
	}
}

// printErrorJSON prints the same for programs.
func printErrorJSON(w io.Writer, err error) {
	var e *session.Error
	if !errors.As(err, &e) {
		e = &session.Error{Code: errorCode(err), Kind: err, Problem: err.Error()}
		if isUsage(err) {
			e.Kind = session.ErrInvalid
		}
	}
	if err := writeJSON(w, e); err != nil { // what has no JSON form has a text
		printError(w, e)
	}
}

// Codes of errors that have none of their own.
const (
	codeUsage  = "usage"
	codeFailed = "failed"
)

// errorCode is what programs tell an error by.
func errorCode(err error) string {
	var e *session.Error
	switch {
	case errors.As(err, &e):
		return e.Code
	case isUsage(err):
		return codeUsage
	}
	return codeFailed
}

func exitCode(err error) int {
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errInterrupted):
		return exitInterrupted
	case errors.Is(err, session.ErrNoSamples):
		return exitNoSamples
	case errors.Is(err, session.ErrInvalid), isUsage(err):
		return exitUsage
	case errors.Is(err, fs.ErrPermission):
		return exitNotPermitted
	}
	return exitFailed
}

// isUsage reports whether err is about the command line: cobra's own errors
// about commands and arguments have no type.
func isUsage(err error) bool {
	if errors.Is(err, errUsage) {
		return true
	}
	for _, prefix := range []string{"unknown command", "accepts ", "requires ", "required flag", "invalid argument"} {
		if strings.HasPrefix(err.Error(), prefix) {
			return true
		}
	}
	return false
}

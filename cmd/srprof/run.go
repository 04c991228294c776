// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
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
	err := root.ExecuteContext(ctx)
	if err != nil && !errors.Is(err, errInterrupted) && !errors.Is(err, errNotReady) {
		printError(s.err, err)
	}
	return exitCode(err)
}

func rootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "srprof",
		Short: "See what a running process does: a flame graph in seconds, no restart",
		Long: `srprof samples a running process with eBPF and draws what it does as a flame
graph, with function names of user and kernel code. The process needs no
restart, no rebuild and no preparation.`,
		Example:       "  srprof record --pid 4242 --output web.svg\n  srprof symbolize web.pb.gz --debug-dir debug --output web.svg\n  srprof doctor",
		Version:       profiler.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetVersionTemplate("srprof {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", errUsage, err)
	})
	root.AddCommand(recordCommand(s), symbolizeCommand(s), doctorCommand(s), certsCommand(s))
	return root
}

// printError prints one line: the sentence, and the code where there is one.
func printError(w io.Writer, err error) {
	var e *session.Error
	switch {
	case errors.As(err, &e):
		fmt.Fprintf(w, "srprof: %v [%s]\n", err, e.Code)
	case isUsage(err):
		fmt.Fprintf(w, "srprof: %v; srprof --help shows how it is used\n", err)
	default:
		fmt.Fprintf(w, "srprof: %v\n", err)
	}
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

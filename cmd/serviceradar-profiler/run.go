// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/auth"
	"github.com/carverauto/serviceradar-profiler/config"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// streams is where the program writes.
type streams struct{ out, err io.Writer }

// Exit codes. They are part of the command's contract; --help tells them.
const (
	exitOK           = 0
	exitFailed       = 1
	exitConfig       = 2
	exitNotPermitted = 4
)

const program = "serviceradar-profiler"

// run is the program as a function. It returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	root := rootCommand(s)
	root.SetArgs(oldFlags(args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	for _, e := range each(err) {
		fmt.Fprintf(s.err, "%s: %v%s\n", program, e, code(e))
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return exitNotPermitted
	case code(err) != "" && !errors.Is(err, errCannotServe) || isUsage(err):
		return exitConfig
	}
	return exitFailed
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

func rootCommand(s streams) *cobra.Command {
	var path string
	root := &cobra.Command{
		Use:   program,
		Short: "Run profiling sessions on this host for whoever may ask",
		Long: `Samples processes of this host with eBPF, on request: by gRPC, for srprof and
for ServiceRadar's agents and pollers. Clients show a certificate.

SIGHUP makes it read the configuration again: limits, access and certificates
change at once; what else changed is told to need a restart. A configuration
that is wrong changes nothing.

SIGTERM ends it: sessions end, their results can be fetched for the grace
period, unless all were fetched or nobody is connected. A second one ends it
at once. Nothing stays in the kernel, however it ends.

Exit codes: 0 ended by a signal, 1 failure, 2 the configuration or the command
line is wrong, 4 not permitted to read or listen.`,
		Version:       profiler.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return serve(c.Context(), path, s) },
	}
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.SetVersionTemplate(program + " {{.Version}}\n")
	root.PersistentFlags().StringVarP(&path, "config", "c", "/etc/serviceradar/profiler.json", "the configuration `file`; empty for none, where the environment says all")
	root.AddCommand(configCommand(s, &path))
	return root
}

func configCommand(s streams, path *string) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check the configuration, or show one", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration and its certificates",
		Long: `Reads the configuration and the certificates that it names, and says all that is
wrong, a line each. Exit code 0 if the service would start with it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			settings, err := load(*path)
			if err != nil {
				return err
			}
			if _, err := settings.Security.ServerCredentials(settings.ListenAddr, nil); err != nil {
				return inFile(settings.place(*path, "security"), "security", err)
			}
			fmt.Fprintf(s.out, "%s: good\n", settings.place(*path, ""))
			if settings.Access.Empty() {
				fmt.Fprintf(s.err, "%s: %s: but %s\n", program, *path, nobodyMay)
			}
			return nil
		},
	}, &cobra.Command{
		Use:   "example",
		Short: "Write a configuration with each key and its default",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			e := json.NewEncoder(s.out)
			e.SetIndent("", "  ")
			return e.Encode(example())
		},
	})
	return c
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

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/daemon"
	"github.com/carverauto/serviceradar-profiler/version"
)

const program = "serviceradar-profiler-agent"

// run is the program as a function. It returns the exit code.
func run(ctx context.Context, args []string, s daemon.Streams) int {
	root := rootCommand(s)
	root.SetArgs(daemon.OldFlags(args))
	return daemon.Exit(program, root.ExecuteContext(ctx), s.Err)
}

func rootCommand(s daemon.Streams) *cobra.Command {
	var path string
	root := &cobra.Command{
		Use:   program,
		Short: "Decide who may profile what on this host, and hand it to the profiler",
		Long: `Stands before the serviceradar-profiler of this host: for srprof, for pollers of
ServiceRadar, and, where next_agent_address names it, before the host's own
serviceradar-agent, to which everything else is handed on as it is. It needs no
privilege.

SIGHUP makes it read the configuration again: limits, access and certificates
change at once; what else changed is told to need a restart. A configuration
that is wrong changes nothing.

SIGTERM ends it. Sessions go on in the profiler.

Exit codes: 0 ended by a signal, 1 failure, 2 the configuration or the command
line is wrong, 4 not permitted to read or listen.`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE:          func(c *cobra.Command, _ []string) error { return serve(c.Context(), path, s) },
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate(program + " {{.Version}}\n")
	root.PersistentFlags().StringVarP(&path, "config", "c", "/etc/serviceradar/profiler-agent.json", "the configuration `file`, an agent.json of ServiceRadar too; empty for none, where the environment says all")
	root.AddCommand(configCommand(s, &path))
	return root
}

func configCommand(s daemon.Streams, path *string) *cobra.Command {
	c := &cobra.Command{Use: "config", Short: "Check the configuration, or show one", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(&cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration and its certificates",
		Long: `Reads the configuration and the certificates that it names, and says all that is
wrong, a line each; then which keys have no effect here. Exit code 0 if the
agent would start with it.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			settings, err := load(*path)
			if err != nil {
				return err
			}
			if _, err := settings.credentials(nil); err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s: good\n", settings.source.Of(""))
			for _, note := range settings.notes() {
				fmt.Fprintf(s.Err, "%s: %s: %s\n", program, settings.source.Of(""), note)
			}
			return nil
		},
	}, &cobra.Command{
		Use:   "example",
		Short: "Write a configuration with each key and its default",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			e := json.NewEncoder(s.Out)
			e.SetIndent("", "  ")
			return e.Encode(example())
		},
	})
	return c
}

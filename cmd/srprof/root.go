// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/version"
)

// streams is where a command writes.
type streams = output.Streams

// run is the program as a function. It returns the exit code.
func run(ctx context.Context, args []string, s streams) int {
	out := output.NewStandard(s.Out)
	s.Out = out
	root := rootCommand(s)
	root.SetArgs(args)
	c, err := root.ExecuteContextC(ctx)
	if usage := usageError(c, err); usage != nil {
		err = usage
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if failed := out.Failed(); failed != nil && (err == nil || errors.Is(err, failed)) { // some do not look, others wrap it
		err = failed
	}
	switch {
	case err == nil, errors.Is(err, errInterrupted), errors.Is(err, errPartial), errors.Is(err, errNotReady): // all is said
	case errors.Is(err, output.ErrNoReader):
	case c.Flags().Lookup(outputName) != nil && wantsJSON(args):
		printErrorJSON(s.Err, err)
	default:
		printError(s.Err, err)
	}
	return exitCode(err)
}

func rootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:   "srprof",
		Short: "See what running processes do: a flame graph in seconds, no restart",
		Long: `srprof samples running processes with eBPF and draws what they do as a flame
graph, with function names of user and kernel code. The processes need no
restart, no rebuild and no preparation. They may be on this host, on another one
where serviceradar-profiler serves, or on many behind a poller.

Exit codes of all commands: 0 ok, 1 failure, 2 usage, 3 some hosts failed and
the others have a profile, 4 not permitted, 5 no samples, 130 interrupted or
canceled, 141 nobody reads standard output. Results go to standard output, all
else to standard error; with -o json, errors are JSON, too, with a code for
programs.`,
		Example: `  srprof record --pid 4242 -o web.svg                       on this host
  srprof hosts                                              behind a poller
  srprof ps web-01
  srprof run web-01 --name nginx -d 30s -o nginx.svg
  srprof run -l service=shop --hottest --dry-run`,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return c.Help()
		},
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	cobra.EnableCommandSorting = false // they have an order already
	cobra.AddTemplateFunc("flagGroups", flagGroups)
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"Flags:\n{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}", "{{flagGroups .}}", 1))
	root.SetVersionTemplate("srprof {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error {
		return fmt.Errorf("%w: %w", errFlag, err)
	})
	for _, g := range []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Record and look:", []*cobra.Command{recordCommand(s), symbolizeCommand(s), mergeCommand(s), doctorCommand(s)}},
		{"Hosts of a fleet:", []*cobra.Command{hostsCommand(s), psCommand(s), runCommand(s)}},
		{"Sessions:", []*cobra.Command{startCommand(s), watchCommand(s), topCommand(s), fetchCommand(s), listCommand(s), getCommand(s), cancelCommand(s)}},
		{"Connection:", []*cobra.Command{contextCommand(s), certsCommand(s), upCommand(s)}},
	} {
		root.AddGroup(&cobra.Group{ID: g.title, Title: g.title})
		for _, c := range g.commands {
			c.GroupID = g.title
			root.AddCommand(c)
		}
	}
	// Only flags and arguments that say so take files.
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetCompletionCommandGroupID("Connection:")
	root.SetHelpCommand(helpCommand())
	root.SetHelpCommandGroupID("Connection:")
	return root
}

// helpCommand is cobra's, but that what is not known is a mistake.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command",
		RunE: func(c *cobra.Command, args []string) error {
			of, rest, err := c.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = of.ValidateArgs(rest)
			}
			if usage := usageError(of, err); usage != nil {
				return usage
			}
			return of.Help()
		},
		ValidArgsFunction: func(c *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective) {
			of, rest, err := c.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			var names []string
			for _, sub := range of.Commands() {
				if sub.IsAvailableCommand() {
					names = append(names, cobra.CompletionWithDesc(sub.Name(), sub.Short))
				}
			}
			return beginning(names, start), cobra.ShellCompDirectiveNoFileComp
		},
	}
}

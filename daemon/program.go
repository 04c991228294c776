// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/interrupt"
	"github.com/carverauto/serviceradar-profiler/version"
)

// Program is a service as a command: it serves until a signal ends it, says
// what is wrong with its configuration, and shows one.
type Program struct {
	Name        string // of the command
	Short, Long string // what it is, for --help
	Config      string // the file that is read where no other is named
	ConfigUsage string // what --help says of it
	CheckLong   string // what --help says of config check

	Serve func(context.Context, *Call) error // until the context is over
	// Check is all of Serve that needs neither rights nor ports. Notes are what
	// is good, and yet may be otherwise than it seems.
	Check   func(path string) (source Source, notes []string, err error)
	Example func() any // a configuration with each key
}

// Call is how a program was called to serve.
type Call struct {
	Path string // of the configuration; empty: none
	Out  Streams

	hangup <-chan os.Signal
}

// Main is the program from its beginning to its end.
func (p *Program) Main() {
	signal.Ignore(syscall.SIGPIPE) // who reads the log may go away
	os.Exit(p.Run(interrupt.Context(os.Interrupt, syscall.SIGTERM), os.Args[1:], Streams{Out: os.Stdout, Err: os.Stderr}))
}

// Run is the program as a function. It returns the exit code.
func (p *Program) Run(ctx context.Context, args []string, s Streams) int {
	root := p.command(s)
	root.SetArgs(oldFlags(args))
	return exit(p.Name, root.ExecuteContext(ctx), s.Err)
}

func (p *Program) command(s Streams) *cobra.Command {
	var path string
	root := &cobra.Command{
		Use: p.Name, Short: p.Short, Long: p.Long,
		Version:       version.String(),
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			reload := make(chan os.Signal, 1) // from the beginning: by default the signal ends a program
			signal.Notify(reload, syscall.SIGHUP)
			defer signal.Stop(reload)
			return p.Serve(c.Context(), &Call{Path: path, Out: s, hangup: reload})
		},
	}
	root.SetOut(s.Out)
	root.SetErr(s.Err)
	root.SetVersionTemplate(p.Name + " {{.Version}}\n")
	root.PersistentFlags().StringVarP(&path, "config", "c", p.Config, p.ConfigUsage)
	c := &cobra.Command{Use: "config", Short: "Check the configuration, or show one", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(p.check(s, &path), p.example(s))
	root.AddCommand(c)
	return root
}

func (p *Program) check(s Streams, path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with the configuration and its certificates",
		Long:  p.CheckLong,
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			source, notes, err := p.Check(*path)
			if err != nil {
				return err
			}
			fmt.Fprintf(s.Out, "%s: good\n", source.Of(""))
			for _, note := range notes {
				fmt.Fprintf(s.Err, "%s: %s: %s\n", p.Name, source.Of(""), note)
			}
			return nil
		},
	}
}

func (p *Program) example(s Streams) *cobra.Command {
	return &cobra.Command{
		Use:   "example",
		Short: "Write a configuration with each key and its default",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			e := json.NewEncoder(s.Out)
			e.SetIndent("", "  ")
			return e.Encode(p.Example())
		},
	}
}

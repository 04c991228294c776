// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"

	"github.com/carverauto/serviceradar-profiler/contexts"
	"github.com/carverauto/serviceradar-profiler/tryout"
	"github.com/spf13/cobra"
)

func upCommand(s streams) *cobra.Command {
	var u tryout.System
	c := &cobra.Command{
		Use:   "up [flags]",
		Short: "Run profiler, agent and poller on this machine, to try the whole system",
		Long: `Starts the three services as they are installed on many hosts, on this one: with
certificates made for it, on free ports of the loopback interface, and with what
they keep in a directory that is removed at the end. It makes a context of it,
so that srprof run, ps, list and all others find it; then it says what to type.

Ctrl-C ends it, and nothing of it remains; nor does it however else it ends. The
profiler needs to be root, and so does this command. With sudo, what it makes
can be used by who called sudo.

The programs are looked for beside srprof, then in $PATH.`,
		Example: `  sudo srprof up
  sudo srprof up --dir /var/tmp/try                keeps sessions, profiles and certificates
  sudo srprof up --listen 192.0.2.7                for others to call, on the usual ports`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			u.Log = s.Err
			stop := context.AfterFunc(c.Context(), func() { fmt.Fprintln(s.Err, "srprof: ending") })
			defer stop()
			return u.Run(c.Context(), func(r *tryout.Ready) { tellReady(s, r) })
		},
	}
	f := c.Flags()
	f.StringVar(&u.Dir, "dir", "", "keep everything in `DIR`, and go on with what is there (default: a temporary directory)")
	f.StringVar(&u.Listen, "listen", "", "`HOST` or address to listen at, on the usual ports (default: free ports of 127.0.0.1)")
	completeDirs(c, "dir")
	c.AddCommand(upCleanupCommand())
	return c
}

// upCleanupCommand is what runs beside srprof up, to clean up after it.
func upCleanupCommand() *cobra.Command {
	var dir string
	var keep bool
	c := &cobra.Command{
		Use:    tryout.CleanupCommand,
		Short:  "Remove what srprof up has made, when standard input ends",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return tryout.Cleanup(os.Stdin, dir, keep) },
	}
	c.Flags().StringVar(&dir, "dir", "", "the directory")
	c.Flags().BoolVar(&keep, "keep", false, "leave the directory")
	return c
}

// tellReady says what to type.
func tellReady(s streams, r *tryout.Ready) {
	fmt.Fprintf(s.Err, "srprof: profiler, agent and poller serve; the poller is at %s\n", r.Poller)
	fmt.Fprint(s.Err, "\nIn another terminal:\n\n")
	if r.Config != "" {
		fmt.Fprintf(s.Out, "  export %s=%s\n", contexts.ConfigVariable, r.Config)
	}
	fmt.Fprintf(s.Out, `  %[2]s hosts
  %[2]s ps %[1]s
  %[2]s run %[1]s --hottest -d 10s -o flame.svg
`, r.Host, typed())
	kept := "and removes all of it"
	if r.Kept {
		kept = "and keeps " + r.Dir
	}
	fmt.Fprintf(s.Err, "\nCtrl-C ends it %s. Logs are in %s.\n", kept, r.Dir)
}

// typed is how to call this program in any terminal: by its name where $PATH has
// it, else, as in a folder where it was just built, by its path.
func typed() string {
	const name = "srprof"
	self, err := os.Executable()
	if err != nil {
		return name
	}
	own, err := os.Stat(self)
	if err != nil {
		return name
	}
	if found, err := exec.LookPath(name); err == nil {
		if other, err := os.Stat(found); err == nil && os.SameFile(own, other) {
			return name
		}
	}
	return self
}

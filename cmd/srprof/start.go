// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/carverauto/serviceradar-profiler/terminal"
	"github.com/spf13/cobra"
)

func startCommand(s streams) *cobra.Command {
	var n connection
	var a asking
	var form formFlag
	c := &cobra.Command{
		Use:   "start [HOST…] --pid PID|--name NAME|… [flags]",
		Short: "Start a session and print its ID",
		Long: `Starts a session, prints its ID and leaves it alone: srprof watch tells how it
goes, srprof top what it has found so far, and srprof fetch gets its profile, for
some time after its end. It returns when sampling is on, or when the session
waits for its turn.
` + hostsHelp + `

Who asks for exactly what a running session does is given that session, and its
profile. To start and fetch in one command: srprof run.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure (also if the profiler is busy), 2 usage, 4 not permitted.`,
		Example: `  srprof start --pid 4242 --duration 30s --server web-01 --cert-dir certs
  srprof start -l service=shop --unit nginx -d 30s
  id=$(srprof start web-01 --pid 4242) && srprof watch $id && srprof fetch $id -o web.svg`,
		RunE: func(c *cobra.Command, args []string) error {
			a.spec.Hosts.Names, n.asked = args, args
			return startSession(c.Context(), s, &n, &a, form.json())
		},
	}
	a.addFlags(c)
	a.addHostFlags(c, &n)
	a.addServiceFlags(c)
	c.Flags().StringVar(&a.spec.RequestID, "request-id", "", "`TEXT` that stands for this request: to start again with the same one gives the same session")
	n.addFlags(c)
	n.completeSelector(c, false)
	form.addFormFlag(c, false)
	return c
}

func startSession(ctx context.Context, s streams, n *connection, a *asking, asJSON bool) error {
	if a.spec.RequestID == "" {
		a.spec.RequestID = rand.Text()
	}
	if err := a.check(); err != nil {
		return err
	}
	return n.ask(ctx, func(there *dialed) error {
		one, err := there.Start(ctx, a.spec)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(s.Out, &one)
		}
		if _, err := fmt.Fprintln(s.Out, terminal.Printable(string(one.ID))); err != nil {
			return fmt.Errorf("write the ID: %w", err)
		}
		fmt.Fprintf(s.Err, "srprof: %s on %s: %s, %s%s\n", terminal.State(&one), terminal.Where(&one), terminal.Target(&one), terminal.Asked(&one.Spec), terminal.Shared(&one))
		return nil
	})
}

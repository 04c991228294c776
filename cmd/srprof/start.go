// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// asking is what is asked of a profiler, here or elsewhere.
type asking struct {
	spec      session.Spec
	frequency int
}

func (a *asking) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.IntSliceVarP(&a.spec.PIDs, "pid", "p", nil, "process to profile; may be given several times")
	f.BoolVar(&a.spec.Children, "children", false, "profile their child processes too, also those born later")
	f.DurationVarP(&a.spec.Duration, "duration", "d", session.DefaultDuration, "how long to sample: 1ms to 24h")
	f.IntVarP(&a.frequency, "frequency", "F", int(session.DefaultFrequency), "samples a second on each CPU: 1 to 10000")
}

// addServiceFlags are those that only a profiler that serves many has a use for.
func (a *asking) addServiceFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&a.spec.Requester, "requester", "", "on whose behalf, for the profiler's log and list (default: whose certificate it is)")
	f.DurationVar(&a.spec.MaxWait, "max-wait", 0, "how long to wait if all places are taken (default: as long as it takes)")
}

// check completes the spec.
func (a *asking) check() error {
	a.spec.Frequency = profile.Frequency(a.frequency)
	return a.spec.Validate()
}

func startCommand(s streams) *cobra.Command {
	var n connection
	var a asking
	var asJSON bool
	c := &cobra.Command{
		Use:   "start --pid PID [flags]",
		Short: "Start a session and print its ID",
		Long: `Starts a session on a profiler, prints its ID and leaves it alone: srprof watch
tells how it goes, and srprof fetch gets its profile, for some time after its
end. It returns when sampling is on, or when the session waits for its turn.

Who asks for exactly what a running session does is given that session, and its
profile. To start and fetch in one command: srprof record --server.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure (also if the profiler is busy), 2 usage, 4 not permitted.`,
		Example: `  srprof start --pid 4242 --duration 30s --server web-01 --cert-dir certs
  id=$(srprof start --pid 4242) && srprof watch $id && srprof fetch $id --output web.svg`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return startSession(c.Context(), s, &n, &a, asJSON)
		},
	}
	a.addFlags(c)
	a.addServiceFlags(c)
	c.Flags().StringVar(&a.spec.RequestID, "request-id", "", "`TEXT` that stands for this request: to start again with the same one gives the same session")
	n.addFlags(c)
	addJSONFlag(c, &asJSON)
	return c
}

func startSession(ctx context.Context, s streams, n *connection, a *asking, asJSON bool) error {
	if a.spec.RequestID == "" {
		a.spec.RequestID = rand.Text()
	}
	if err := a.check(); err != nil {
		return err
	}
	there, err := n.dial()
	if err != nil {
		return err
	}
	defer there.Close()
	one, err := there.Start(ctx, a.spec)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(s.out, &one)
	}
	if _, err := fmt.Fprintln(s.out, printable(string(one.ID))); err != nil {
		return fmt.Errorf("write the ID: %w", err)
	}
	fmt.Fprintf(s.err, "srprof: %s on %s: %s, %s%s\n", state(&one), printable(one.Host), target(&one), asked(&one.Spec), shared(&one))
	return nil
}

// shared tells who is not alone with a session that somebody else may end.
func shared(s *session.Session) string {
	if s.Shared < 2 {
		return ""
	}
	return fmt.Sprintf("; the session serves %d requests", s.Shared)
}

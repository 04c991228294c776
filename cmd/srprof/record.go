// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// recording is what srprof record was asked to do.
type recording struct {
	asking
	debug      debugFlags
	connection connection // to record on another host
	output.Destination
}

func recordCommand(s streams) *cobra.Command {
	var r recording
	r.Session = true
	c := &cobra.Command{
		Use:   "record --pid PID|--name NAME|… [flags]",
		Short: "Sample running processes of this host and write what they did",
		Long: `Samples the CPU use of running processes, user and kernel code, and writes it as
a flame graph, a profile for other tools or a table.

The extension of --output chooses the format, unless --format does:
` + formatList() + `
Without either, a table of the hottest functions goes to standard output; -o json
writes what was recorded, when and how well, instead. Several --output write the
same recording in several formats. Ctrl-C ends the recording early and writes
what was collected.

Names, inlined calls and lines that were stripped come from debug files: those
that the process sees, then those of this host. None is downloaded, unless
--debuginfod names a server.

With --server or --context, the profiler on another host samples, of that host's
processes, and the rest is the same. Ctrl-C ends the session there, unless it
serves others too. Only these flags make a recording go there, not the environment
and not the current context; srprof run does what they say.
` + connectionHelp + `

Exit codes: 0 ok, 1 failure, 2 usage, 4 not permitted, 5 no samples,
130 interrupted or canceled (the profile up to then is written).`,
		Example: `  srprof record --pid 4242
  srprof record --pid 4242 --duration 30s --output web.svg
  srprof record --unit nginx --output nginx.svg
  srprof record --pid 4242 --output web.html --output web.pb.gz
  srprof record --pid 4242 --pid 4243 --children --frequency 499 --output build.html
  srprof record --pid 4242 --format folded > web.folded
  srprof record --pid 4242 --server web-01 --cert-dir certs --output web.svg`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := r.checkPlace(c); err != nil {
				return err
			}
			return record(c.Context(), s, &r)
		},
	}
	r.asking.addFlags(c)
	r.debug.addFlags(c)
	addOutputFlags(c, &r.Destination)
	addLimitFlag(c, &r.Limit)
	r.addServiceFlags(c)
	r.connection.addFlags(c)
	r.connection.completeSelector(c, true)
	return c
}

// checkPlace refuses flags that mean nothing where the recording is: nobody
// should get a recording of this host who named the certificate for another.
func (r *recording) checkPlace(c *cobra.Command) error {
	if !r.connection.named() {
		name := r.connection.given(c)
		for _, f := range []string{"requester", "max-wait", input.LimitFlag} {
			if c.Flags().Changed(f) {
				name = f
			}
		}
		if name == "" {
			return nil
		}
		return session.Invalid("no_server", fmt.Sprintf("--%s is for recordings on another host, and none is named", name), "name it: --server HOST")
	}
	for _, name := range []string{"debug-dir", "debuginfod", "debuginfod-time", "debuginfod-size"} {
		if c.Flags().Changed(name) {
			return session.Invalid("names_come_from_server", fmt.Sprintf("--%s is for recordings on this host; with --server, the profiler finds the names", name),
				"write a .pb.gz, and name afterwards what it lacks: srprof symbolize")
		}
	}
	return nil
}

func record(ctx context.Context, s streams, r *recording) error {
	if err := r.check(); err != nil {
		return err
	}
	if err := r.debug.check(); err != nil {
		return err
	}
	outs, err := r.Create(s)
	defer outs.Abandon()
	if err != nil {
		return err
	}
	if r.connection.named() {
		return r.connection.ask(ctx, func(there *dialed) error { return recordThere(ctx, s, there, r.spec, &r.Destination, outs) })
	}
	if err := r.choose(ctx); err != nil {
		return err
	}
	show := terminal.NewProgress(s.Err)
	recorder := profiler.Recorder{Debug: r.debug.options}
	p, err := recorder.Record(ctx, r.spec, show.Update(r.spec.Duration))
	show.End()
	if err != nil {
		return tooEarly(ctx, s, err)
	}
	if err := outs.Write(p); err != nil {
		return err
	}
	if r.WantsSession() {
		if err := writeJSON(s.Out, sessionOf(&r.spec, p)); err != nil {
			return fmt.Errorf("write the session: %w", err)
		}
	}
	r.Summarize(s.Err, p)
	if err := r.ExplainTo(s.Err, p); err != nil {
		return err
	}
	if p.Meta.Ended == profile.EndedInterrupted {
		return errInterrupted
	}
	return nil
}

// tooEarly tells who interrupted a recording before it had anything.
func tooEarly(ctx context.Context, s streams, err error) error {
	if ctx.Err() == nil || !errors.Is(err, context.Canceled) && !errors.Is(err, session.ErrNoSamples) && !errors.Is(err, session.ErrNotReady) && !errors.Is(err, session.ErrCanceled) {
		return err
	}
	fmt.Fprintln(s.Err, "srprof: interrupted before there was a sample; nothing is written")
	return errInterrupted
}

// choose finds the processes that are meant on this host.
func (r *recording) choose(ctx context.Context) error {
	if r.spec.Select.Empty() {
		return nil
	}
	pids, err := host.Resolve(ctx, r.spec.Select)
	r.spec.PIDs = pids
	return err
}

// sessionOf is a recording of this host as the session that it would be
// elsewhere, for programs.
func sessionOf(spec *session.Spec, p *profile.Profile) *session.Session {
	m := &p.Meta
	one := &session.Session{
		Spec: *spec, Host: m.Host, State: session.StateSucceeded, Shared: 1, Created: m.Start, Started: m.Start, Ended: m.Start.Add(m.Duration()),
		Targets: m.Targets, EndedBy: m.Ended,
		Progress: session.Progress{Elapsed: m.Duration(), Samples: m.Counts.Samples, Lost: m.Counts.Lost, Truncated: m.Counts.Truncated},
	}
	if m.Ended == profile.EndedInterrupted {
		one.State = session.StateCanceled
	}
	if f := p.Functions(); len(f) > 0 {
		one.Progress.Hottest = f[0].Name
	}
	return one
}

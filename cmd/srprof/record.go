// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// recording is what srprof record was asked to do.
type recording struct {
	spec      session.Spec
	frequency int
	debug     debugFlags
	destination
}

func recordCommand(s streams) *cobra.Command {
	var r recording
	c := &cobra.Command{
		Use:   "record --pid PID [flags]",
		Short: "Sample running processes and write what they did",
		Long: `Samples the CPU use of running processes, user and kernel code, and writes it as
a flame graph, a profile for other tools or a table.

The extension of --output chooses the format, unless --format does:
` + formatList() + `
Without either, a table of the hottest functions goes to standard output.
Several --output write the same recording in several formats. Ctrl-C ends the
recording early and writes what was collected.

Names, inlined calls and lines that were stripped come from debug files: those
that the process sees, then those of this host. None is downloaded, unless
--debuginfod names a server.

Exit codes: 0 ok, 1 failure, 2 usage, 4 not permitted, 5 no samples,
130 interrupted (the profile up to then is written).`,
		Example: `  srprof record --pid 4242
  srprof record --pid 4242 --duration 30s --output web.svg
  srprof record --pid 4242 --output web.html --output web.pb.gz
  srprof record --pid 4242 --pid 4243 --children --frequency 499 --output build.html
  srprof record --pid 4242 --format folded > web.folded`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r.spec.Frequency = profile.Frequency(r.frequency)
			return record(c.Context(), s, &r)
		},
	}
	f := c.Flags()
	f.IntSliceVarP(&r.spec.PIDs, "pid", "p", nil, "process to profile; may be given several times")
	f.BoolVar(&r.spec.Children, "children", false, "profile their child processes too, also those born later")
	f.DurationVarP(&r.spec.Duration, "duration", "d", session.DefaultDuration, "how long to sample: 1ms to 24h")
	f.IntVarP(&r.frequency, "frequency", "F", int(session.DefaultFrequency), "samples a second on each CPU: 1 to 10000")
	r.debug.addFlags(c)
	r.addFlags(c)
	return c
}

func record(ctx context.Context, s streams, r *recording) error {
	if err := r.spec.Validate(); err != nil {
		return err
	}
	if err := r.debug.check(); err != nil {
		return err
	}
	outs, err := r.create(s)
	defer outs.abandon()
	if err != nil {
		return err
	}
	show := newProgress(s.err, &r.spec)
	recorder := profiler.Recorder{Debug: r.debug.options}
	p, err := recorder.Record(ctx, r.spec, show.update())
	show.end()
	if err != nil {
		return err
	}
	if err := outs.write(p); err != nil {
		return err
	}
	r.summarize(s.err, p)
	if err := r.explainTo(s.err, p); err != nil {
		return err
	}
	if p.Meta.Ended == profile.EndedInterrupted {
		return errInterrupted
	}
	return nil
}

// summarize says on standard error what the reader of a file would not see,
// and what the text report says itself.
func (r *recording) summarize(w io.Writer, p *profile.Profile) {
	m := &p.Meta
	if m.Ended == profile.EndedExited {
		fmt.Fprintf(w, "srprof: %s exited after %v; the profile is of the time up to then\n", m.Command(), m.Duration().Round(time.Millisecond))
	}
	if r.toStdout() {
		return
	}
	for _, warning := range m.Warnings {
		fmt.Fprintf(w, "srprof: %s\n", warning)
	}
	if us := m.Unnamed; !r.explain && len(us) > 0 && us[0].Remedy != "" && 10*us[0].Samples >= m.Counts.Samples {
		u := &us[0] // concerns the most; what else there is, --explain says
		fmt.Fprintf(w, "srprof: %s has no names in %.0f%% of the samples: %s; %s\n",
			printable(u.Object), 100*float64(u.Samples)/float64(m.Counts.Samples), printable(u.Why), printable(u.Remedy))
	}
	fmt.Fprintf(w, "srprof: wrote %s: %d samples in %v, %d lost, %d truncated, %d with unknown frames\n",
		strings.Join(r.outputs, ", "), m.Counts.Samples, m.Duration().Round(time.Millisecond), m.Counts.Lost, m.Counts.Truncated, m.Counts.Unknown)
}

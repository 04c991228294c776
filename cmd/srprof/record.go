// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/report"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
)

// recording is what srprof record was asked to do.
type recording struct {
	spec      session.Spec
	frequency int
	outputs   []string
	format    string
	metadata  string
	explain   bool
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
	f.StringArrayVarP(&r.outputs, "output", "o", nil, "file to write, - for standard output; may be given several times")
	f.StringVar(&r.format, "format", "", "format to write, whatever the file is called: "+strings.Join(formatNames(), ", "))
	f.BoolVar(&r.explain, "explain", false, "also say which code has no name, why, and what to do about it (on standard error)")
	f.StringVar(&r.metadata, "metadata", "", "also write when, where and how well it was recorded, as JSON, to this file")
	return c
}

func record(ctx context.Context, s streams, r *recording) error {
	if err := r.spec.Validate(); err != nil {
		return err
	}
	outs, err := r.createOutputs(s)
	defer outs.abandon()
	if err != nil {
		return err
	}
	show := newProgress(s.err, &r.spec)
	p, err := profiler.Record(ctx, r.spec, show.update())
	show.end()
	if err != nil {
		return err
	}
	if err := outs.write(p); err != nil {
		return err
	}
	r.summarize(s.err, p)
	if r.explain {
		if err := report.Explain(s.err, p, report.Options{}); err != nil {
			return fmt.Errorf("write the explanation: %w", err)
		}
	}
	if p.Meta.Ended == profile.EndedInterrupted {
		return errInterrupted
	}
	return nil
}

// createOutputs prepares everything that is to be written, so that what
// cannot be is found out before the recording. What it returns with an error
// is to be abandoned too.
func (r *recording) createOutputs(s streams) (outputs, error) {
	paths := r.outputs
	if len(paths) == 0 {
		paths = []string{stdoutName}
	}
	if r.format != "" && len(paths) > 1 {
		return nil, session.Invalid("format_and_outputs", "--format with several --output would write the same format to all of them",
			"leave --format out and let the file names choose")
	}
	var outs outputs
	for i, path := range paths {
		if slices.Contains(paths[:i], path) {
			return outs, session.Invalid("output_twice", "the output "+path+" is given twice", "name each output once")
		}
		format, err := chooseFormat(r.format, path)
		if err != nil {
			return outs, session.Invalid("unknown_format", err.Error(), "srprof record --help describes them")
		}
		o, err := createOutput(path, s.out)
		if err != nil {
			return outs, err
		}
		o.encode = format.Write
		outs = append(outs, o)
	}
	if r.metadata != "" {
		o, err := createOutput(r.metadata, s.out)
		if err != nil {
			return outs, err
		}
		o.encode = writeMetadata
		outs = append(outs, o)
	}
	return outs, nil
}

// chooseFormat goes by --format, then by the extension of the output.
func chooseFormat(name, path string) (encoding.Format, error) {
	switch {
	case name != "":
		return encoding.ByName(name)
	case path == stdoutName:
		return encoding.ByName("text")
	}
	return encoding.ByPath(path)
}

// summarize says on standard error what the reader of a file would not see,
// and what the text report says itself.
func (r *recording) summarize(w io.Writer, p *profile.Profile) {
	m := &p.Meta
	if m.Ended == profile.EndedExited {
		fmt.Fprintf(w, "srprof: %s exited after %v; the profile is of the time up to then\n", m.Command(), m.Duration().Round(time.Millisecond))
	}
	if len(r.outputs) == 0 || slices.Contains(r.outputs, stdoutName) {
		return
	}
	for _, warning := range m.Warnings {
		fmt.Fprintf(w, "srprof: %s\n", warning)
	}
	fmt.Fprintf(w, "srprof: wrote %s: %d samples in %v, %d lost, %d truncated, %d with unknown frames\n",
		strings.Join(r.outputs, ", "), m.Counts.Samples, m.Duration().Round(time.Millisecond), m.Counts.Lost, m.Counts.Truncated, m.Counts.Unknown)
}

func formatNames() []string {
	var names []string
	for _, f := range encoding.Formats() {
		names = append(names, f.Name)
	}
	return names
}

func formatList() string {
	var b strings.Builder
	for _, f := range encoding.Formats() {
		fmt.Fprintf(&b, "  %-11s %-17s %s\n", f.Name, strings.Join(f.Extensions, " "), f.Description)
	}
	return b.String()
}

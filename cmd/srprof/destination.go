// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/encoding/report"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
)

// destination is where a profile goes and how: what record and symbolize have
// in common.
type destination struct {
	outputs  []string
	format   string
	metadata string
	explain  bool
	names    string
	annotate string
	byHost   bool
	perHost  string // a directory
	largest  largestFlag

	sessions bool // it is of a session: "-o json" is a word, and {host} in names
	perHosts []hostOutput
}

// What --names and --annotate may say.
var (
	nameChoices     = []string{"short", "full"}
	annotateChoices = map[string]folded.Annotate{"kernel": folded.AnnotateKernel, "none": folded.AnnotateNone, "all": folded.AnnotateAll}
)

func (d *destination) addFlags(c *cobra.Command) {
	f := c.Flags()
	usage := "file to write, - for standard output; may be given several times"
	if d.sessions {
		usage = "file to write, - for standard output, json for the session as JSON; may be given several times"
	}
	f.StringArrayVarP(&d.outputs, outputName, "o", nil, usage)
	f.StringVar(&d.format, "format", "", "format to write, whatever the file is called: "+strings.Join(formatNames(), ", "))
	f.StringVar(&d.metadata, "metadata", "", "also write when, where and how well it was recorded, as JSON, to this file")
	f.StringVar(&d.names, "names", "short", "short: without parameters, template arguments as <...>; full: as demangled. pprof always has full names")
	f.StringVar(&d.annotate, "annotate", "kernel", "suffixes in folded text. kernel: _[k] on kernel functions; all: also _[i] on inlined ones and _[j] on code made at run time; none")
	f.BoolVar(&d.explain, "explain", false, "also say which code has no name, why, and what to do about it")
}

// addFleetFlags are those of what may be of several hosts.
func (d *destination) addFleetFlags(c *cobra.Command) {
	c.Flags().StringVar(&d.perHost, "per-host", "", "also write a file for each host into this `DIR`: HOST.pb.gz, or as --format says")
	d.addByHostFlag(c)
}

func (d *destination) addByHostFlag(c *cobra.Command) {
	c.Flags().BoolVar(&d.byHost, "by-host", false, "the host is the first level of pictures and text, if the profile is of several; pprof has it as the label host, always")
}

// largestFlag is how large a profile may be that is read here, in MiB as it is
// when nothing is compressed; zero stands for the default.
type largestFlag int64

func (l *largestFlag) addFlag(c *cobra.Command) {
	c.Flags().Int64Var((*int64)(l), largestName, pprof.MaxSize>>20,
		fmt.Sprintf("MiB that a profile may have, uncompressed, to be read here; reading may take %d times that memory", pprof.MemoryPerByte))
}

const largestName = "max-profile"

// read reads a profile from anywhere.
func (l largestFlag) read(from io.Reader) (*profile.Profile, error) {
	size, err := l.bytes()
	if err != nil {
		return nil, err
	}
	return pprof.ReadUpTo(from, size)
}

func (l largestFlag) bytes() (int64, error) {
	size := int64(cmp.Or(l, pprof.MaxSize>>20))
	if size < 1 || size > maxFetched>>20 {
		return 0, session.Invalid("bad_max_profile", fmt.Sprintf("--%s is %d", largestName, size), fmt.Sprintf("choose from 1 to %d", maxFetched>>20))
	}
	return size << 20, nil
}

// toStdout says whether standard output gets a profile.
func (d *destination) toStdout() bool {
	return len(d.outputs) == 0 && d.perHost == "" || slices.Contains(d.outputs, stdoutName)
}

// wantsSession says whether standard output gets the session as JSON.
func (d *destination) wantsSession() bool { return d.sessions && slices.Contains(d.outputs, formJSON) }

// written are the files that were written, for people.
func (d *destination) written() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(d.outputs), func(path string) bool {
		return d.sessions && (path == formJSON || strings.Contains(path, hostMark)) // these are told of apart
	}), ", ")
}

// explainTo writes why code has no name, if that was asked for: to standard
// error, as all that is about a profile and not the profile, so that it goes
// with any output.
func (d *destination) explainTo(w io.Writer, p *profile.Profile) error {
	if !d.explain {
		return nil
	}
	if err := report.Explain(w, p, report.Options{}); err != nil {
		return fmt.Errorf("write the explanation: %w", err)
	}
	return nil
}

// options are those of all formats.
func (d *destination) options() (o encoding.Options, err error) {
	if !slices.Contains(nameChoices, d.names) {
		return o, session.Invalid("unknown_names", fmt.Sprintf("--names is %q", d.names), "say short or full")
	}
	o.FullNames, o.ByHost = d.names == "full", d.byHost
	var ok bool
	if o.Annotate, ok = annotateChoices[d.annotate]; !ok {
		return o, session.Invalid("unknown_annotate", fmt.Sprintf("--annotate is %q", d.annotate), "say kernel, none or all")
	}
	return o, nil
}

// create prepares everything that is to be written, so that what
// cannot be is found out before the recording. What it returns with an error
// is to be abandoned too.
func (d *destination) create(s streams) (outputs, error) {
	paths := d.outputs
	if len(paths) == 0 && d.perHost == "" {
		paths = []string{stdoutName}
	}
	if d.format != "" && len(paths) > 1 {
		return nil, session.Invalid("format_and_outputs", "--format with several --output would write the same format to all of them",
			"leave --format out and let the file names choose")
	}
	options, err := d.options()
	if err != nil {
		return nil, err
	}
	var outs outputs
	for i, path := range paths {
		switch {
		case slices.Contains(paths[:i], path):
			return outs, session.Invalid("output_twice", "the output "+path+" is given twice", "name each output once")
		case d.sessions && path == formJSON:
			if slices.Contains(paths, stdoutName) {
				return outs, session.Invalid("output_twice", "the session and a profile are both to go to standard output", "write the profile to a file")
			}
			continue
		}
		format, err := chooseFormat(d.format, path)
		if err != nil {
			return outs, session.Invalid("unknown_format", err.Error(), "srprof record --help describes them")
		}
		if d.sessions && strings.Contains(path, hostMark) {
			d.perHosts = append(d.perHosts, hostOutput{path, format, options})
			continue
		}
		o, err := createOutput(path, s.out)
		if err != nil {
			return outs, err
		}
		o.format(format, options)
		outs = append(outs, o)
	}
	if err := d.createPerHost(options); err != nil {
		return outs, err
	}
	if d.metadata != "" {
		o, err := createOutput(d.metadata, s.out)
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

// summarize says on standard error what the reader of a file would not see,
// and what the text report says itself.
func (d *destination) summarize(w io.Writer, p *profile.Profile) {
	m := &p.Meta
	if m.Ended == profile.EndedExited {
		fmt.Fprintf(w, "srprof: %s exited after %v; the profile is of the time up to then\n", printable(m.Command()), m.Duration().Round(time.Millisecond))
	}
	if d.toStdout() {
		return
	}
	for _, warning := range m.Warnings {
		if d.sessions && aboutMissing(m, warning) {
			continue // which hosts failed is told apart
		}
		fmt.Fprintf(w, "srprof: %s\n", printable(warning))
	}
	if us := m.Unnamed; !d.explain && len(us) > 0 && us[0].Remedy != "" && 10*us[0].Samples >= m.Counts.Samples {
		u := &us[0] // concerns the most; what else there is, --explain says
		fmt.Fprintf(w, "srprof: %s has no names in %.0f%% of the samples: %s; %s\n",
			printable(u.Object), 100*float64(u.Samples)/float64(m.Counts.Samples), printable(u.Why), printable(u.Remedy))
	}
	written := d.written()
	if written == "" { // but the session
		return
	}
	fmt.Fprintf(w, "srprof: wrote %s: %d samples in %v, %d lost, %d truncated, %d with unknown frames\n",
		written, m.Counts.Samples, m.Duration().Round(time.Millisecond), m.Counts.Lost, m.Counts.Truncated, m.Counts.Unknown)
}

// aboutMissing says whether a warning tells only that hosts are missing.
func aboutMissing(m *profile.Metadata, warning string) bool {
	return slices.ContainsFunc(m.Hosts, func(h profile.HostPart) bool {
		return h.Missing != "" && strings.HasSuffix(warning, " missing: "+h.Missing)
	})
}

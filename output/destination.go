// SPDX-License-Identifier: Apache-2.0

// Package output is where profiles go: into files of a format that their names
// choose, each written whole or not at all, one for each host if that is wanted.
package output

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/folded"
	"github.com/carverauto/serviceradar-profiler/encoding/report"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// Destination is where a profile goes, and how.
type Destination struct {
	Paths    []string // files; none stands for standard output
	Format   string   // by name, whatever the files are called; empty: their names choose
	Metadata string   // also a file for how it was recorded
	Explain  bool     // also say which code has no name, and why
	Names    string   // one of NameChoices
	Annotate string   // one of AnnotateChoices
	ByHost   bool     // the host is the first level
	PerHost  string   // a directory for a file for each host
	Limit    input.Limit

	// Session says that it is of a session: "json" stands for the session as JSON,
	// and {host} in a name makes a file for each host.
	Session bool

	perHosts []hostOutput
}

// What Names and Annotate may be; the first is the usual one.
var (
	NameChoices     = []string{"short", "full"}
	AnnotateChoices = []string{"kernel", "none", "all"}
)

var annotates = map[string]folded.Annotate{"kernel": folded.AnnotateKernel, "none": folded.AnnotateNone, "all": folded.AnnotateAll}

const (
	// Stdout is how users name standard output.
	Stdout = "-"
	// SessionJSON is how users name the session as an output.
	SessionJSON = "json"
)

// Streams is where a command writes: results to Out, everything else to Err.
type Streams struct{ Out, Err io.Writer }

// ToStdout says whether standard output gets a profile.
func (d *Destination) ToStdout() bool {
	return len(d.Paths) == 0 && d.PerHost == "" || slices.Contains(d.Paths, Stdout)
}

// WantsSession says whether standard output gets the session as JSON.
func (d *Destination) WantsSession() bool { return d.Session && slices.Contains(d.Paths, SessionJSON) }

// written are the files that were written, for people.
func (d *Destination) written() string {
	return strings.Join(slices.DeleteFunc(slices.Clone(d.Paths), func(path string) bool {
		return d.Session && (path == SessionJSON || strings.Contains(path, hostMark)) // these are told of apart
	}), ", ")
}

// ExplainTo writes why code has no name, if that was asked for: to standard
// error, as all that is about a profile and not the profile, so that it goes
// with any output.
func (d *Destination) ExplainTo(w io.Writer, p *profile.Profile) error {
	if !d.Explain {
		return nil
	}
	if err := report.Explain(w, p, report.Options{}); err != nil {
		return fmt.Errorf("write the explanation: %w", err)
	}
	return nil
}

// options are those of all formats.
func (d *Destination) options() (o encoding.Options, err error) {
	if !slices.Contains(NameChoices, d.Names) {
		return o, session.Invalid("unknown_names", fmt.Sprintf("--names is %q", d.Names), "say short or full")
	}
	o.FullNames, o.ByHost = d.Names == "full", d.ByHost
	var ok bool
	if o.Annotate, ok = annotates[d.Annotate]; !ok {
		return o, session.Invalid("unknown_annotate", fmt.Sprintf("--annotate is %q", d.Annotate), "say kernel, none or all")
	}
	return o, nil
}

// Create prepares everything that is to be written, so that what cannot be is
// found out before the recording. What it returns with an error is to be
// abandoned too.
func (d *Destination) Create(s Streams) (Files, error) {
	paths := d.Paths
	if len(paths) == 0 && d.PerHost == "" {
		paths = []string{Stdout}
	}
	if d.Format != "" && len(paths) > 1 {
		return nil, session.Invalid("format_and_outputs", "--format with several --output would write the same format to all of them",
			"leave --format out and let the file names choose")
	}
	options, err := d.options()
	if err != nil {
		return nil, err
	}
	var outs Files
	for i, path := range paths {
		switch {
		case slices.Contains(paths[:i], path):
			return outs, session.Invalid("output_twice", "the output "+path+" is given twice", "name each output once")
		case d.Session && path == SessionJSON:
			if slices.Contains(paths, Stdout) {
				return outs, session.Invalid("output_twice", "the session and a profile are both to go to standard output", "write the profile to a file")
			}
			continue
		}
		format, err := chooseFormat(d.Format, path)
		if err != nil {
			return outs, session.Invalid("unknown_format", err.Error(), "srprof record --help describes them")
		}
		if d.Session && strings.Contains(path, hostMark) {
			d.perHosts = append(d.perHosts, hostOutput{path, format, options})
			continue
		}
		o, err := createFile(path, s.Out)
		if err != nil {
			return outs, err
		}
		o.format(format, options)
		outs = append(outs, o)
	}
	if err := d.createPerHost(options); err != nil {
		return outs, err
	}
	if d.Metadata != "" {
		o, err := createFile(d.Metadata, s.Out)
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
	case path == Stdout:
		return encoding.ByName("text")
	}
	return encoding.ByPath(path)
}

// Summarize says on standard error what the reader of a file would not see,
// and what the text report says itself.
func (d *Destination) Summarize(w io.Writer, p *profile.Profile) {
	m := &p.Meta
	if m.Ended == profile.EndedExited {
		fmt.Fprintf(w, "srprof: %s exited after %v; the profile is of the time up to then\n", terminal.Printable(m.Command()), m.Duration().Round(time.Millisecond))
	}
	if d.ToStdout() {
		return
	}
	for _, warning := range m.Warnings {
		if d.Session && aboutMissing(m, warning) {
			continue // which hosts failed is told apart
		}
		fmt.Fprintf(w, "srprof: %s\n", terminal.Printable(warning))
	}
	if us := m.Unnamed; !d.Explain && len(us) > 0 && us[0].Remedy != "" && 10*us[0].Samples >= m.Counts.Samples {
		u := &us[0] // concerns the most; what else there is, --explain says
		fmt.Fprintf(w, "srprof: %s has no names in %.0f%% of the samples: %s; %s\n",
			terminal.Printable(u.Object), 100*float64(u.Samples)/float64(m.Counts.Samples), terminal.Printable(u.Why), terminal.Printable(u.Remedy))
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

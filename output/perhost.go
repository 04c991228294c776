// SPDX-License-Identifier: Apache-2.0

package output

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// hostMark stands for the host in the name of an output.
const hostMark = "{host}"

// hostOutput is a file for each host.
type hostOutput struct {
	path    string // with the mark
	format  encoding.Format
	options encoding.Options
}

// createPerHost prepares the files of --per-host, and checks that the places of
// all files for hosts can be written, as far as that is known before.
func (d *Destination) createPerHost(options encoding.Options) error {
	if d.PerHost != "" {
		format, err := encoding.ByName(cmp.Or(d.Format, session.FormatPprof))
		if err != nil {
			return session.Invalid("unknown_format", err.Error(), "srprof record --help describes them")
		}
		if err := os.MkdirAll(d.PerHost, 0o777); err != nil {
			return unwritable(d.PerHost, err)
		}
		d.perHosts = append(d.perHosts, hostOutput{filepath.Join(d.PerHost, hostMark+format.Extensions[0]), format, options})
	}
	for _, h := range d.perHosts {
		dir := filepath.Dir(h.path)
		if strings.Contains(dir, hostMark) {
			continue
		}
		probe, err := os.CreateTemp(dir, ".srprof.*.tmp")
		if err != nil {
			return unwritable(h.path, err)
		}
		if err := errors.Join(probe.Close(), os.Remove(probe.Name())); err != nil {
			return unwritable(h.path, err)
		}
	}
	return nil
}

// takePerHost fetches and writes what each host has. A host whose part cannot
// be had does not keep the others from being written.
func (d *Destination) takePerHost(ctx context.Context, s Streams, there session.Runner, of *session.Session) error {
	if len(d.perHosts) == 0 {
		return nil
	}
	runs := of.Hosts
	if len(runs) == 0 { // a profiler's: all of it is its host's
		runs = []session.HostRun{{Host: of.Host, State: of.State}}
	}
	var failed []error
	written, names := 0, map[string]bool{}
	for i := range runs {
		h := &runs[i]
		if h.State == session.StateFailed || h.State == session.StatePending {
			continue
		}
		name := fileName(h.Host)
		for n := 2; names[name]; n++ {
			name = fmt.Sprintf("%s-%d", fileName(h.Host), n)
		}
		names[name] = true
		asked := h.Host
		if len(of.Hosts) == 0 {
			asked = ""
		}
		if err := d.takeFiles(ctx, s, there, of.ID, asked, name); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", terminal.Printable(h.Host), err))
			continue
		}
		written++
	}
	if written > 0 {
		for _, h := range d.perHosts {
			fmt.Fprintf(s.Err, "srprof: wrote %s for %s\n", h.path, terminal.Plural(written, "host", "hosts"))
		}
	}
	return errors.Join(failed...)
}

// takeFiles writes one host's profile to all files that are for hosts.
func (d *Destination) takeFiles(ctx context.Context, s Streams, there session.Runner, id session.ID, host, name string) error {
	f, err := input.Fetch(ctx, there, id, host)
	if err != nil {
		return err
	}
	defer f.Close()
	var outs Files
	defer func() { outs.Abandon() }()
	for _, h := range d.perHosts {
		path := strings.ReplaceAll(h.path, hostMark, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			return unwritable(path, err)
		}
		o, err := createFile(path, io.Discard)
		if err != nil {
			return err
		}
		o.format(h.format, h.options)
		outs = append(outs, o)
	}
	_, err = d.writeFetched(f, outs)
	return err
}

// fileName makes of a host's name, which is another's word, one that is a name
// of a file and leads nowhere else.
func fileName(host string) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, host)
	const longest = 200
	name = strings.TrimLeft(name[:min(len(name), longest)], ".")
	return cmp.Or(name, "host")
}

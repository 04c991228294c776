// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/debugdir"
	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// symbolizing is what srprof symbolize was asked to do.
type symbolizing struct {
	file  string
	debug debugFlags
	all   bool
	output.Destination
}

func symbolizeCommand(s streams) *cobra.Command {
	var y symbolizing
	c := &cobra.Command{
		Use:   "symbolize FILE [flags]",
		Short: "Name afterwards what a recorded profile has no names for",
		Long: `Reads a profile in pprof's format (.pb.gz), as srprof record and other tools
write it, and names the code that has no name in it, by files that have its
build ID: debug files, or objects as they were before they were stripped. The
process, its host and its files are not needed. What has a name keeps it.

Files are looked for in each --debug-dir: at .build-id/xx/yyyy.debug, as debug
packages install them, then among all files there; and where this host has
debug packages installed. None is downloaded, unless --debuginfod names a
server. Formats are chosen as by srprof record; FILE may be -
for standard input.

Exit codes: 0 ok, 1 failure (also if nothing could be named; then nothing is
written), 2 usage.`,
		Example: `  srprof symbolize web.pb.gz --debug-dir /srv/debug --output web.svg
  srprof symbolize web.pb.gz --debug-dir build/unstripped --output named.pb.gz --explain`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			y.file = args[0]
			return symbolize(c.Context(), s, &y)
		},
	}
	y.debug.addFlags(c)
	c.Flags().Lookup("debug-dir").Usage = "directory with debug files or unstripped objects, laid out as you like; may be given several times"
	c.Flags().BoolVar(&y.all, "all", false, "name anew what has a name, too, where the files have one")
	addOutputFlags(c, &y.Destination)
	addLimitFlag(c, &y.Limit)
	completeProfiles(c, 1)
	return c
}

func symbolize(ctx context.Context, s streams, y *symbolizing) error {
	if err := y.debug.check(); err != nil {
		return err
	}
	index, err := debugdir.Open(y.debug.options)
	if err != nil {
		return noDebugDir(err)
	}
	defer index.Close()
	p, err := y.Limit.ReadFile(ctx, y.file)
	if err != nil {
		return err
	}
	outs, err := y.Create(s)
	defer outs.Abandon()
	if err != nil {
		return err
	}
	before := len(p.Addresses) - p.Named()
	named := index.Symbolize(p, y.all)
	if named == 0 && before > 0 {
		return nothingNamed(p, index.Incomplete())
	}
	if err := outs.Write(p); err != nil {
		return err
	}
	if skipped := index.Incomplete(); skipped != "" {
		fmt.Fprintf(s.Err, "srprof: %s\n", skipped)
	}
	if !y.ToStdout() {
		fmt.Fprintf(s.Err, "srprof: wrote %s: %d samples, %d addresses named, %d left without a name\n",
			strings.Join(y.Paths, ", "), p.Meta.Counts.Samples, named, len(p.Addresses)-p.Named())
	}
	return y.ExplainTo(s.Err, p)
}

func noDebugDir(err error) error {
	e := &session.Error{Code: "no_debug_dir", Kind: fs.ErrNotExist, Problem: "cannot look for debug files", Cause: err,
		Remedy: "name a directory that exists and that you may read"}
	if errors.Is(err, fs.ErrPermission) {
		e.Kind = fs.ErrPermission
	}
	return e
}

// nothingNamed is an error, so that nobody takes the same profile for a better one.
func nothingNamed(p *profile.Profile, skipped string) error {
	e := &session.Error{Code: "nothing_named", Kind: fs.ErrNotExist, Problem: "nothing could be named",
		Remedy: "name the directory of its debug files with --debug-dir"}
	for i := range p.Meta.Unnamed {
		if u := &p.Meta.Unnamed[i]; u.BuildID != "" {
			e.Problem += fmt.Sprintf(": of most samples without a name is %s, build ID %s", terminal.Printable(u.Object), terminal.Printable(string(u.BuildID)))
			break
		}
	}
	if skipped != "" {
		e.Cause = errors.New(skipped)
	}
	return e
}

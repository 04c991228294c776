// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// merging is what srprof merge was asked to do.
type merging struct {
	destination
	byFile bool
}

func mergeCommand(s streams) *cobra.Command {
	var m merging
	c := &cobra.Command{
		Use:   "merge FILE… [flags]",
		Short: "Make one profile of several",
		Long: `Reads profiles in pprof's format (.pb.gz), as srprof and other tools write them,
and writes one of them all, as srprof record does. Each sample keeps its host: the
one that its profile tells, else the name of the file. --by-file goes by the names
of the files, to compare two profiles of one host. --by-host makes that the first
level of the picture.

One file is read at a time. Profiles of different frequencies are compared by the
time that a sample stands for. FILE may be - for standard input.

Exit codes: 0 ok, 1 failure (also if one file cannot be read; then nothing is
written), 2 usage.`,
		Example: `  srprof merge web-01.pb.gz web-02.pb.gz -o both.svg --by-host
  srprof merge before.pb.gz after.pb.gz --by-file --by-host -o both.html`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return merge(s, &m, args) },
	}
	c.Flags().BoolVar(&m.byFile, "by-file", false, "the name of the file stands for the host, whatever the profile tells")
	m.addFlags(c)
	m.addByHostFlag(c)
	m.largest.addFlag(c)
	return c
}

func merge(s streams, m *merging, files []string) error {
	size, err := m.largest.bytes()
	if err != nil {
		return err
	}
	outs, err := m.create(s)
	defer outs.abandon()
	if err != nil {
		return err
	}
	merger := profile.NewMerger(0)
	for _, file := range files {
		if err := m.add(merger, file, size); err != nil {
			return unreadable(file, err)
		}
	}
	p := merger.Profile()
	if err := outs.write(p); err != nil {
		return err
	}
	m.summarize(s.err, p)
	return m.explainTo(s.err, p)
}

// add reads a file and takes it in.
func (m *merging) add(merger *profile.Merger, file string, size int64) error {
	in := io.Reader(os.Stdin)
	if file != stdoutName {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	p, err := pprof.ReadUpTo(in, size)
	if err != nil {
		return err
	}
	name := baseName(file)
	if m.byFile {
		for i := range p.Samples {
			p.Samples[i].Host = ""
		}
		p.Meta.Hosts, p.Meta.Host = nil, name
		for i := range p.Meta.Targets {
			p.Meta.Targets[i].Host = ""
		}
	} else if len(p.Meta.Hosts) == 0 {
		p.Meta.Host = cmp.Or(p.Meta.Host, name)
	}
	if err := merger.Add(p, ""); err != nil {
		return fmt.Errorf("cannot be merged with those before: %w", err)
	}
	return nil
}

// baseName is a file's name without what tells its format.
func baseName(file string) string {
	base := filepath.Base(file)
	for _, ext := range []string{".pb.gz", ".pprof", ".gz"} {
		if name, ok := trimSuffix(base, ext); ok {
			return name
		}
	}
	return base
}

func trimSuffix(s, suffix string) (string, bool) {
	if len(s) > len(suffix) && s[len(s)-len(suffix):] == suffix {
		return s[:len(s)-len(suffix)], true
	}
	return s, false
}

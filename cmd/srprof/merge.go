// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/output"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// merging is what srprof merge was asked to do.
type merging struct {
	output.Destination
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
		RunE: func(c *cobra.Command, args []string) error { return merge(c.Context(), s, &m, args) },
	}
	c.Flags().BoolVar(&m.byFile, "by-file", false, "the name of the file stands for the host, whatever the profile tells")
	addOutputFlags(c, &m.Destination)
	addByHostFlag(c, &m.Destination)
	addLimitFlag(c, &m.Limit)
	completeProfiles(c, -1)
	return c
}

func merge(ctx context.Context, s streams, m *merging, files []string) error {
	if _, err := m.Limit.Bytes(); err != nil {
		return err
	}
	outs, err := m.Create(s)
	defer outs.Abandon()
	if err != nil {
		return err
	}
	merger := profile.NewMerger(0)
	for _, file := range files {
		if err := m.add(ctx, merger, file); err != nil {
			return err
		}
	}
	p := merger.Profile()
	if err := outs.Write(p); err != nil {
		return err
	}
	m.Summarize(s.Err, p)
	return m.ExplainTo(s.Err, p)
}

// add reads a file and takes it in.
func (m *merging) add(ctx context.Context, merger *profile.Merger, file string) error {
	p, err := m.Limit.ReadFile(ctx, file)
	if err != nil {
		return err
	}
	name := input.Name(file)
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
		return input.Unreadable(file, fmt.Errorf("cannot be merged with those before: %w", err))
	}
	return nil
}

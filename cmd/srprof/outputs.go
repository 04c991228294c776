// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/encoding"
	"github.com/carverauto/serviceradar-profiler/encoding/pprof"
	"github.com/carverauto/serviceradar-profiler/input"
	"github.com/carverauto/serviceradar-profiler/output"
)

// addOutputFlags are those of all commands that write profiles.
func addOutputFlags(c *cobra.Command, d *output.Destination) {
	f := c.Flags()
	usage := "`FILE` to write, - for standard output; may be given several times"
	if d.Session {
		usage = "`FILE` to write, - for standard output, json for the session as JSON; may be given several times"
	}
	f.StringArrayVarP(&d.Paths, outputName, "o", nil, usage)
	f.StringVar(&d.Format, "format", "", "`NAME` of the format to write, whatever the file is called: "+strings.Join(formatNames(), ", "))
	f.StringVar(&d.Metadata, "metadata", "", "also write when, where and how well it was recorded, as JSON, to this `FILE`")
	f.StringVar(&d.Names, "names", output.NameChoices[0], "short: without parameters, template arguments as <...>; full: as demangled. pprof always has full names")
	f.StringVar(&d.Annotate, "annotate", output.AnnotateChoices[0], "suffixes in folded text. kernel: _[k] on kernel functions; all: also _[i] on inlined ones and _[j] on code made at run time; none")
	f.BoolVar(&d.Explain, "explain", false, "also say which code has no name, why, and what to do about it")
	completeFiles(c, outputName, "metadata")
	completeWords(c, "format", formatNames()...)
	completeWords(c, "names", output.NameChoices...)
	completeWords(c, "annotate", output.AnnotateChoices...)
}

// addFleetFlags are those of what may be of several hosts.
func addFleetFlags(c *cobra.Command, d *output.Destination) {
	c.Flags().StringVar(&d.PerHost, "per-host", "", "also write a file for each host into this `DIR`: HOST.pb.gz, or as --format says")
	completeDirs(c, "per-host")
	addByHostFlag(c, d)
}

func addByHostFlag(c *cobra.Command, d *output.Destination) {
	c.Flags().BoolVar(&d.ByHost, "by-host", false, "the host is the first level of pictures and text, if the profile is of several; pprof has it as the label host, always")
}

func addLimitFlag(c *cobra.Command, l *input.Limit) {
	c.Flags().Int64Var((*int64)(l), input.LimitFlag, int64(input.DefaultLimit),
		fmt.Sprintf("`MiB` that a profile may have, uncompressed, to be read here; reading may take %d times that memory", pprof.MemoryPerByte))
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

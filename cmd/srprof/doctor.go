// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/carverauto/serviceradar-profiler/sampler"
)

// errNotReady says that doctor found what would keep record from working; it
// has been printed.
var errNotReady = errors.New("this machine is not ready to record")

func doctorCommand(s streams) *cobra.Command {
	var form formFlag
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine can do, and how to get what is missing",
		Long: `Tries everything that a recording needs and says what is missing and how to get
it, and which sampler would be used: eBPF, or perf events where that cannot be
had. Exit code 0 means that srprof record would work; what is marked "limited"
makes its results poorer, not impossible.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			features := sampler.Features()
			if form.json() {
				return diagnoseJSON(s.Out, features)
			}
			return diagnose(s.Out, features)
		},
	}
	form.addFormFlag(c, false)
	return c
}

// diagnoseJSON is diagnose for programs.
func diagnoseJSON(w io.Writer, features []sampler.Feature) error {
	type feature struct {
		Name     string `json:"name"`
		OK       bool   `json:"ok"`
		Required bool   `json:"required"`
		Found    string `json:"found"`
		Remedy   string `json:"remedy,omitempty"`
	}
	var all []feature
	ready := true
	for _, f := range features {
		one := feature{Name: f.Name, OK: f.OK, Required: f.Required, Found: f.Found}
		if !f.OK {
			one.Remedy = f.Remedy
		}
		all = append(all, one)
		ready = ready && (f.OK || !f.Required)
	}
	if err := writeJSON(w, listJSON(all)); err != nil || ready {
		return err
	}
	return errNotReady
}

func diagnose(w io.Writer, features []sampler.Feature) error {
	var result error
	for _, f := range features {
		mark := "ok"
		switch {
		case !f.OK && f.Required:
			mark, result = "MISSING", errNotReady
		case !f.OK:
			mark = "limited"
		}
		fmt.Fprintf(w, "%-8s %-34s %s\n", mark, f.Name, f.Found)
		if !f.OK && f.Remedy != "" {
			fmt.Fprintf(w, "%-8s %-34s -> %s\n", "", "", f.Remedy)
		}
	}
	if result != nil {
		fmt.Fprintln(w, "\nsrprof record does not work here.")
		return result
	}
	fmt.Fprintln(w, "\nsrprof record works here.")
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/sampler"
)

// check is one thing that is tried. The details are for people to read.
type check struct {
	name  string
	run   func() (details string, err error)
	first bool // where it fails, the others cannot but fail too
}

func checks() []check {
	if what := os.Getenv("SRPROF_VM_MISSING"); what != "" {
		return []check{{name: what, run: func() (string, error) { return recordWithout(what) }}}
	}
	all := []check{
		{name: "features", run: features},
		{name: "programs", run: loading, first: true},
		{name: "sampler", run: samplerTests},
	}
	for _, t := range targets() {
		all = append(all, check{name: t.name, run: t.check})
	}
	all = append(all, check{name: "clock jumps", run: clockJumps}, check{name: "a CPU goes and comes", run: cpuGoes})
	// The build for old kernels must do on new ones too.
	if os.Getenv(sampler.EnvBuild) == "" {
		const old = "4.9"
		all = append(all, check{name: "programs, build " + old, run: as(old, loading)})
		for _, t := range targets()[1:3] { // 250 frames, system calls
			all = append(all, check{name: t.name + ", build " + old, run: as(old, t.check)})
		}
	}
	all = append(all, check{name: "kernel log", run: kernelLog})
	return slices.DeleteFunc(all, func(c check) bool { return !strings.Contains(c.name, os.Getenv("SRPROF_VM_ONLY")) })
}

// as runs a check with one build of the kernel side.
func as(build string, run func() (string, error)) func() (string, error) {
	return func() (string, error) {
		if err := os.Setenv(sampler.EnvBuild, build); err != nil {
			return "", err
		}
		defer os.Unsetenv(sampler.EnvBuild)
		return run()
	}
}

// features is what srprof doctor shows. Here nothing may be missing: this is
// root on a kernel that is supported.
func features() (string, error) {
	var details strings.Builder
	var errs []error
	for _, f := range sampler.Features() {
		fmt.Fprintf(&details, "%-34s %s\n", f.Name, f.Found)
		if !f.OK && f.Required {
			errs = append(errs, fmt.Errorf("%s: %s", f.Name, f.Found))
		}
		if f.Name == "kernel" && !strings.HasPrefix(f.Found, os.Getenv("SRPROF_VM_RELEASE")) {
			errs = append(errs, fmt.Errorf("the kernel is %s, want %s", f.Found, os.Getenv("SRPROF_VM_RELEASE")))
		}
		if f.Name == "sampling with eBPF" && !strings.HasSuffix(f.Found, sampler.WalkTables) {
			errs = append(errs, fmt.Errorf("%s: %s; want a walk by %s", f.Name, f.Found, sampler.WalkTables))
		}
	}
	return details.String(), errors.Join(errs...)
}

// loading loads all that a recording loads and asks the kernel what it made
// of it.
func loading() (string, error) {
	began := time.Now()
	s, err := sampler.OpenBPF(sampler.Options{})
	if err != nil {
		return "", err
	}
	defer s.Close()
	first := time.Since(began)
	began = time.Now()
	err = s.OpenTables()
	details := fmt.Sprintf("%s loaded in %v, the walk by tables in %v more\n", s.Program(), first.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
	loaded, listErr := ownPrograms()
	for _, p := range loaded {
		details += p.String() + "\n"
	}
	if listErr == nil && len(loaded) == 0 {
		listErr = errors.New("the kernel knows of no program of ours")
	}
	return details, errors.Join(err, listErr)
}

// samplerTests runs the tests of package sampler, but for one that needs a
// shell, and those that are about our own tables and take long here.
func samplerTests() (string, error) {
	out, err := exec.Command("/bin/sampler.test", "-test.v", "-test.skip", "^(TestNotices|TestTables|Fuzz)").CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("the tests of package sampler: %w", err)
	}
	var results strings.Builder
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "--- ") {
			results.WriteString(line)
		}
	}
	if strings.Contains(results.String(), "--- SKIP") {
		return results.String(), errors.New("a test of package sampler was skipped")
	}
	return results.String(), nil
}

// kernelLog looks for what a kernel says when it is in trouble. That it came
// late (stalls, lockups) is no trouble here: the machine is emulated.
func kernelLog() (string, error) {
	buffer := make([]byte, 1<<20)
	n, err := unix.Klogctl(unix.SYSLOG_ACTION_READ_ALL, buffer)
	if err != nil {
		return "", fmt.Errorf("read the kernel's log: %w", err)
	}
	var bad []string
	for line := range strings.Lines(string(buffer[:n])) {
		for _, sign := range []string{"BUG: ", "WARNING: CPU", "Oops: ", "general protection", "refcount_t"} {
			if strings.Contains(line, sign) && !strings.Contains(line, "lockup") {
				bad = append(bad, strings.TrimSpace(line))
			}
		}
	}
	if len(bad) > 0 {
		return string(buffer[:n]), fmt.Errorf("the kernel complains: %s", strings.Join(bad, "; "))
	}
	return "", nil
}

// explain spells out an error with the verifier's log, if there is one: that
// shows only with %+v, and only on the error that has it.
func explain(err error) string {
	text := err.Error()
	if log := longest(err); len(log) > len(text) {
		const kept = 40 // lines: the reason is at the end
		lines := strings.Split(log, "\n")
		text += "\n" + strings.Join(lines[max(0, len(lines)-kept):], "\n")
	}
	return text
}

// longest is the longest spelling of an error and those it wraps.
func longest(err error) string {
	if err == nil {
		return ""
	}
	best := fmt.Sprintf("%+v", err)
	var inner []error
	switch e := err.(type) {
	case interface{ Unwrap() error }:
		inner = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		inner = e.Unwrap()
	}
	for _, e := range inner {
		if s := longest(e); len(s) > len(best) {
			best = s
		}
	}
	return best
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"time"
)

// statsSwitch makes the kernel measure how long BPF programs run.
const statsSwitch = "/proc/sys/kernel/bpf_stats_enabled"

// sampleCost measures the kernel's time for one sample by the depth of the
// stack.
func (b *bench) sampleCost() error {
	before, err := os.ReadFile(statsSwitch)
	if err != nil {
		return err
	}
	if err := os.WriteFile(statsSwitch, []byte("1"), 0o644); err != nil {
		return err
	}
	defer os.WriteFile(statsSwitch, before, 0o644) //nolint:errcheck // nothing more can be done
	out := table{title: "Kernel time of one sample", columns: []string{"user frames", "srprof", "bpftrace", "to srprof"}}
	skip, err := b.skipCost()
	if err != nil {
		return err
	}
	for _, frames := range []int{10, 45, 115, 250} {
		var ours, theirs []float64
		for range b.rounds(1, 3) {
			if err := b.costAt(frames, skip, &ours, &theirs); err != nil {
				return err
			}
		}
		out.row(strconv.Itoa(frames), number(median(ours)/1000, 2, " µs"), number(median(theirs)/1000, 2, " µs"), times(median(theirs), median(ours)))
	}
	m, err := b.metadata()
	if err != nil {
		return err
	}
	out.note("The BPF program's own run time (kernel.bpf_stats_enabled), walking (srprof: by %s; bpftrace: by frame pointer, and no further than 127 frames) and counting, for samples of the target; medians of %d. "+
		"A tick that meets another process costs srprof %.0f ns, bpftrace %.0f ns; these are taken off. perf has no such figure: it copies each stack to a ring.", m.UserStacks, b.rounds(1, 3), skip[0], skip[1])
	out.print()
	return nil
}

// skipCost is the cost of a tick that meets no target, for each tool: what a
// sleeping target sees nothing but.
func (b *bench) skipCost() (skip [2]float64, err error) {
	p, err := b.start("sleeper.c", nil)
	if err != nil {
		return skip, err
	}
	defer p.Stop()
	t, err := b.begin(b.record([]int{p.PID}, 999, time.Second, "cost.folded")...)
	if err != nil {
		return skip, err
	}
	ns, runs := watch(t) // it ends without samples
	skip[0] = ns / max(1, runs)
	if b.tools["bpftrace"] {
		if t, err = b.begin(append(bpftrace(999, p.PID), "-c", sleep(time.Second))...); err != nil {
			return skip, err
		}
		ns, runs = watch(t)
		skip[1] = ns / max(1, runs)
	}
	return skip, nil
}

// costAt measures both tools on as many busy processes as there are CPUs.
func (b *bench) costAt(frames int, skip [2]float64, ours, theirs *[]float64) error {
	var pids []int
	for cpu := range runtime.NumCPU() {
		// descend stands once more than its argument, and main and what calls it
		// are frames as well, but not the leaf.
		p, err := b.start("depth.c", []string{"taskset", "-c", strconv.Itoa(cpu), "nice", "-n", "-10"}, strconv.Itoa(frames-5))
		if err != nil {
			return err
		}
		defer p.Stop()
		pids = append(pids, p.PID)
	}
	const lasts = 1500 * time.Millisecond
	t, err := b.begin(first(b.record(pids, 999, lasts, "cost.folded"))...)
	if err != nil {
		return err
	}
	ns, runs := watch(t)
	if err := t.wait(); err != nil {
		return err
	}
	m, err := b.metadata()
	if err != nil {
		return err
	}
	*ours = append(*ours, perSample(ns, runs, float64(m.Counts.Samples+m.Counts.Lost), skip[0]))
	if !b.tools["bpftrace"] {
		return nil
	}
	if t, err = b.begin(append(first(bpftrace(999, pids...)), "-c", sleep(lasts))...); err != nil {
		return err
	}
	ns, runs = watch(t)
	if err := t.wait(); err != nil {
		return err
	}
	n := t.counts()
	if n == 0 {
		return errors.New("bpftrace counted nothing")
	}
	*theirs = append(*theirs, perSample(ns, runs, n, skip[1]))
	return nil
}

// first lets a tool go before the targets, which leave no CPU to others.
func first(line []string) []string { return append([]string{"nice", "-n", "-20"}, line...) }

// perSample takes the ticks that met others off.
func perSample(ns, runs, samples, skip float64) float64 {
	return (ns - max(0, runs-samples)*skip) / samples
}

// watch reads the statistics of the tool's BPF programs until it ends: the last
// reading is after the last sample, before it has closed them.
func watch(t *tool) (ns, runs float64) {
	for {
		select {
		case <-t.exited:
			return ns, runs
		case <-time.After(3 * time.Millisecond):
		}
		var nowNs, nowRuns float64
		for _, f := range fdinfo(t.pid()) {
			if f["prog_type"] != "7" { // BPF_PROG_TYPE_PERF_EVENT
				continue
			}
			n, _ := strconv.ParseFloat(f["run_time_ns"], 64) // 0 where there is none
			r, _ := strconv.ParseFloat(f["run_cnt"], 64)
			nowNs, nowRuns = nowNs+n, nowRuns+r
		}
		if nowRuns > runs {
			ns, runs = nowNs, nowRuns
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"time"
)

// slowdown measures how much less a target does in a second of its CPU time
// while it is sampled: pairs of windows, without and with, in turns.
func (b *bench) slowdown() error {
	file := b.file("meter")
	last := runtime.NumCPU() - 1
	p, err := b.start("meter.c", []string{"taskset", "-c", strconv.Itoa(last), "nice", "-n", "-20"}, file)
	if err != nil {
		return err
	}
	defer p.Stop()
	const hour = time.Hour
	frequencies := []int{99, 999}
	tools := []struct {
		name, needs string
		line        func(frequency int) []string
	}{
		{"srprof record", "", func(f int) []string { return b.record([]int{p.PID}, f, hour, "slow.folded") }},
		{"perf record -g", "perf", func(f int) []string { return b.perf(p.PID, f, "-g") }},
		{"perf record --call-graph dwarf", "perf", func(f int) []string { return b.perf(p.PID, f, "--call-graph", "dwarf") }},
		{"perf record, no stacks", "perf", func(f int) []string { return b.perf(p.PID, f) }},
		{"bpftrace", "bpftrace", func(f int) []string { return bpftrace(f, p.PID) }},
	}
	n := b.rounds(2, 5)
	slow := map[string][]float64{}
	key := func(name string, f int) string { return name + strconv.Itoa(f) }
	for range n {
		for _, f := range frequencies {
			for _, t := range tools {
				if t.needs != "" && !b.tools[t.needs] {
					continue
				}
				v, err := b.pair(file, t.line(f))
				if err != nil {
					return err
				}
				slow[key(t.name, f)] = append(slow[key(t.name, f)], v)
			}
		}
	}
	out := table{title: "Slowdown of the target", columns: []string{"tool", "99 Hz", "quartiles", "999 Hz", "quartiles", "a sample at 999 Hz"}}
	for _, t := range tools {
		row := []string{t.name}
		for _, f := range frequencies {
			v := slow[key(t.name, f)]
			row = append(row, number(median(v), 2, " %"), number(quantile(v, 0.25), 2, "")+" to "+number(quantile(v, 0.75), 2, " %"))
		}
		// What a sample costs in all, the timer's interrupt too.
		out.row(append(row, number(median(slow[key(t.name, 999)])/100/999*1e6, 1, " µs"))...)
	}
	out.note("Units of work in a second of CPU time of a C program on a CPU of its own, 25 frames deep: %d pairs of windows of %v without and with the tool, in turns; medians. Interrupts are charged to the thread they meet, so their cost is in it, and what other processes do is not.", n, window)
	out.print()
	return nil
}

const (
	window = 700 * time.Millisecond
	settle = 600 * time.Millisecond // until the slowest tool samples
)

// pair is the slowdown, in percent, that one tool causes.
func (b *bench) pair(meter string, line []string) (float64, error) {
	without, err := pace(meter)
	if err != nil {
		return 0, err
	}
	t, err := b.begin(line...)
	if err != nil {
		return 0, err
	}
	time.Sleep(settle)
	with, err := pace(meter)
	select {
	case <-t.exited:
		return 0, fmt.Errorf("%s ended early: %.300s", line[0], t.output.String())
	default:
	}
	t.interrupt()
	if err != nil {
		return 0, err
	}
	again, err := pace(meter)
	if err != nil {
		return 0, err
	}
	return 100 * (1 - with/((without+again)/2)), nil
}

// pace is the units done in a nanosecond of CPU time during a window.
func pace(meter string) (float64, error) {
	units, cpu, err := reading(meter)
	if err != nil {
		return 0, err
	}
	time.Sleep(window)
	units2, cpu2, err := reading(meter)
	if err != nil {
		return 0, err
	}
	if cpu2 == cpu {
		return 0, errors.New("the target does not run")
	}
	return float64(units2-units) / float64(cpu2-cpu), nil
}

// reading reads the meter until two looks agree: the target writes meanwhile.
func reading(meter string) (units, cpu uint64, err error) {
	var last [24]byte
	for {
		b, err := os.ReadFile(meter)
		if err != nil {
			return 0, 0, err
		}
		if len(b) == len(last) && [24]byte(b) == last {
			return binary.NativeEndian.Uint64(b), binary.NativeEndian.Uint64(b[16:]), nil
		}
		copy(last[:], b)
	}
}

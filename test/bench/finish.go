// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"
)

// endToFile measures from the end of sampling to the finished file.
func (b *bench) endToFile() error {
	out := table{title: "From the end of sampling to the file", columns: []string{"target", "srprof: .svg", "perf record -g, perf script: text", "bpftrace: text", "perf to srprof", "bpftrace to srprof"}}
	n := b.rounds(1, 2)
	for _, start := range b.targets() {
		tg, err := start()
		if err != nil {
			return err
		}
		var ours, perf, trace []float64
		for range n {
			if err = b.finishAll(tg.pid, &ours, &perf, &trace); err != nil {
				break
			}
		}
		tg.stop()
		if err != nil {
			return err
		}
		out.row(tg.label, number(median(ours), 0, " ms"), number(median(perf), 0, " ms"), number(median(trace), 0, " ms"),
			times(median(perf), median(ours)), times(median(trace), median(ours)))
	}
	out.note("2 s at 99 Hz, medians of %d. Names, call tree and drawing are in srprof's time; for the others there would still be stackcollapse and flamegraph.pl to run. ∞: not finished after %v.", n, giveUp)
	out.print()
	return nil
}

const (
	finishLasts     = 2 * time.Second
	finishFrequency = 99
)

func (b *bench) finishAll(pid int, ours, perf, trace *[]float64) error {
	t, err := b.begin(b.record([]int{pid}, finishFrequency, finishLasts, "finish.svg")...)
	if err != nil {
		return err
	}
	if err := t.wait(); err != nil {
		return err
	}
	m, err := b.metadata()
	if err != nil {
		return err
	}
	*ours = append(*ours, milliseconds(t.end.Sub(m.Start.Add(m.Duration()))))
	if b.tools["perf"] {
		d, err := b.finishPerf(pid)
		if err != nil {
			return err
		}
		*perf = append(*perf, milliseconds(d))
	}
	if b.tools["bpftrace"] && !slices.Contains(*trace, math.Inf(1)) { // once is enough
		took, err := b.finishBpftrace(pid)
		if err != nil {
			return err
		}
		*trace = append(*trace, took)
	}
	return nil
}

// finishPerf lets the command that perf waits for tell when sampling ended.
func (b *bench) finishPerf(pid int) (time.Duration, error) {
	ended := b.file("ended")
	t, err := b.begin(b.perf(pid, finishFrequency, "-g", "--", "sh", "-c", "sleep "+seconds(finishLasts)+"; date +%s.%N > "+ended)...)
	if err != nil {
		return 0, err
	}
	if err := t.wait(); err != nil {
		return 0, err
	}
	text, err := os.ReadFile(ended)
	if err != nil {
		return 0, err
	}
	at, err := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
	if err != nil {
		return 0, err
	}
	to, err := os.Create(b.file("perf.txt"))
	if err != nil {
		return 0, err
	}
	defer to.Close()
	script := exec.CommandContext(b.ctx, "perf", "script", "-i", b.file("perf.data"))
	script.Stdout = to
	if err := script.Run(); err != nil {
		return 0, fmt.Errorf("perf script: %w", err)
	}
	return time.Since(time.Unix(0, int64(at*1e9))), nil
}

// finishBpftrace is in milliseconds; infinite if it was not waited for.
func (b *bench) finishBpftrace(pid int) (float64, error) {
	t, err := b.begin(bpftrace(finishFrequency, pid)...)
	if err != nil {
		return 0, err
	}
	time.Sleep(finishLasts + time.Second) // it begins late, and says so only to a terminal
	end := time.Now()
	if !t.interrupt() {
		return math.Inf(1), nil
	}
	if t.counts() == 0 {
		return 0, fmt.Errorf("bpftrace counted nothing: %.300s", t.output.String())
	}
	return milliseconds(t.end.Sub(end)), nil
}

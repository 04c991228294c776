// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// firstSample measures from just before a tool is started to its first sample.
func (b *bench) firstSample() error {
	out := table{title: "From the command to the first sample", columns: []string{"target", "tool", "median", "fastest", "slowest", "to srprof"}}
	small := func() (*target, error) {
		p, err := b.start("split.c", nil)
		if err != nil {
			return nil, err
		}
		return &target{"small C program", p.PID, p.Stop}, nil
	}
	starts := []func() (*target, error){small, b.large}
	if b.tools["node"] {
		starts = append(starts, b.node)
	}
	for _, start := range starts {
		tg, err := start()
		if err != nil {
			return err
		}
		err = b.firstOf(tg, &out)
		tg.stop()
		if err != nil {
			return err
		}
	}
	out.note("Cold command, 999 Hz, %d runs in turns. At 999 Hz the wait for the first tick is 0.5 ms of it on average; at 99 Hz it would be 5 ms.", b.rounds(3, 9))
	out.print()
	return nil
}

func (b *bench) firstOf(tg *target, out *table) error {
	tools := []struct {
		name string
		do   func(pid int) (time.Duration, error)
	}{
		{"srprof record", b.firstOfSrprof},
		{"perf record -g", b.firstOfPerf},
		{"bpftrace", b.firstOfBpftrace},
	}
	all := make([][]float64, len(tools))
	for range b.rounds(3, 9) {
		for i, t := range tools {
			if name, _, _ := strings.Cut(t.name, " "); name != "srprof" && !b.tools[name] {
				continue
			}
			d, err := t.do(tg.pid)
			if err != nil {
				return err
			}
			all[i] = append(all[i], milliseconds(d))
		}
	}
	for i, t := range tools {
		out.row(tg.label, t.name, number(median(all[i]), 1, " ms"), number(quantile(all[i], 0), 1, " ms"), number(quantile(all[i], 1), 1, " ms"), times(median(all[i]), median(all[0])))
	}
	return nil
}

const firstFrequency = 999

func (b *bench) firstOfSrprof(pid int) (time.Duration, error) {
	t, err := b.begin(b.record([]int{pid}, firstFrequency, 200*time.Millisecond, "first.folded")...)
	if err != nil {
		return 0, err
	}
	if err := t.wait(); err != nil {
		return 0, err
	}
	m, err := b.metadata()
	if err != nil {
		return 0, err
	}
	return m.FirstSample.Sub(t.begun), nil
}

// monotonic reads the clock that perf and bpftrace tell.
func monotonic() (time.Duration, error) {
	var ts unix.Timespec
	err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano()), err
}

func (b *bench) firstOfPerf(pid int) (time.Duration, error) {
	before, err := monotonic()
	if err != nil {
		return 0, err
	}
	t, err := b.begin(b.perf(pid, firstFrequency, "-g", "-k", "CLOCK_MONOTONIC", "--", "sleep", "0.3")...)
	if err != nil {
		return 0, err
	}
	if err := t.wait(); err != nil {
		return 0, err
	}
	out, err := exec.CommandContext(b.ctx, "perf", "script", "-i", b.file("perf.data"), "--ns", "-F", "time", "-G").Output()
	if err != nil {
		return 0, fmt.Errorf("perf script: %w", err)
	}
	first := time.Duration(1<<63 - 1)
	for word := range strings.FieldsSeq(string(out)) {
		at, err := time.ParseDuration(strings.TrimSuffix(word, ":") + "s")
		if err == nil && at < first {
			first = at
		}
	}
	return first - before, nil
}

func (b *bench) firstOfBpftrace(pid int) (time.Duration, error) {
	before, err := monotonic()
	if err != nil {
		return 0, err
	}
	t, err := b.begin("bpftrace", "-e", fmt.Sprintf(`profile:hz:%d /pid == %d/ { printf("first %%llu\n", nsecs); exit(); }`, firstFrequency, pid))
	if err != nil {
		return 0, err
	}
	if err := t.wait(); err != nil {
		return 0, err
	}
	_, after, ok := strings.Cut(t.output.String(), "first ")
	if !ok {
		return 0, errors.New("bpftrace printed no time")
	}
	ns, err := strconv.ParseInt(strings.Fields(after)[0], 10, 64)
	return time.Duration(ns) - before, err
}

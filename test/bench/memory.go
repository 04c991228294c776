// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// memory measures what each tool needs at its peak, in its process and in the
// kernel.
func (b *bench) memory() error {
	out := table{title: "Peak memory", columns: []string{"target and tool", "process", "kernel", "sum", "to srprof"}}
	for _, start := range b.targets() {
		if err := b.memoryOf(start, &out); err != nil {
			return err
		}
	}
	out.note("2 s at 99 Hz. Process: the peak of resident memory. Kernel: the memory of BPF maps and programs, or the pinned ring buffers of perf, whose file is not counted. What perf script needs after perf record is a row of its own.")
	out.print()
	return nil
}

func (b *bench) memoryOf(start func() (*target, error), out *table) error {
	tg, err := start()
	if err != nil {
		return err
	}
	defer tg.stop()
	const lasts = 2 * time.Second
	process, kernel, err := b.peaks(lasts, b.record([]int{tg.pid}, 99, lasts, "memory.svg")...)
	if err != nil {
		return err
	}
	first := process + kernel
	memoryRow(out, tg.label+", srprof record", process, kernel, first)
	if b.tools["perf"] {
		process, kernel, err = b.peaks(lasts, b.perf(tg.pid, 99, "-g", "--", "sleep", seconds(lasts))...)
		if err != nil {
			return err
		}
		memoryRow(out, tg.label+", perf record -g", process, kernel, first)
		process, kernel, err = b.peaks(0, "perf", "script", "-i", b.file("perf.data"))
		if err != nil {
			return err
		}
		memoryRow(out, tg.label+", perf script", process, kernel, first)
	}
	if b.tools["bpftrace"] {
		process, kernel, err = b.peaks(lasts, append(bpftrace(99, tg.pid), "-c", sleep(lasts))...)
		if err != nil {
			return err
		}
		memoryRow(out, tg.label+", bpftrace", process, kernel, first)
	}
	return nil
}

func memoryRow(out *table, label string, process, kernel, srprof float64) {
	const mib = 1 << 20
	out.row(label, number(process/mib, 1, " MB"), number(kernel/mib, 1, " MB"), number((process+kernel)/mib, 1, " MB"), times(process+kernel, srprof))
}

// peaks runs a tool to its end and looks at it often. The rusage of wait4 would
// be more exact about the end, but begins with what this program has.
func (b *bench) peaks(lasts time.Duration, line ...string) (process, kernel float64, err error) {
	t, err := b.begin(line...)
	if err != nil {
		return 0, 0, err
	}
	limit := time.After(lasts + giveUp)
	often, seldom := time.NewTicker(2*time.Millisecond), time.NewTicker(100*time.Millisecond)
	defer often.Stop()
	defer seldom.Stop()
	for {
		select {
		case <-t.exited:
			return process, kernel, t.wait()
		case <-limit: // its peak up to then
			_ = t.command.Process.Kill()
			<-t.exited
			return process, kernel, nil
		case <-often.C:
			now, _ := statusField(t.pid(), "VmHWM") // 0 when it has just ended
			process = max(process, now)
		case <-seldom.C:
			kernel = max(kernel, kernelMemory(t.pid()))
		}
	}
}

// kernelMemory is what a process holds in the kernel by its descriptors of BPF
// maps and programs, and by pinned rings. What is gone meanwhile counts 0.
func kernelMemory(pid int) float64 {
	sum, _ := statusField(pid, "VmPin")
	for _, f := range fdinfo(pid) {
		if n, err := strconv.ParseFloat(f["memlock"], 64); err == nil {
			sum += n
		}
	}
	return sum
}

// fdinfo reads what the kernel tells of the BPF maps and programs that a
// process has open, each once.
func fdinfo(pid int) map[string]map[string]string {
	found := map[string]map[string]string{}
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", pid)) // the pattern is good
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // closed meanwhile
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.TrimSpace(value)
		}
		switch {
		case fields["map_id"] != "" && fields["map_type"] != "":
			found["map "+fields["map_id"]] = fields
		case fields["prog_id"] != "" && fields["prog_type"] != "":
			found["program "+fields["prog_id"]] = fields
		}
	}
	return found
}

// statusField reads a size in /proc/PID/status, in bytes.
func statusField(pid int, name string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 64)
			return n * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no %s", pid, name)
}

// threadStatus reads /proc/PID/task/*/status; of threads that ended there is
// nothing.
func threadStatus(pid int) (all []string) {
	paths, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid)) // the pattern is good
	for _, path := range paths {
		if text, err := os.ReadFile(path); err == nil {
			all = append(all, string(text))
		}
	}
	return all
}

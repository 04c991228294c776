// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// tool is a running profiler.
type tool struct {
	command *exec.Cmd
	begun   time.Time // just before it was started
	output  bytes.Buffer
	exited  chan struct{}
	end     time.Time // after exited
	err     error
}

// begin starts a tool.
func (b *bench) begin(line ...string) (*tool, error) {
	t := &tool{command: exec.CommandContext(b.ctx, line[0], line[1:]...), exited: make(chan struct{})}
	t.command.Stdout, t.command.Stderr = &t.output, &t.output
	t.begun = time.Now()
	if err := t.command.Start(); err != nil {
		return nil, err
	}
	go func() {
		t.err = t.command.Wait()
		t.end = time.Now()
		close(t.exited)
	}()
	return t, nil
}

// interrupt is Ctrl-C. It waits for the end, whose exit code tells nothing, and
// reports whether that came in time.
func (t *tool) interrupt() (ended bool) {
	_ = t.command.Process.Signal(os.Interrupt) // it may have ended
	return t.give(0)
}

// giveUp is how long a tool may go on after it should have ended. bpftrace takes
// minutes to find names in large executables.
const giveUp = 15 * time.Second

// give waits for the end and kills the tool when that takes too long.
func (t *tool) give(lasts time.Duration) (ended bool) {
	select {
	case <-t.exited:
		return true
	case <-time.After(lasts + giveUp):
		_ = t.command.Process.Kill() // it may have ended just now
		<-t.exited
		return false
	}
}

// wait waits for the end, which must be a good one.
func (t *tool) wait() error {
	<-t.exited
	if t.err != nil {
		return fmt.Errorf("%s: %w: %.500s", strings.Join(t.command.Args, " "), t.err, t.output.String())
	}
	return nil
}

func (t *tool) pid() int { return t.command.Process.Pid }

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// record is srprof's command line, with its metadata for us.
func (b *bench) record(pids []int, frequency int, d time.Duration, output string) []string {
	line := []string{b.srprof, "record", "--frequency", strconv.Itoa(frequency), "--duration", d.String(), "--output", b.file(output), "--metadata", b.file("meta.json")}
	for _, pid := range pids {
		line = append(line, "--pid", strconv.Itoa(pid))
	}
	return line
}

func (b *bench) metadata() (*profile.Metadata, error) {
	text, err := os.ReadFile(b.file("meta.json"))
	if err != nil {
		return nil, err
	}
	m := new(profile.Metadata)
	return m, json.Unmarshal(text, m)
}

// perf is the command line of perf record; more are further options. Without
// --no-bpf-event a thread of perf's would keep it for up to a second at the end.
func (b *bench) perf(pid, frequency int, more ...string) []string {
	line := []string{"perf", "record", "-q", "--no-bpf-event", "-e", "cpu-clock", "-F", strconv.Itoa(frequency), "-p", strconv.Itoa(pid), "-o", b.file("perf.data")}
	return append(line, more...)
}

// bpftrace is the command line of its usual profiling one-liner.
func bpftrace(frequency int, pids ...int) []string {
	var who []string
	for _, pid := range pids {
		who = append(who, fmt.Sprintf("pid == %d", pid))
	}
	return []string{"bpftrace", "-e", fmt.Sprintf("profile:hz:%d /%s/ { @[ustack, kstack, comm] = count(); }", frequency, strings.Join(who, " || "))}
}

// sleep is a command line for bpftrace -c, which wants no name that could be
// found in two places.
func sleep(d time.Duration) string {
	path, err := exec.LookPath("sleep")
	if err != nil {
		path = "/bin/sleep"
	}
	return path + " " + seconds(d)
}

// counts sums up what bpftrace printed.
func (t *tool) counts() float64 {
	var sum float64
	for line := range strings.Lines(t.output.String()) {
		if _, n, ok := strings.Cut(line, "]: "); ok {
			v, _ := strconv.ParseFloat(strings.TrimSpace(n), 64) // lines of other kinds have none
			sum += v
		}
	}
	return sum
}

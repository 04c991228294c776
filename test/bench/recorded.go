// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"strconv"
	"strings"

	pprof "github.com/google/pprof/profile"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// stack is one that a tool recorded, leaf first, the kernel's part before the
// user's.
type stack struct {
	pid       int
	addresses []profile.Addr
	count     float64
	leaf      profile.AddressID // once it is named
}

// last is the root-most address; false without a user part.
func (s *stack) last() (profile.Addr, bool) {
	a := s.addresses[len(s.addresses)-1]
	return a, a < kernelStart
}

// readPprof reads srprof's stacks. Addresses of callers are inside their call
// instructions.
func readPprof(path string) ([]stack, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p, err := pprof.Parse(f)
	if err != nil {
		return nil, err
	}
	all := make([]stack, 0, len(p.Sample))
	for _, s := range p.Sample {
		if len(s.Location) == 0 || len(s.NumLabel["pid"]) == 0 {
			return nil, fmt.Errorf("%s: a sample without a stack or a process", path)
		}
		one := stack{pid: int(s.NumLabel["pid"][0]), count: float64(s.Value[0])}
		for _, l := range s.Location {
			one.addresses = append(one.addresses, profile.Addr(l.Address))
		}
		all = append(all, one)
	}
	return all, nil
}

// perfDwarf is the command line of perf record with stacks by call frame
// information: it copies the top 8 KB of each stack and walks them afterwards.
// It samples all processes, of which readPerf takes ours: the clock event of a
// single thread fires late when the thread was switched off meanwhile, at once
// when it comes back, and so shows up to a tenth of a server's time in the
// scheduler.
func (b *bench) perfDwarf() []string {
	return []string{"perf", "record", "-q", "--no-bpf-event", "-m", "16M", "-a", "-e", "cpu-clock", "-F", strconv.Itoa(perfFrequency), "--call-graph", "dwarf", "-o", b.file("perf.data")}
}

// readPerf lets perf script walk its stacks and reads them.
func (b *bench) readPerf(pids []int, all images) ([]stack, error) {
	list := strings.Trim(strings.ReplaceAll(fmt.Sprint(pids), " ", ","), "[]")
	script := exec.CommandContext(b.ctx, "perf", "script", "-i", b.file("perf.data"), "--max-stack", "1024", "--no-inline", "--pid", list, "-F", "pid,tid,ip,dso")
	out, err := script.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := script.Start(); err != nil {
		return nil, err
	}
	stacks, err := parsePerf(out, all)
	_, _ = io.Copy(io.Discard, out) // so that it can end
	if werr := script.Wait(); err == nil && werr != nil {
		err = fmt.Errorf("perf script: %w", werr)
	}
	return stacks, err
}

// parsePerf reads perf script's text: a line of process and thread for each
// sample, then a line for each address, leaf first, then an empty line. For code
// of a file the address is the place in the file (map_ip of tools/perf), since
// Linux 5.18's; for all other code it is itself.
func parsePerf(r io.Reader, images images) ([]stack, error) {
	var all []stack
	var now stack
	done := func() {
		if len(now.addresses) > 0 {
			all = append(all, now)
		}
		now = stack{}
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		text := strings.TrimSpace(lines.Text())
		word, rest, isAddress := strings.Cut(text, " ")
		switch {
		case text == "":
			done()
		case !isAddress:
			done()
			pid, _, _ := strings.Cut(text, "/")
			n, err := strconv.Atoi(pid)
			if err != nil {
				return nil, fmt.Errorf("perf script: %q: %w", text, err)
			}
			now = stack{pid: n, count: 1}
		default:
			a, err := strconv.ParseUint(word, 16, 64)
			if err != nil {
				return nil, fmt.Errorf("perf script: %q: %w", text, err)
			}
			if a == math.MaxUint64 { // the stack went on where perf has no copy of it
				continue
			}
			object := strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(rest), "("), ")")
			now.addresses = append(now.addresses, images.mapped(now.pid, object, a))
		}
	}
	done()
	return all, lines.Err()
}

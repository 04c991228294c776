// SPDX-License-Identifier: Apache-2.0

// Command bench measures srprof beside perf and bpftrace: in the same run, on
// the same targets, one tool after the other in turns. It prints Markdown for
// docs/benchmarks.md. It needs root and fails only if something does not work;
// no figure makes it fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bench is one run of all measurements.
type bench struct {
	ctx    context.Context
	dir    string // for what tools and targets write
	srprof string
	quick  bool
	tools  map[string]bool // installed peers

	// Of the comparison of stacks.
	programs    []string // only these; all if empty
	lasts, warm time.Duration
	dump        bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	quick := flag.Bool("quick", false, "fewer repetitions: a look, not a result")
	only := flag.String("only", "", "one measurement: first, memory, cost, file, slowdown, suffer, tables, names, stacks, service, servicememory, fleet or checks")
	simulated := flag.String("simulate", "", "be the hosts of a fleet, with the certificates in this directory (fleet starts it so)")
	serviceRadar := flag.Bool("serviceradar", false, "of -simulate: with agents that know checks, and nothing of sessions")
	port := flag.String("port", "", "of -simulate: where to listen")
	programs := flag.String("programs", "", "of stacks: only these programs, with commas between")
	lasts := flag.Float64("seconds", 0, "of stacks: how long each program is sampled (default 20, 4 with -quick)")
	dump := flag.Bool("dump-unfinished", false, "of stacks: write where stacks ended that did not reach their root to standard error")
	srprof := flag.String("srprof", "", "measure this program instead of building one")
	flag.Parse()
	if *simulated != "" {
		return simulate(*simulated, *port, *serviceRadar)
	}
	if os.Geteuid() != 0 {
		return errors.New("sampling needs root: run it with sudo")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "srprof-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{ctx: ctx, dir: dir, srprof: *srprof, quick: *quick, tools: map[string]bool{}}
	if *lasts == 0 {
		*lasts = float64(b.rounds(4, 20))
	}
	b.lasts, b.warm, b.dump = time.Duration(*lasts*float64(time.Second)), 3*time.Second, *dump
	if *programs != "" {
		b.programs = strings.Split(*programs, ",")
	}
	for _, tool := range []string{"perf", "bpftrace", "redis-server", "redis-benchmark", "node"} {
		_, err := exec.LookPath(tool)
		b.tools[tool] = err == nil
	}
	if b.srprof == "" {
		if err := b.build(); err != nil {
			return err
		}
	}
	b.describe()
	return b.measure(*only)
}

func (b *bench) measure(only string) error {
	measurements := []struct {
		name string
		do   func() error
	}{
		{"first", b.firstSample},
		{"memory", b.memory},
		{"cost", b.sampleCost},
		{"file", b.endToFile},
		{"slowdown", b.slowdown},
		{"suffer", b.suffer},
		{"tables", b.tableCost},
		{"names", b.names},
		{"stacks", b.wholeStacks},
		{"service", b.service},
		{"servicememory", b.serviceMemory},
		{"fleet", b.fleet},
		{"checks", b.checks},
	}
	known := only == ""
	for _, m := range measurements {
		if only != "" && only != m.name {
			continue
		}
		known = true
		if err := m.do(); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	if !known {
		return fmt.Errorf("there is no measurement %q", only)
	}
	return nil
}

func (b *bench) build() error {
	b.srprof = filepath.Join(b.dir, "srprof")
	return b.buildCommand("srprof", b.srprof)
}

// buildCommand builds one of our programs.
func (b *bench) buildCommand(name, to string) error {
	c := exec.CommandContext(b.ctx, "go", "build", "-trimpath", "-o", to, "github.com/carverauto/serviceradar-profiler/cmd/"+name)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return nil
}

// describe prints where and when this is.
func (b *bench) describe() {
	var u unix.Utsname
	_ = unix.Uname(&u) // an empty release is visible enough
	fmt.Printf("Measured %s on Linux %s %s, %s, by `go run ./test/bench`", time.Now().UTC().Format("2006-01-02 15:04 UTC"),
		unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Machine[:]), processor())
	if b.quick {
		fmt.Print(" `--quick`")
	}
	fmt.Println(".")
	for _, peer := range []string{"perf", "bpftrace"} {
		if !b.tools[peer] {
			fmt.Printf("%s is not installed.\n", peer)
			continue
		}
		out, _ := exec.Command(peer, "--version").Output()
		fmt.Printf("%s. ", strings.ReplaceAll(strings.TrimSpace(string(out)), peer+" version ", peer+" "))
	}
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		load = []byte("unknown - -")
	}
	fmt.Printf("Load before: %s.\n\n", strings.Join(strings.Fields(string(load))[:3], ", "))
}

// processor is the CPUs' number and name.
func processor() string {
	n, name := 0, "unknown CPU"
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "processor":
			n++
		case "model name":
			name = strings.TrimSpace(value)
		}
	}
	virtual := ""
	if strings.Contains(string(text), " hypervisor ") {
		virtual = ", virtual machine"
	}
	return fmt.Sprintf("%d CPUs (%s%s)", n, name, virtual)
}

// rounds is how often to repeat.
func (b *bench) rounds(quick, full int) int {
	if b.quick {
		return quick
	}
	return full
}

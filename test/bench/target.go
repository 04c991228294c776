// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// start builds one of our programs, runs it, behind the words of before, and
// waits until it is ready.
func (b *bench) start(name string, before []string, args ...string) (*programs.Process, error) {
	p, err := programs.Read(name)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return nil, err
	}
	path, err := p.Build(dir)
	if err != nil {
		return nil, err
	}
	line := append(append(before, path), args...)
	return programs.Launch(exec.CommandContext(b.ctx, line[0], line[1:]...), "ready")
}

// target is a process to profile and how to end it.
type target struct {
	label string
	pid   int
	stop  func()
}

// targets starts processes of several kinds, one at a time.
func (b *bench) targets() []func() (*target, error) {
	ours := func(label, name string) func() (*target, error) {
		return func() (*target, error) {
			p, err := b.start(name, nil)
			if err != nil {
				return nil, err
			}
			return &target{label, p.PID, p.Stop}, nil
		}
	}
	all := []func() (*target, error){ours("small C program", "split.c"), ours("Go program", "goroutines")}
	if b.tools["redis-server"] && b.tools["redis-benchmark"] {
		all = append(all, b.redis)
	}
	if b.tools["node"] {
		all = append(all, b.node)
	}
	return all
}

// redis starts a server and somebody who keeps it busy.
func (b *bench) redis() (*target, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		return nil, err
	}
	server, err := programs.Launch(exec.CommandContext(b.ctx, "redis-server", "--port", port, "--save", "", "--dir", b.dir), "Ready to accept connections")
	if err != nil {
		return nil, err
	}
	load, err := programs.Launch(exec.CommandContext(b.ctx, "redis-benchmark", "-p", port, "-t", "set,get", "-n", "1000000000", "-q"), "")
	if err != nil {
		server.Stop()
		return nil, err
	}
	return &target{"redis-server", server.PID, func() { load.Stop(); server.Stop() }}, nil
}

// node starts a JavaScript program: a large executable, and code without a file.
func (b *bench) node() (*target, error) {
	const script = `console.log("ready"); for (let i = 0; ; i++) JSON.parse(JSON.stringify({i, a: [1, 2, 3], b: "x".repeat(i % 100)}));`
	c := exec.CommandContext(b.ctx, "node", "--perf-basic-prof", "-e", script)
	c.Dir = b.dir // it writes a log of its own there
	p, err := programs.Launch(c, "ready")
	if err != nil {
		return nil, err
	}
	perfMap := fmt.Sprintf("/tmp/perf-%d.map", p.PID)
	time.Sleep(300 * time.Millisecond) // compiles what is hot
	return &target{"node", p.PID, func() { p.Stop(); os.Remove(perfMap) }}, nil
}

// file is a path in the run's folder.
func (b *bench) file(name string) string { return filepath.Join(b.dir, name) }

// SPDX-License-Identifier: Apache-2.0

// Package daemons builds our programs and runs them for tests: it reads their
// logs, and ends, kills and starts them again as a test wants.
package daemons

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Hangs is how long anything may take: to see that it hangs, not how fast it is.
const Hangs = 2 * time.Minute

// Line is one of a log: what tests look for in it.
type Line struct {
	Level, Component, Time, Message, Address, Error, Answer, Call, Code, Peer, Session, State, Host string
	RequestID                                                                                       string `json:"request_id"`
	OnBehalfOf                                                                                      string `json:"on_behalf_of"`
}

// Program is one that can run, again and again, with one configuration.
type Program struct {
	Address string // at which it listens, as it says

	t      testing.TB
	name   string
	line   []string
	change func(*exec.Cmd)

	command *exec.Cmd
	gone    chan struct{}

	mu    sync.Mutex
	log   []Line
	since int // where in log its present life begins
	raw   []string
}

// Start starts a program with a configuration, JSON text, and waits until it
// listens. Change alters the command, as which user it runs for example. The
// program ends with the test.
func Start(t testing.TB, path, config string, change func(*exec.Cmd)) *Program {
	t.Helper()
	p := Make(t, path, config, change)
	p.Start()
	return p
}

// Make prepares what Start starts.
func Make(t testing.TB, path, config string, change func(*exec.Cmd)) *Program {
	t.Helper()
	name := filepath.Base(path)
	file := filepath.Join(t.TempDir(), name+".json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	Readable(t, filepath.Dir(file)) // it may run as another user
	p := &Program{t: t, name: name, line: []string{path, "--config", file}, change: change, gone: make(chan struct{})}
	close(p.gone)
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, p.Tail(60))
		}
	})
	return p
}

// Config is the file of its configuration.
func (p *Program) Config() string { return p.line[2] }

// Start starts it, again, and waits until it listens.
func (p *Program) Start() {
	p.t.Helper()
	p.Begin()
	p.Address = p.WaitFor("listening").Address
}

// Begin starts it, again, and does not wait.
func (p *Program) Begin() {
	p.t.Helper()
	p.mu.Lock()
	p.since = len(p.log)
	p.mu.Unlock()
	p.command = exec.Command(p.line[0], p.line[1:]...)
	if p.change != nil {
		p.change(p.command)
	}
	out, err := p.command.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.command.Stderr = p.command.Stdout
	if err := p.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.gone = make(chan struct{})
	go p.read(p.command, out, p.gone)
}

// read reads the log to its end, then waits for the process.
func (p *Program) read(c *exec.Cmd, out io.Reader, gone chan struct{}) {
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		var l Line
		err := json.Unmarshal(lines.Bytes(), &l)
		p.mu.Lock()
		p.raw = append(p.raw, lines.Text())
		if err == nil {
			p.log = append(p.log, l)
		}
		p.mu.Unlock()
	}
	_ = c.Wait() // its state says how it ended
	close(gone)
}

// Find is the first line of the log, since the program was last started, that
// is wanted.
func (p *Program) Find(wanted func(*Line) bool) (Line, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.log[p.since:] {
		if wanted(&l) {
			return l, true
		}
	}
	return Line{}, false
}

// All are the lines that are wanted, of all its lives.
func (p *Program) All(wanted func(*Line) bool) (all []Line) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.log {
		if wanted(&l) {
			all = append(all, l)
		}
	}
	return all
}

// WaitFor waits for a line whose message begins so.
func (p *Program) WaitFor(message string) Line {
	p.t.Helper()
	var l Line
	Until(p.t, p.name+"'s log has "+message, func() (ok bool) {
		select {
		case <-p.gone:
			p.t.Fatalf("%s ended:\n%s", p.name, p.Tail(20))
		default:
		}
		l, ok = p.Find(func(l *Line) bool { return strings.HasPrefix(l.Message, message) })
		return ok
	})
	return l
}

// Tail is the end of all that it has said.
func (p *Program) Tail(lines int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.raw[max(0, len(p.raw)-lines):], "\n")
}

// Said says whether a line of all its lives has all of some texts.
func (p *Program) Said(texts ...string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.ContainsFunc(p.raw, func(line string) bool {
		return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
	})
}

// Memory is a figure of /proc/PID/status, in bytes.
func (p *Program) Memory(key string) int64 {
	p.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
	if err != nil {
		p.t.Fatal(err)
	}
	m := regexp.MustCompile(key + `:\s+(\d+) kB`).FindSubmatch(b)
	if m == nil {
		p.t.Fatalf("no %s in %s", key, b)
	}
	n, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return n << 10
}

// PID is that of the program that was last started.
func (p *Program) PID() int { return p.command.Process.Pid }

// Kill ends it at once, if it runs.
func (p *Program) Kill() {
	if p.command != nil {
		_ = p.command.Process.Kill() // it may be gone
	}
	<-p.gone
}

// Signal sends it a signal.
func (p *Program) Signal(sig syscall.Signal) {
	p.t.Helper()
	if err := p.command.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// Stop ends it as systemd does, and returns its exit code.
func (p *Program) Stop() int {
	p.t.Helper()
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.gone:
	case <-time.After(Hangs):
		p.t.Fatalf("%s does not end:\n%s", p.name, p.Tail(20))
	}
	return p.command.ProcessState.ExitCode()
}

// Running says whether it does.
func (p *Program) Running() bool {
	select {
	case <-p.gone:
		return false
	default:
		return true
	}
}

// Until waits for what must come.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(Hangs); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("it never comes: %s", what)
}

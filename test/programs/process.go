// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Process is a running program.
type Process struct {
	PID  int
	Path string // of what was built; "" for commands

	in     io.WriteCloser
	done   chan struct{}
	status error // after done
}

// Options of Start. The zero value builds and runs as the source says.
type Options struct {
	Flags []string // added for the compiler
	Args  []string // of the program
	Dir   string   // to build in; a temporary one if empty
	As    string   // the name to run it by; that of the source if empty
}

// Start builds a program, starts it, waits until it is ready and stops it when
// the test is over.
func Start(t testing.TB, name string, o Options) *Process {
	t.Helper()
	p, err := Read(name)
	if err != nil {
		t.Fatal(err)
	}
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	path, err := p.Build(o.Dir, o.Flags...)
	if err != nil {
		t.Fatal(err)
	}
	if o.As != "" {
		built := path
		path = filepath.Join(o.Dir, o.As)
		if err := os.Rename(built, path); err != nil {
			t.Fatal(err)
		}
	}
	running, err := Launch(exec.Command(path, o.Args...), "ready")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(running.Stop)
	running.Path = path
	return running
}

// cpuLimit ends a target that nobody stopped, because its test was killed: it
// may not burn a machine for good.
const cpuLimit = 1200 // seconds

// Launch starts a command, in a process group of its own, and waits until it
// prints a line that contains ready; "" waits for nothing.
func Launch(c *exec.Cmd, ready string) (*Process, error) {
	in, err := c.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Setpgid = true
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	limit := unix.Rlimit{Cur: cpuLimit, Max: cpuLimit}
	_ = unix.Prlimit(c.Process.Pid, unix.RLIMIT_CPU, &limit, nil) // a safety net; without it the test is as good

	p := &Process{PID: c.Process.Pid, in: in, done: make(chan struct{})}
	isReady := make(chan bool, 1)
	go func() {
		s := bufio.NewScanner(out)
		for waiting := ready != ""; s.Scan(); {
			if waiting && strings.Contains(s.Text(), ready) {
				waiting = false
				isReady <- true
			}
		}
		_, _ = io.Copy(io.Discard, out) // past a line too long for the scanner
		p.status = c.Wait()
		close(p.done)
	}()
	if ready == "" {
		return p, nil
	}
	select {
	case <-isReady:
		return p, nil
	case <-p.done:
		return nil, fmt.Errorf("start %s: it ended before it was ready: %v", c.Path, p.status)
	}
}

// Tell sends the byte on standard input that some programs wait for.
func (p *Process) Tell() error { return p.Say("\n") }

// Say writes to the program's standard input.
func (p *Process) Say(what string) error {
	_, err := p.in.Write([]byte(what))
	return err
}

// Wait waits for the program's end.
func (p *Process) Wait() error {
	<-p.done
	return p.status
}

// Stop kills the program and what it started.
func (p *Process) Stop() {
	_ = syscall.Kill(-p.PID, syscall.SIGKILL) // it may be gone
	<-p.done
}

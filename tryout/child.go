// SPDX-License-Identifier: Apache-2.0

package tryout

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/terminal"
)

// lookEvery is how often somebody who starts is looked at.
const lookEvery = 20 * time.Millisecond

// child is a service that this command has started. It ends with this command,
// however that ends.
type child struct {
	name  string
	log   string // a file
	show  io.Writer
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has
	err   error         // with which; to be read after ended
}

// startChild starts a service with a configuration, both in a directory. What it
// says at last is shown if it ends by itself.
func startChild(dir, program string, config object, show io.Writer) (*child, error) {
	c := &child{name: filepath.Base(program), show: show, ended: make(chan struct{})}
	c.log = filepath.Join(dir, c.name+".log")
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, c.name+".json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(c.log, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.cmd = exec.Command(program, "--config", file)
	c.cmd.Stdout, c.cmd.Stderr = out, out
	for _, v := range os.Environ() { // what is set for other services is not meant for these
		if !strings.HasPrefix(v, "SRPROF_") && !strings.HasPrefix(v, "NOTIFY_SOCKET=") {
			c.cmd.Env = append(c.cmd.Env, v)
		}
	}
	// A group of its own: Ctrl-C is for this command, which ends them in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go func() {
		// The kernel's parent is the thread, not the process: this one must stay.
		runtime.LockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
			close(c.ended)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// listening waits until the service's log says where it listens.
func (c *child) listening(ctx context.Context, most time.Duration) (address string, err error) {
	late := time.After(most)
	for {
		text, err := os.ReadFile(c.log)
		if err != nil {
			return "", err
		}
		for line := range bytes.Lines(text) {
			var said struct{ Message, Address string }
			if json.Unmarshal(line, &said) == nil && said.Message == "listening" {
				return said.Address, nil
			}
		}
		select {
		case <-c.ended:
			return "", c.died()
		case <-ctx.Done(): // somebody does not want to wait for it
			return "", ctx.Err()
		case <-late:
			return "", c.died()
		case <-time.After(lookEvery):
		}
	}
}

const lastLines = 20 // of a log

// died shows what a service said at last, and returns how it ended.
func (c *child) died() error {
	text, _ := os.ReadFile(c.log) // what is not there cannot be shown
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	fmt.Fprintf(c.show, "srprof: the log of %s ends with\n", c.name)
	for _, line := range lines[max(0, len(lines)-lastLines):] {
		fmt.Fprintf(c.show, "  %s\n", terminal.Printable(line))
	}
	how := "does not get ready"
	select {
	case <-c.ended:
		how = "has ended"
		if c.err != nil {
			how += ": " + c.err.Error()
		}
	default:
	}
	return &session.Error{Code: "service_ended", Kind: session.ErrUnavailable, Problem: c.name + " " + how}
}

// stop ends it, and waits until it has ended.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", c.name, err)
	}
	hard := time.AfterFunc(endTime, func() { _ = c.cmd.Process.Kill() }) // it has ended, or will now
	defer hard.Stop()
	<-c.ended
	return nil
}

// firstToEnd yields the first of them that has ended.
func firstToEnd(all []*child) <-chan *child {
	first := make(chan *child, len(all))
	for _, c := range all {
		go func() {
			<-c.ended
			first <- c
		}()
	}
	return first
}

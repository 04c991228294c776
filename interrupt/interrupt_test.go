// SPDX-License-Identifier: Apache-2.0

package interrupt

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// programEnv makes the test binary the program that is interrupted. It says so
// when it listens, and when it was asked to end, and then ends only by a signal.
const programEnv = "SRPROF_TEST_INTERRUPT"

func TestMain(m *testing.M) {
	if os.Getenv(programEnv) == "" {
		os.Exit(m.Run())
	}
	ctx := Context(os.Interrupt, syscall.SIGTERM)
	fmt.Println("ready")
	<-ctx.Done()
	fmt.Println("asked")
	_, _ = io.Copy(io.Discard, os.Stdin) // a signal ends it before, or its parent has gone
	os.Exit(0)
}

// program is one that runs, and what it says.
type program struct {
	*exec.Cmd
	said *bufio.Reader
}

func start(t *testing.T) *program {
	t.Helper()
	c := exec.Command("/proc/self/exe")
	c.Env = append(os.Environ(), programEnv+"=1")
	if _, err := c.StdinPipe(); err != nil { // stays open until it has ended
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{c, bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = c.Process.Kill() // it has ended, mostly
		_ = c.Wait()
	})
	p.says(t, "ready")
	return p
}

func (p *program) says(t *testing.T, want string) {
	t.Helper()
	if line, err := p.said.ReadString('\n'); err != nil || strings.TrimSpace(line) != want {
		t.Fatalf("it says %q (%v), want %q", line, err, want)
	}
}

func (p *program) send(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// endsBy waits until the program was ended by the signal itself.
func (p *program) endsBy(t *testing.T, want syscall.Signal) {
	t.Helper()
	_, _ = io.Copy(io.Discard, p.said) // what it said besides does not matter
	_ = p.Wait()                       // its state says how it ended
	if w := p.ProcessState.Sys().(syscall.WaitStatus); !w.Signaled() || w.Signal() != want {
		t.Fatalf("it ended with %v, want %v", p.ProcessState, want)
	}
}

// The first signal asks, the second ends it.
func TestSecondSignalEnds(t *testing.T) {
	p := start(t)
	p.send(t, syscall.SIGTERM)
	p.says(t, "asked")
	p.send(t, syscall.SIGINT)
	p.endsBy(t, syscall.SIGINT)
}

// Neither signal is lost however close they follow one another. They are two
// different ones, since the kernel makes one of two equal ones that wait.
func TestSecondSignalAtOnce(t *testing.T) {
	for range 100 {
		p := start(t)
		p.send(t, syscall.SIGTERM)
		p.send(t, syscall.SIGINT)
		_, _ = io.Copy(io.Discard, p.said)
		_ = p.Wait()
		// Which of them the kernel delivers first is not said.
		if w := p.ProcessState.Sys().(syscall.WaitStatus); !w.Signaled() {
			t.Fatalf("it ended with %v, want by a signal", p.ProcessState)
		}
	}
}

// A signal that comes twice at once, as timeout(1) sends it, asks once.
func TestTwiceAtOnce(t *testing.T) {
	late := make(chan time.Time)
	of := func(signals ...os.Signal) <-chan os.Signal {
		came := make(chan os.Signal)
		go func() {
			for _, s := range signals {
				came <- s
			}
			close(late)
		}()
		return came
	}
	if next := another(syscall.SIGTERM, of(syscall.SIGTERM, syscall.SIGTERM), late); next != nil {
		t.Errorf("%v ends the program", next)
	}
	came := make(chan os.Signal, 2)
	came <- syscall.SIGTERM
	came <- syscall.SIGINT
	if next := another(syscall.SIGTERM, came, nil); next != syscall.SIGINT {
		t.Errorf("%v ends the program, want %v", next, syscall.SIGINT)
	}
}

// SPDX-License-Identifier: Apache-2.0

package soak_test

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// target is a process, and the functions one of which must be its hottest.
type target struct {
	pid int
	hot []string
}

// targets are those that live as long as the soak.
type targets struct {
	program             string
	busy                []target // that work, each in its own way
	children            target   // its children work, not it
	asleep, kernel, bad target
}

func startTargets(t *testing.T) targets {
	t.Helper()
	p, err := programs.Read("changes.c")
	if err != nil {
		t.Fatal(err)
	}
	path, err := p.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	launch := func(hot string, args ...string) target {
		p, err := programs.Launch(exec.Command(args[0], args[1:]...), "")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Stop)
		return target{p.PID, []string{hot}}
	}
	return targets{program: path,
		busy:     []target{launch("hot_a", path, "a", "stay", "0"), launch("hot_c", path, "c", "threads", "30")},
		children: launch("hot_b", path, "b", "fork", "30"),
		asleep:   launch("", "sleep", "1000000"),
		kernel:   target{pid: 2},       // kthreadd
		bad:      target{pid: 4194305}, // more than any kernel's pid_max may be
	}
}

// brief starts a process that changes after a while.
func (v *visitor) brief(how string, after time.Duration) (target, func(), error) {
	which := v.chance.IntN(3)
	p, err := programs.Launch(exec.Command(v.always.program, string(rune('a'+which)), how, strconv.Itoa(int(after.Milliseconds()))), "")
	if err != nil {
		return target{}, nil, err
	}
	name := func(i int) string { return "hot_" + string(rune('a'+i%3)) }
	hot := []string{name(which)}
	if how == "exec" {
		hot = append(hot, name(which+1))
	}
	return target{p.PID, hot}, p.Stop, nil
}

// zombie is a process that has exited and that nobody has waited for yet.
func zombie() (pid int, reap func(), err error) {
	c := exec.Command("true")
	if err := c.Start(); err != nil {
		return 0, nil, err
	}
	reap = func() { _ = c.Wait() } // how it ended does not matter
	for end := time.Now().Add(hangs); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.Process.Pid))
		if err != nil {
			reap()
			return 0, nil, err
		}
		if _, rest, ok := strings.Cut(string(stat), ") "); ok && rest[0] == 'Z' {
			return c.Process.Pid, reap, nil
		}
	}
	reap()
	return 0, nil, fmt.Errorf("process %d does not exit", c.Process.Pid)
}

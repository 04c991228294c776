// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"
)

func TestAll(t *testing.T) {
	pids, err := All()
	if err != nil || !slices.IsSorted(pids) || !slices.Contains(pids, os.Getpid()) || !slices.Contains(pids, os.Getppid()) {
		t.Errorf("%v, %v", pids, err)
	}
}

func TestStartTime(t *testing.T) {
	before := time.Now()
	c := exec.Command("sleep", "60")
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	s, err := ReadStat(c.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	started, err := s.StartTime()
	const step = 20 * time.Millisecond // the kernel's, and that of rounding
	if err != nil || started.Before(before.Add(-step)) || started.After(time.Now().Add(step)) {
		t.Errorf("it started at %v, not after %v: %v", started, before, err)
	}
	if own, err := ReadStat(os.Getpid()); err != nil || own.Memory < 1<<20 || own.Memory > 1<<34 {
		t.Errorf("this program has %d bytes: %v", own.Memory, err)
	}
}

func TestUsers(t *testing.T) {
	users, err := ReadUsers(os.Getpid())
	if err != nil || !slices.Contains(users, uint32(os.Geteuid())) {
		t.Errorf("%v, %v", users, err)
	}
	if _, err := ReadUsers(1<<22 + 1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("users of no process: %v", err)
	}
	if name := UserName(0); name != "root" {
		t.Errorf("user 0 is called %s", name)
	}
	if name := UserName(4_000_000_001); name != "4000000001" {
		t.Errorf("a user without a name is called %s", name)
	}
}

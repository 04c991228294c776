// SPDX-License-Identifier: Apache-2.0

package process

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"
)

func TestReadInside(t *testing.T) {
	in, err := ReadInside(os.Getpid())
	if err != nil || in.PID != os.Getpid() || !slices.Contains(in.Users, uint32(os.Geteuid())) {
		t.Errorf("of ourselves: %+v, %v", in, err)
	}
	if _, err := ReadInside(1 << 30); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of nobody: %v", err)
	}
}

// A process in namespaces of its own, which runs as a user of its own.
func TestReadInsideOfNamespaces(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c := exec.Command("sleep", "60")
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWPID | syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 10000, Size: 100}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 10000, Size: 100}},
		Credential:  &syscall.Credential{Uid: 33, Gid: 33},
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer c.Wait()
	defer c.Process.Kill()
	for n := 0; ; n++ { // Start returns at its exec
		in, err := ReadInside(c.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if in.PID == 1 && slices.Equal(in.Users, []uint32{10033}) && in.Root == 10000 {
			return
		}
		if n == 1000 {
			t.Fatalf("%+v, want PID 1 and user 33 inside, which is 10033, below root 10000", in)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestRootUser(t *testing.T) {
	for users, want := range map[string]uint32{
		"         0          0 4294967295\n": 0, "0 100000 65536\n": 100000, "1 5 1\n0 1000 1\n": 1000, "": 0, "0 x 1\n": 0, "0\n": 0, "7 8 9\n": 0,
	} {
		if got := rootUser(users); got != want {
			t.Errorf("%q: %d, want %d", users, got, want)
		}
	}
}

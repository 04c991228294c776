// SPDX-License-Identifier: Apache-2.0

package host_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/host"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// copied is a program of this host under another name.
func copied(t *testing.T, program, name string) string {
	t.Helper()
	from, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(to, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return to
}

// launch starts a command, and returns when it runs that and not this test's
// program still.
func launch(t *testing.T, command ...string) int {
	t.Helper()
	p, err := programs.Launch(exec.Command(command[0], command[1:]...), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Stop)
	return p.PID
}

func resolved(t *testing.T, s session.Selector) []int {
	t.Helper()
	pids, err := host.Resolve(t.Context(), s)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s: %v", s.String(), err)
	}
	return pids
}

// means checks what a selector means.
func means(t *testing.T, s session.Selector, want ...int) {
	t.Helper()
	slices.Sort(want)
	if got := resolved(t, s); !slices.Equal(got, want) {
		t.Errorf("%s: %v, want %v", s.String(), got, want)
	}
	listed, err := host.Processes(t.Context(), s, 0)
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, p := range listed {
		pids = append(pids, p.PID)
	}
	slices.Sort(pids)
	if !slices.Equal(pids, want) {
		t.Errorf("%s: listed are %v, want %v", s.String(), pids, want)
	}
}

func byName(name string) session.Selector { return session.Selector{Name: name} }

// own makes a name that only this test's processes have.
func own(rest string) string { return "n" + strconv.Itoa(os.Getpid()) + rest }

// The kernel keeps 15 bytes of a name. Programs are told apart all the same, and
// scripts have the name of their file.
func TestNames(t *testing.T) {
	long, other := own("-long-name-of-a-program-1"), own("-long-name-of-a-program-2")
	a, b := launch(t, copied(t, "sleep", long), "1000"), launch(t, copied(t, "sleep", other), "1000")
	means(t, byName(long), a)
	means(t, byName(other), b)
	means(t, byName(long[:15]), a, b) // as ps shows both
	means(t, byName(long[:14]))
	means(t, byName(long[:14]+"*"), a, b)
	means(t, byName(own("-long-name-of-a-program-?")), a, b)
	means(t, byName(long+"0"))

	script := filepath.Join(t.TempDir(), own("-script-of-a-long-name.sh"))
	if err := os.WriteFile(script, []byte("#!/bin/sh\nwhile :; do read x; done\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := launch(t, script)
	means(t, byName(filepath.Base(script)), c)
	means(t, byName(filepath.Base(script)[:15]), c)
	means(t, byName(filepath.Base(script)[:14]))

	replaced := copied(t, "sleep", own("-gone"))
	d := launch(t, replaced, "1000")
	if err := os.Remove(replaced); err != nil {
		t.Fatal(err)
	}
	means(t, byName(own("-gone")), d)
}

// Not meant are: ourselves, unless by name; what has ended; the kernel's.
func TestWhoIsNotMeant(t *testing.T) {
	self, err := process.ReadStat(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if pids := resolved(t, byName("*")); slices.Contains(pids, self.PID) || len(pids) == 0 {
		t.Errorf("all processes: %v with us, %d", pids, self.PID)
	}
	if pids := resolved(t, byName(self.Comm)); !slices.Contains(pids, self.PID) {
		t.Errorf("%s is %v, not us, %d", self.Comm, pids, self.PID)
	}
	ours := launch(t, copied(t, "sleep", "serviceradar-profiler-agent"), "1000")
	if pids := resolved(t, byName("serviceradar-profiler*")); slices.Contains(pids, ours) {
		t.Errorf("by a pattern an agent of ours is meant: %v", pids)
	}
	if pids := resolved(t, byName("serviceradar-profiler-agent")); !slices.Contains(pids, ours) {
		t.Errorf("by its name an agent of ours is not meant: %v", pids)
	}

	ended := exec.Command(copied(t, "true", own("-ended")))
	if err := ended.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if s, err := process.ReadStat(ended.Process.Pid); err == nil && s.Exited() {
			break
		}
		if time.Now().After(end) {
			t.Fatal("true did not end")
		}
	}
	means(t, byName(own("-ended")))
	if err := ended.Wait(); err != nil {
		t.Error(err)
	}

	if kernel, err := process.ReadStat(2); err != nil || !kernel.Kernel {
		t.Skip("no threads of the kernel are to be seen")
	}
	_, err = host.Resolve(t.Context(), byName("kthrea?d"))
	wants(t, err, fs.ErrNotExist, "no_such_process")
	_, err = host.Resolve(t.Context(), byName("kthreadd"))
	wants(t, err, session.ErrInvalid, "kernel_thread")
	if pids := resolved(t, session.Selector{Cgroup: "/"}); slices.Contains(pids, 2) || slices.Contains(pids, self.PID) {
		t.Errorf("all control groups: %v", pids)
	}
}

func wants(t *testing.T, err, kind error, code string) *session.Error {
	t.Helper()
	var e *session.Error
	if !errors.As(err, &e) {
		t.Fatalf("%v is no *session.Error", err)
	}
	if !errors.Is(err, kind) || e.Code != code || e.Problem == "" || e.Remedy == "" {
		t.Errorf("%v (%s), want %s", err, e.Code, code)
	}
	return e
}

func TestNoSuchProcess(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	for s, word := range map[session.Selector]string{
		byName("no-such-process"):  `the name "no-such-process"`,
		{Unit: "no-such-unit"}:     `the unit "no-such-unit"`,
		{Container: id}:            "a container whose ID begins with " + id,
		{Cgroup: "/no/such/group"}: "the control group /no/such/group",
	} {
		_, err := host.Resolve(t.Context(), s)
		if e := wants(t, err, fs.ErrNotExist, "no_such_process"); !strings.Contains(e.Problem, word) {
			t.Errorf("%s: %v", s.String(), err)
		}
	}
	_, err := host.Resolve(t.Context(), session.Selector{})
	wants(t, err, session.ErrInvalid, "bad_selector")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := host.Resolve(ctx, byName("a")); !errors.Is(err, context.Canceled) {
		t.Errorf("for nobody: %v", err)
	}
	if _, err := host.Processes(ctx, session.Selector{}, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a list for nobody: %v", err)
	}
}

// groups makes control groups, and returns how to enter one.
func groups(t *testing.T, names ...string) (enter func(name string, pid int)) {
	t.Helper()
	for _, base := range []string{"/sys/fs/cgroup/unified", "/sys/fs/cgroup", "/sys/fs/cgroup/systemd"} {
		if _, err := os.Stat(filepath.Join(base, "cgroup.procs")); err != nil {
			continue
		}
		if err := os.Mkdir(filepath.Join(base, names[0]), 0o755); err != nil {
			continue
		}
		for _, name := range names[1:] {
			if err := os.Mkdir(filepath.Join(base, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		t.Cleanup(func() {
			for _, name := range slices.Backward(names) {
				var err error
				for range 400 { // the kernel lets go of processes a little later
					if err = os.Remove(filepath.Join(base, name)); err == nil {
						break
					}
					time.Sleep(5 * time.Millisecond)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
		return func(name string, pid int) {
			if err := os.WriteFile(filepath.Join(base, name, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if os.Getenv("SRPROF_REQUIRE_ALL") != "" {
		t.Fatal("no control groups can be made here")
	}
	t.Skip("no control groups can be made here")
	return nil
}

func TestGroups(t *testing.T) {
	slice := "/" + own(".slice")
	shop, shop2 := slice+"/"+own("shop.service"), slice+"/"+own("shop@2.service")
	one, two := strings.Repeat("0123456789abcdef", 4), "0123456789ab"+strings.Repeat("f", 52)
	docker, cri := slice+"/docker-"+one+".scope", slice+"/cri-containerd-"+two+".scope"
	enter := groups(t, slice, shop, shop+"/worker", shop2, docker, cri)
	in := map[string]int{}
	for _, group := range []string{shop, shop + "/worker", shop2, docker, cri} {
		in[group] = launch(t, "sleep", "1000")
		enter(group, in[group])
	}
	sorted := func(names ...string) (pids []int) {
		for _, name := range names {
			pids = append(pids, in[name])
		}
		slices.Sort(pids)
		return pids
	}
	unit := func(name string) session.Selector { return session.Selector{Unit: name} }
	means(t, unit(own("shop")), sorted(shop, shop+"/worker")...)
	means(t, unit(own("shop.service")), sorted(shop, shop+"/worker")...)
	means(t, unit(own("shop*")), sorted(shop, shop+"/worker", shop2)...)
	means(t, unit(own("shop@*.service")), sorted(shop2)...)
	means(t, unit(own("sho")))
	means(t, unit("docker-*.scope"), sorted(docker)...)
	group := func(path string) session.Selector { return session.Selector{Cgroup: path} }
	means(t, group(slice), sorted(shop, shop+"/worker", shop2, docker, cri)...)
	means(t, group(slice+"/"), sorted(shop, shop+"/worker", shop2, docker, cri)...)
	means(t, group(shop), sorted(shop, shop+"/worker")...)
	means(t, group(shop+"/worker"), sorted(shop+"/worker")...)
	means(t, group(slice[:len(slice)-1]))
	container := func(id string) session.Selector { return session.Selector{Container: id} }
	means(t, container(one), sorted(docker)...)
	means(t, container(two[:13]), sorted(cri)...)
	means(t, container(one[:12]+"0"))
	_, err := host.Resolve(t.Context(), container(one[:12]))
	wants(t, err, session.ErrInvalid, "ambiguous_container")

	listed, err := host.Processes(t.Context(), container(one), 0)
	if err != nil || len(listed) != 1 || listed[0].Container != one || listed[0].Cgroup != docker || listed[0].Unit != "docker-"+one+".scope" {
		t.Errorf("%+v, %v", listed, err)
	}
}

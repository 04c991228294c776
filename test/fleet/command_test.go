// SPDX-License-Identifier: Apache-2.0

package fleet_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/daemons"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Exit codes of srprof, as its help tells them.
const (
	ok, failed, partial, denied, empty, interrupted = 0, 1, 3, 4, 5, 130
)

// expect runs srprof at the poller, and wants an exit code and words.
func (f *fleet) expect(code int, words []string, args ...string) string {
	f.t.Helper()
	out, got := f.srprof(f.pollerAddress(), args...)
	if got != code {
		f.t.Errorf("srprof %s: exit code %d, want %d:\n%s", strings.Join(args, " "), got, code, out)
	}
	for _, w := range words {
		if !strings.Contains(out, w) {
			f.t.Errorf("srprof %s does not say %q:\n%s", strings.Join(args, " "), w, out)
		}
	}
	return out
}

// What people do with a fleet, by the command they have: three hosts, and one
// that is watched by an agent without profiling.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	s := newSite(t, 3)
	s.plain(s.node("a-plain"))
	f := s.fleet(3, nil)
	f.stands("a-plain", session.HostUnsupported)
	worker := unique("work")
	target := programs.Start(t, "split.c", programs.Options{As: worker})
	idle := exec.Command("sleep", "1000")
	if err := idle.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = idle.Process.Kill(); _ = idle.Wait() })

	f.expect(ok, []string{"a-plain", "no profiling", "web-01", "web-02", "web-03", "ready"}, "hosts")
	f.expect(ok, []string{pid(target), worker}, "ps", "web-02", "--name", worker)
	f.expect(failed, []string{"a-plain"}, "ps", "a-plain")

	named := []string{"--name", worker, "-F", "199"}
	with := func(args ...string) []string { return append(args, named...) }
	f.expect(ok, []string{"matches 2 processes on 2 hosts", "web-01"}, with("run", "-l", "role=web", "--dry-run")...)
	f.expect(partial, []string{"matches 3 processes on 3 hosts", "a-plain"}, with("run", "--all", "--dry-run")...)
	f.balance(0)

	f.expect(ok, []string{"hot_"}, with("run", "web-03", "-d", "1s")...)
	f.expect(partial, []string{"1 of 4 hosts failed", "a-plain: ", "hot_"}, with("run", "--all", "-d", "1s")...)
	f.expect(failed, []string{"[no_profiling]"}, with("run", "a-plain", "-d", "1s")...)
	f.expect(failed, []string{"[no_such_process]"}, "run", "web-01", "--name", "no-such-worker", "-d", "1s")
	f.expect(denied, []string{"[no_role]"}, with("run", "web-01", "-d", "1s", "--identity", "agent")...)
	f.expect(empty, nil, "run", "web-01", "--pid", strconv.Itoa(idle.Process.Pid), "-d", "1s")
	f.oneAtATime(named)
	f.canary(named)
	f.interrupt(named)

	out := f.expect(ok, []string{"succeeded", "4 hosts (1 failed)", "canceled"}, "list")
	id := strings.Fields(strings.Split(strings.TrimSpace(out), "\n")[1])[0]
	f.expect(ok, []string{"web-03", "succeeded"}, "get", id)
	for _, one := range f.sessions() {
		if !one.State.Final() || one.State != session.StateSucceeded && one.Err == nil {
			t.Errorf("%s is %s: %v", one.ID, one.State, one.Err)
		}
	}
	f.balance(len(f.sessions()))
}

// unique is a name for processes that nobody else on this machine has.
func unique(name string) string { return fmt.Sprintf("%s-%d", name, os.Getpid()) }

func (f *fleet) sessions() []session.Session {
	f.t.Helper()
	all, err := f.client.List(f.t.Context(), session.Filter{})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

// decodeSession takes the session out of what srprof -o json wrote.
func decodeSession(t testing.TB, out string) (one session.Session) {
	t.Helper()
	at := strings.Index(out, "{")
	if at < 0 {
		t.Fatalf("no session:\n%s", out)
	}
	if err := json.NewDecoder(strings.NewReader(out[at:])).Decode(&one); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	return one
}

// oneAtATime makes sure that hosts of which one may run at once do so one after
// the other, and that of many as many are taken as are wanted.
func (f *fleet) oneAtATime(named []string) {
	f.t.Helper()
	one := decodeSession(f.t, f.expect(ok, nil, append([]string{"run", "web-*", "--at-once", "1", "-d", "1s", "-o", "json"}, named...)...))
	if len(one.Hosts) != 3 || len(one.Failed()) > 0 {
		f.t.Errorf("%+v", one)
	}
	last := ""
	for _, h := range one.Hosts { // in their order: their profilers' logs say when, all by the same clock
		began, ended := f.lasted(h.Host, h.ID)
		if began < last {
			f.t.Errorf("%s began at %s, and the one before ended at %s", h.Host, began, last)
		}
		last = ended
	}
	one = decodeSession(f.t, f.expect(ok, nil, append([]string{"run", "web-*", "--most", "2", "-d", "1s", "-o", "json"}, named...)...))
	if len(one.Hosts) != 2 || len(one.Failed()) > 0 {
		f.t.Errorf("%d hosts were taken of which 2 were wanted", len(one.Hosts))
	}
}

// lasted is when a host's session began and ended, by the log of its profiler.
func (f *fleet) lasted(name string, id session.ID) (began, ended string) {
	f.t.Helper()
	for _, h := range f.hosts {
		if h.name != name {
			continue
		}
		for _, l := range h.profiler.All(func(l *daemons.Line) bool { return l.Session == string(id) }) {
			switch l.Message {
			case "session started":
				began = l.Time
			case "session ended":
				ended = l.Time
			}
		}
	}
	if began == "" || ended == "" {
		f.t.Errorf("%s has not run session %s", name, id)
	}
	return began, ended
}

// canary makes sure that the others are never started where the first host
// fails, and are where it does not.
func (f *fleet) canary(named []string) {
	f.t.Helper()
	started := func() (n int) {
		for _, h := range f.hosts {
			n += len(h.profiler.All(func(l *daemons.Line) bool { return l.Message == "session started" }))
		}
		return n
	}
	before := started()
	f.expect(failed, []string{"a-plain: ", "went first"}, append([]string{"run", "--all", "--canary", "-d", "1s", "-o", filepath.Join(f.data, "canary.svg")}, named...)...)
	if n := started() - before; n > 0 {
		f.t.Errorf("the first host has failed, and %d others were started", n)
	}
	f.expect(ok, []string{"hot_"}, append([]string{"run", "web-*", "--canary", "-d", "1s"}, named...)...)
	if n := started() - before; n != 3 {
		f.t.Errorf("the first host has succeeded, and %d hosts were started", n)
	}
}

// interrupt presses Ctrl-C while all hosts sample: it ends on all of them, and
// what they sampled is written.
func (f *fleet) interrupt(named []string) {
	f.t.Helper()
	file := filepath.Join(f.data, "interrupted.folded")
	c := exec.Command(daemons.Path("srprof"), append([]string{"run", "web-*", "-d", "4m", "--by-host", "-o", file, "--server", f.pollerAddress(), "--cert-dir", f.certs}, named...)...)
	f.hub.inside(c)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		f.t.Fatal(err)
	}
	var one session.Session
	daemons.Until(f.t, "all hosts have samples", func() bool {
		for _, one = range f.sessions() {
			if !one.State.Final() && len(one.Hosts) == 3 {
				return one.Hosts[0].Progress.Samples > 5 && one.Hosts[1].Progress.Samples > 5 && one.Hosts[2].Progress.Samples > 5
			}
		}
		return false
	})
	daemons.Until(f.t, "top shows a function", func() bool {
		out, code := f.srprof(f.pollerAddress(), "top", string(one.ID), "--once")
		return code == ok && strings.Contains(out, "hot_")
	})
	if err := c.Process.Signal(syscall.SIGINT); err != nil {
		f.t.Fatal(err)
	}
	over := make(chan struct{})
	go func() { defer close(over); _ = c.Wait() }()
	select {
	case <-over:
	case <-time.After(daemons.Hangs):
		_ = c.Process.Kill()
		<-over
		f.t.Fatalf("it does not end:\n%s", &out)
	}
	if code := c.ProcessState.ExitCode(); code != interrupted {
		f.t.Errorf("exit code %d:\n%s", code, &out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		f.t.Error(err)
	}
	last := f.ended(one.ID)
	if last.State != session.StateCanceled {
		f.t.Errorf("it is %s", last.State)
	}
	for _, h := range last.Hosts {
		if h.State != session.StateCanceled || !strings.Contains(string(text), h.Host+";") {
			f.t.Errorf("%s is %s, and in the profile: %v", h.Host, h.State, strings.Contains(string(text), h.Host+";"))
		}
	}
}

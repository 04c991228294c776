// SPDX-License-Identifier: Apache-2.0

package host

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// resolve finds the processes that a selector means.
func (u *usage) resolve(ctx context.Context, s session.Selector) ([]int, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	chosen, err := u.chosen(ctx, &s)
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, p := range chosen {
		if p.Kernel {
			return nil, session.Invalid("kernel_thread", fmt.Sprintf("process %d (%s) is a kernel thread, which has no user code to profile", p.PID, p.Comm), "choose a process with a program of its own")
		}
		pids = append(pids, p.PID)
	}
	switch {
	case len(pids) == 0:
		return nil, none(&s)
	case len(pids) > session.MaxTargets:
		return nil, session.Invalid("too_many_targets", fmt.Sprintf("%d processes are too many for one session: so many are meant by %s", len(pids), s.String()),
			fmt.Sprintf("choose at most %d", session.MaxTargets))
	}
	return pids, nil
}

func (u *usage) chosen(ctx context.Context, s *session.Selector) ([]process.Stat, error) {
	if !s.Hottest {
		all, err := stats(ctx)
		if err != nil {
			return nil, err
		}
		return choose(s, all, func(p *process.Stat) *process.Stat { return p })
	}
	all, err := u.measure(ctx)
	if err != nil {
		return nil, err
	}
	var chosen []process.Stat
	for _, p := range hottest(all) {
		chosen = append(chosen, p.Stat)
	}
	return chosen, nil
}

// hottest is the one that used most CPU time, if any did. It is never one of
// ours, which work because they are asked.
func hottest(all []used) []used {
	for i := range all {
		if p := &all[i]; p.spent > 0 && !p.Kernel && !ours(&p.Stat) {
			return all[i : i+1]
		}
	}
	return nil
}

// fit is how a process fits a selector.
type fit int

const (
	not     fit = iota
	broadly     // by a pattern, or as one of many in a group
	exactly     // by the name of just that
)

// choose picks those that a selector means. Our own processes are meant only by
// the name of just these; kernel threads, which cannot be profiled, only where
// nothing else has the name, so that whoever names one is told what it is.
func choose[P any](s *session.Selector, all []P, of func(*P) *process.Stat) ([]P, error) {
	var chosen, kernel []P
	containers := map[string]bool{}
	for i := range all {
		p := of(&all[i])
		f := fits(s, p, containers)
		switch {
		case f == not, p.Kernel && f != exactly, f == broadly && ours(p):
		case p.Kernel:
			kernel = append(kernel, all[i])
		default:
			chosen = append(chosen, all[i])
		}
	}
	if len(containers) > 1 {
		return nil, session.Invalid("ambiguous_container", fmt.Sprintf("the IDs of %d containers begin with %s", len(containers), s.Container), "give more of it")
	}
	if len(chosen) == 0 && s.Name != "" {
		return kernel, nil
	}
	return chosen, nil
}

func fits(s *session.Selector, p *process.Stat, containers map[string]bool) fit {
	if s.Name != "" {
		return fitsName(s.Name, p)
	}
	cgroups, err := process.ReadCgroups(p.PID)
	if err != nil { // it has exited, or is hidden
		return not
	}
	group := cgroups.Path()
	switch {
	case s.Unit != "":
		unit := process.Unit(group)
		return max(likeness(s.Unit, unit), likeness(s.Unit+".service", unit))
	case s.Container != "":
		id := process.Container(group)
		if !strings.HasPrefix(id, s.Container) {
			return not
		}
		containers[id] = true
		return exactly
	}
	switch wanted := path.Clean(s.Cgroup); {
	case group == wanted:
		return exactly
	case wanted == "/", strings.HasPrefix(group, wanted+"/"):
		return broadly
	}
	return not
}

// commBytes is how much of a name the kernel keeps (TASK_COMM_LEN, less the
// byte at its end).
const commBytes = 15

// fitsName compares with the name of the main thread, which the kernel may have
// cut, and with that of the executable.
func fitsName(name string, p *process.Stat) fit {
	if f := likeness(name, p.Comm); f == exactly || p.Kernel {
		return f
	}
	file := path.Base(executable(p)) // "." if there is none
	f := max(likeness(name, p.Comm), likeness(name, file))
	// A cut name that is not that of the executable is that of a script, or one
	// that the process gave itself: then more than it is not known.
	if f == not && len(p.Comm) == commBytes && !strings.HasPrefix(file, p.Comm) && strings.HasPrefix(name, p.Comm) {
		return exactly
	}
	return f
}

func likeness(pattern, name string) fit {
	if pattern == name {
		return exactly
	}
	if ok, _ := path.Match(pattern, name); ok && name != "" { // Validate refuses what is no pattern
		return broadly
	}
	return not
}

func ours(p *process.Stat) bool { return p.PID == os.Getpid() || session.Ours(executable(p)) }

// none says that a selector means nothing here.
func none(s *session.Selector) error {
	e := &session.Error{Code: "no_such_process", Kind: fs.ErrNotExist, Remedy: hidden("srprof ps lists those that there are")}
	switch {
	case s.Name != "":
		e.Problem = fmt.Sprintf("no process of this host has the name %q", s.Name)
	case s.Unit != "":
		e.Problem = fmt.Sprintf("no process of this host is in the unit %q", s.Unit)
	case s.Container != "":
		e.Problem = fmt.Sprintf("no process of this host is in a container whose ID begins with %s", s.Container)
	case s.Cgroup != "":
		e.Problem = fmt.Sprintf("no process of this host is in the control group %s, or below it", s.Cgroup)
	default:
		e.Code, e.Problem = "host_idle", "no process of this host uses CPU time just now"
		e.Remedy = hidden("name a process, or try again when one does")
	}
	return e
}

// hidden is the remedy where processes cannot be seen, else the one that is
// given.
func hidden(remedy string) string { return cmp.Or(Unseen(), remedy) }

// Unseen says why there are processes on this host that this program does not
// see, and what to do; "" if it sees all of them, as far as can be known.
func Unseen() string {
	const first = 1 // there always is one
	switch {
	case process.Hidden(first):
		return "/proc hides the processes of others (it is mounted with hidepid): run as root, or grant CAP_SYS_PTRACE"
	case !process.ShowsKernelPIDs():
		return "this program runs in a PID namespace of its own and sees no others; run it on the host, or in a container with the host's PID namespace (docker run --pid=host)"
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Processes lists the processes of this host that a selector means, all of them
// if it is empty; hottest first, most of them at most (0: all). It takes a
// quarter of a second, in which it sees how much CPU time they use.
func Processes(ctx context.Context, s session.Selector, most int) ([]session.Process, error) {
	var u usage
	return u.processes(ctx, s, most)
}

// Resolve finds the processes of this host that a selector means. Errors are
// *session.Error where the user can do something about them: of kind
// fs.ErrNotExist if there is none.
func Resolve(ctx context.Context, s session.Selector) ([]int, error) {
	var u usage
	return u.resolve(ctx, s)
}

func (u *usage) processes(ctx context.Context, s session.Selector, most int) ([]session.Process, error) {
	if !s.Empty() {
		if err := s.Validate(); err != nil {
			return nil, err
		}
	}
	all, err := u.measure(ctx)
	if err != nil {
		return nil, err
	}
	if s.Hottest {
		all = hottest(all)
	} else if !s.Empty() {
		if all, err = choose(&s, all, func(u *used) *process.Stat { return &u.Stat }); err != nil {
			return nil, err
		}
	}
	if most <= 0 {
		most = len(all)
	}
	look := looker{users: map[uint32]string{}}
	shown := make([]session.Process, 0, min(most, len(all)))
	for i := range all {
		if len(shown) == most {
			break
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		p, err := look.at(&all[i])
		switch {
		case err == nil:
			shown = append(shown, p)
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // it has just exited, or is hidden
		default:
			return nil, err
		}
	}
	return shown, nil
}

// looker finds out what of a process people choose it by.
type looker struct {
	users map[uint32]string // names are looked up once a list
}

func (l *looker) at(u *used) (session.Process, error) {
	p := session.Process{PID: u.PID, Name: u.Comm, CPU: u.cpu, Memory: u.Memory, Threads: u.Threads}
	users, err := process.ReadUsers(u.PID)
	if err != nil {
		return p, err
	}
	cgroups, err := process.ReadCgroups(u.PID)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // the kernel may have none
		return p, err
	}
	if p.Started, err = u.StartTime(); err != nil {
		return p, err
	}
	p.Command = executable(&u.Stat)
	p.User = l.names(users)
	p.Cgroup = cgroups.Path()
	p.Unit, p.Container = process.Unit(p.Cgroup), process.Container(p.Cgroup)
	return p, nil
}

func (l *looker) names(users []uint32) string {
	var names []string
	for _, u := range users {
		if l.users[u] == "" {
			l.users[u] = process.UserName(u)
		}
		names = append(names, l.users[u])
	}
	return strings.Join(names, ",")
}

// executable is the path of the program that a process runs; "" where there is
// none, or it may not be seen.
func executable(s *process.Stat) string {
	if s.Kernel {
		return ""
	}
	path, err := process.Executable(s.PID)
	if err != nil {
		return ""
	}
	return path
}

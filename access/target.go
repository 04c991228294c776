// SPDX-License-Identifier: Apache-2.0

package access

import (
	"io/fs"
	"slices"
	"strings"

	"github.com/carverauto/serviceradar-profiler/process"
)

// target is a process as rules see it, and as the audit names it. Nothing of
// its arguments or environment is ever looked at.
type target struct {
	PID    int    `json:"pid"`
	Name   string `json:"name,omitempty"`
	User   string `json:"user,omitempty"`
	Unit   string `json:"unit,omitempty"`
	Cgroup string `json:"cgroup,omitempty"` // where there is no unit

	start   uint64
	users   []uint32
	cgroup  string
	cgroups process.Cgroups
}

// look finds out who a process is. All of it was true at one moment: start
// times before and after tell that it is the same one. The error is
// fs.ErrNotExist where it is gone; start 0 is whoever has that PID.
func look(pid int, start uint64) (*target, error) {
	before, err := process.ReadStat(pid)
	if err != nil {
		return nil, err
	}
	if start != 0 && before.Start != start {
		return nil, fs.ErrNotExist
	}
	inside, err := process.ReadInside(pid)
	if err != nil {
		return nil, err
	}
	cgroups, err := process.ReadCgroups(pid)
	if err != nil {
		return nil, err
	}
	after, err := process.ReadStat(pid)
	if err != nil {
		return nil, err
	}
	if after.Start != before.Start {
		return nil, fs.ErrNotExist
	}
	t := &target{PID: pid, Name: after.Comm, start: after.Start, users: inside.Users, cgroups: cgroups, cgroup: cgroups.Path()}
	t.Unit = process.Unit(t.cgroup)
	if t.Unit == "" && t.cgroup != "/" {
		t.Cgroup = t.cgroup
	}
	t.User = t.userNames()
	return t, nil
}

// userNames are whose rights the process has: mostly one.
func (t *target) userNames() string {
	var names []string
	for _, u := range t.users {
		names = append(names, process.UserName(u))
	}
	return strings.Join(names, ",")
}

// runsAs says whether the process runs as one of the users meant.
func (t *target) runsAs(meant func(uint32) bool, as sense) bool {
	if as == forNever {
		return slices.ContainsFunc(t.users, meant)
	}
	return len(t.users) > 0 && !slices.ContainsFunc(t.users, func(u uint32) bool { return !meant(u) })
}

// isIn says whether the process is in a control group or below it: by the
// group that counts or, for what nobody may, by that of any hierarchy.
func (t *target) isIn(group string, as sense) bool {
	return below(t.cgroup, group) ||
		as == forNever && slices.ContainsFunc(t.cgroups, func(c process.Cgroup) bool { return below(c.Path, group) })
}

func below(p, group string) bool {
	return p == group || group == "/" || strings.HasPrefix(p, group+"/")
}

func (t *target) executable() (string, error) { return process.Executable(t.PID) }

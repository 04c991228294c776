// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"strconv"
	"strings"
)

// Cgroup is where in one hierarchy of control groups a process is.
type Cgroup struct {
	Hierarchy   int    // 0 is the unified one, version 2
	Controllers string // of version 1: "cpu,cpuacct", "name=systemd"
	Path        string // from the root of our cgroup namespace; "/../…" is outside of it
}

// Cgroups are those of one process, one a hierarchy.
type Cgroups []Cgroup

// ReadCgroups reads where a process is. The error is fs.ErrNotExist when there
// is no such process, or when the kernel has no control groups.
func ReadCgroups(pid int) (Cgroups, error) {
	var all Cgroups
	err := read(pid, "cgroup", func(b []byte) (err error) {
		all, err = ParseCgroups(string(b))
		return err
	})
	return all, err
}

// ParseCgroups parses the text of /proc/PID/cgroup (cgroups(7)): lines of
// hierarchy, controllers and path, with colons in between. A path may have
// colons too, but no newline: the kernel makes no such group.
func ParseCgroups(text string) (Cgroups, error) {
	var all Cgroups
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		f := strings.SplitN(line, ":", 3)
		if len(f) != 3 || !strings.HasPrefix(f[2], "/") {
			return nil, fmt.Errorf("parse control groups: no path in %.200q", line)
		}
		hierarchy, err := strconv.ParseUint(f[0], 10, 31)
		if err != nil {
			return nil, fmt.Errorf("parse control groups: %w", err)
		}
		all = append(all, Cgroup{int(hierarchy), f[1], f[2]})
	}
	return all, nil
}

// Path is the group that counts as the process's: that of the unified
// hierarchy; where that is not in use, that of systemd's own one, then the
// others'. It is "/" for a process that is in none.
func (c Cgroups) Path() string {
	other := ""
	systemd := ""
	for _, g := range c {
		switch {
		case g.Path == "/":
		case g.Hierarchy == 0:
			return g.Path
		case g.Controllers == "name=systemd":
			systemd = g.Path
		case other == "":
			other = g.Path
		}
	}
	for _, p := range []string{systemd, other} {
		if p != "" {
			return p
		}
	}
	return "/"
}

// Unit is the systemd unit that a group belongs to, "" if to none: below
// slices the first service or scope. What comes below that is named by whoever
// runs in the unit, and says nothing.
func Unit(path string) string {
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "/"), "/") {
		switch {
		case strings.HasSuffix(part, ".slice"):
			continue
		case strings.HasSuffix(part, ".service"), strings.HasSuffix(part, ".scope"),
			strings.HasSuffix(part, ".socket"), strings.HasSuffix(part, ".mount"), strings.HasSuffix(part, ".swap"):
			return strings.TrimPrefix(part, "_") // systemd's mark of names that the kernel could mistake
		}
		return ""
	}
	return ""
}

// SPDX-License-Identifier: Apache-2.0

package terminal

import (
	"fmt"
	"io"
	"strconv"

	"github.com/carverauto/serviceradar-profiler/session"
)

// WriteProcesses is the table of srprof ps.
func WriteProcesses(w io.Writer, all []session.Process, wide bool) error {
	head := []string{"PID", "CPU", "MEMORY", "THREADS", "USER", "NAME", "UNIT/CONTAINER"}
	if wide {
		head = []string{"PID", "CPU", "MEMORY", "THREADS", "USER", "NAME", "AGE", "UNIT", "CONTAINER", "CGROUP", "COMMAND"}
	}
	t := NewTable(w, head...)
	for i := range all {
		p := &all[i]
		row := []string{strconv.Itoa(p.PID), fmt.Sprintf("%.1f%%", 100*p.CPU), bytesOf(p.Memory), strconv.Itoa(p.Threads), p.User, p.Name}
		if wide {
			row = append(row, age(p.Started), p.Unit, container(p.Container), p.Cgroup, p.Command)
		} else if p.Container != "" {
			row = append(row, "container "+container(p.Container))
		} else {
			row = append(row, p.Unit)
		}
		t.Row(row...)
	}
	return t.Write()
}

// container is as much of an ID as docker shows, and as --container takes.
func container(id string) string {
	const shown = 12
	return id[:min(len(id), shown)]
}

// bytesOf is a size as people compare them.
func bytesOf(n int64) string {
	size, unit := float64(n), ""
	for _, next := range []string{"K", "M", "G", "T"} {
		if size < 1000 {
			break
		}
		size, unit = size/1024, next
	}
	if unit == "" {
		return strconv.FormatInt(n, 10)
	}
	if size < 10 {
		return fmt.Sprintf("%.1f%s", size, unit)
	}
	return fmt.Sprintf("%.0f%s", size, unit)
}

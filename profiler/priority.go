// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
)

// urgent is the highest of the usual priorities (nice(2)).
const urgent = -20

// hurry gives this program precedence. A host is profiled when it is
// overloaded; with a thousand busy threads beside it, a program of usual
// priority gets its turn every few seconds, drains too late and loses samples.
// What we do takes some tens of milliseconds in all, so nobody is kept waiting.
// Without the right to do so (CAP_SYS_NICE) it goes on as it is.
func hurry() {
	if !process.ShowsOwnPIDs() {
		return
	}
	threads, err := os.ReadDir(process.Root + "/self/task")
	if err != nil {
		return
	}
	// The priority belongs to a thread; those started later inherit it.
	for _, t := range threads {
		if tid, err := strconv.Atoi(t.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, urgent)
		}
	}
}

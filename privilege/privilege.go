// SPDX-License-Identifier: Apache-2.0

// Package privilege knows which of the kernel's privileges a profiler needs on
// this host, what each one is for and what is lost without it; and it leaves a
// service with just these.
package privilege

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/carverauto/serviceradar-profiler/process"
)

// Right is a capability that is needed on this host.
type Right struct {
	Capability process.Capability
	For        string // what it is for
	Without    string // what is lost
}

func (r Right) String() string { return r.Capability.String() }

// rights are those of a kernel that has them all. deploy/systemd grants these,
// and test/deploy takes each away and looks at what is lost.
var rights = []Right{
	{process.CapBPF, "programs and maps in the kernel", "no sampling with eBPF; by perf events stacks are whole only where code has frame pointers"},
	{process.CapPerfmon, "perf events of the kernel's side, and programs that read memory", "no sampling with eBPF, and none of what runs in the kernel"},
	{process.CapSysPtrace, "mappings and files of other users' processes", "only processes of this service's own user can be profiled"},
	{process.CapSyslog, "where the kernel's functions lie", "kernel functions have no names"},
	{process.CapDACReadSearch, "files that only their owners may read, and maps of JIT compilers", "programs in private directories are walked by frame pointer, and their functions have no names"},
	{process.CapCheckpointRestore, "files that were replaced or deleted while mapped", "functions of replaced or deleted files have no names"},
}

// admin stands for what a kernel does not have apart, or does not take for
// enough.
func admin(why string) Right {
	return Right{process.CapSysAdmin, why, "nothing can be sampled: " + why}
}

// Host is what decides on the rights that are needed.
type Host struct {
	LastCapability process.Capability // that the kernel has
	Paranoid       int                // kernel.perf_event_paranoid
}

// ThisHost reads it.
func ThisHost() (Host, error) {
	last, err := readNumber("cap_last_cap")
	if err != nil {
		return Host{}, err
	}
	paranoid, err := readNumber("perf_event_paranoid")
	if os.IsNotExist(err) {
		err = nil // a kernel without perf events
	}
	return Host{process.Capability(last), paranoid}, err
}

func readNumber(sysctl string) (int, error) {
	b, err := os.ReadFile(process.Root + "/sys/kernel/" + sysctl)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// Needed are the rights that a profiler needs there, the smallest set.
func (h Host) Needed() []Right {
	var needed []Right
	for _, r := range rights {
		if r.Capability <= h.LastCapability {
			needed = append(needed, r)
		}
	}
	switch {
	case h.LastCapability < process.CapPerfmon:
		needed = append(needed, admin("before Linux 5.8 it is CAP_SYS_ADMIN that allows BPF and perf events"))
	case h.Paranoid > 2:
		needed = append(needed, admin(fmt.Sprintf("kernel.perf_event_paranoid is %d, with which Debian's and Ubuntu's kernels ask for CAP_SYS_ADMIN; set it to 2, or grant that", h.Paranoid)))
	case h.LastCapability < process.CapCheckpointRestore:
		r := admin("before Linux 5.9 it is CAP_SYS_ADMIN that allows to open replaced or deleted files")
		r.Without = rights[len(rights)-1].Without
		needed = append(needed, r)
	}
	return needed
}

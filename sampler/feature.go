// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// Feature is something that this machine can do or not.
type Feature struct {
	Name     string
	Required bool   // without it nothing can be recorded
	OK       bool   //
	Found    string // what there is: a version, a setting
	Remedy   string // what to do when it is not OK
}

// Features finds out what this machine can do, by trying: it loads the program
// and runs the clock for a moment, as a recording would.
func Features() []Feature {
	fs := append([]Feature{kernelRelease(), pidNamespace()}, samplers()...)
	return append(fs, canInspect(), kernelNames(), deletedFiles(), paranoid(), sampleRate(), memlockLimit(), lockdown(), jit())
}

func kernelRelease() Feature {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return Feature{Name: "kernel", Found: err.Error()}
	}
	return Feature{Name: "kernel", OK: true, Found: unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])}
}

func pidNamespace() Feature {
	f := Feature{Name: "PID namespace", OK: true, Found: "/proc shows the host's processes"}
	if !process.ShowsKernelPIDs() {
		f.OK, f.Found = false, "its own: what runs outside of it cannot be profiled"
		f.Remedy = "run on the host, or in a container with its PID namespace (docker run --pid=host)"
	}
	return f
}

// samplers are about what would sample, and why.
func samplers() []Feature {
	used := Feature{Name: "sampler", Required: true}
	withBPF, withPerf := canUseBPF(), canUsePerf()
	s, err := Open(Options{})
	if err != nil {
		used.fail(err)
		return []Feature{used, withBPF, withPerf}
	}
	defer s.Close()
	used.OK, used.Found = true, "eBPF"
	if p, ok := s.(*Perf); ok {
		used.OK, used.Required = false, false
		used.Found, used.Remedy = "perf events, because eBPF cannot be had: "+p.lost(), withBPF.Remedy
	}
	return []Feature{used, withBPF, withPerf}
}

// canUseBPF tries the whole way: maps, program, perf event, attachment.
func canUseBPF() Feature {
	f := Feature{Name: "sampling with eBPF"}
	s, err := openBPF(Options{})
	if err != nil {
		f.fail(err)
		return f
	}
	defer s.Close()
	if err := s.Start(session.DefaultFrequency); err != nil {
		f.fail(err)
		return f
	}
	walk := WalkTables
	if err := s.OpenTables(); err != nil {
		walk = WalkFramePointer + ", because the walk by tables does not load: " + err.Error()
	}
	f.OK, f.Found = true, s.Program()+" loads and runs on the CPU clock; user stacks by "+walk
	return f
}

// canUsePerf is about what stands in for eBPF.
func canUsePerf() Feature {
	f := Feature{Name: "sampling with perf events"}
	s, err := OpenPerf(nil)
	if err != nil {
		f.fail(err)
		return f
	}
	s.Close() //nolint:errcheck // of descriptors that are ours
	f.OK, f.Found = s.reach == reachCPUs, "of whole CPUs, kernel code included"
	switch s.reach {
	case reachKernel:
		f.Found = "of threads of processes that may be inspected, kernel code included"
	case reachUser:
		f.Found = "of threads of processes that may be inspected, without what runs in the kernel"
	}
	if !f.OK {
		f.Remedy = "run as root, or grant CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
	}
	return f
}

func (f *Feature) fail(err error) {
	f.Found = err.Error()
	var e *session.Error
	if errors.As(err, &e) {
		f.Found, f.Remedy = e.Problem, e.Remedy
	}
}

// canInspect is about processes of other users: their mappings and files.
func canInspect() Feature {
	f := Feature{Name: "looking into other processes", Required: true, OK: true}
	caps, err := process.OwnCapabilities()
	if err != nil {
		f.OK, f.Found = false, err.Error()
		return f
	}
	if f.Found = "CAP_SYS_PTRACE"; !caps.Has(process.CapSysPtrace) {
		f.Required, f.OK = false, false
		f.Found = "CAP_SYS_PTRACE is missing: only processes of the same user can be profiled"
		f.Remedy = "run as root, or grant CAP_SYS_PTRACE"
	}
	return f
}

func kernelNames() Feature {
	f := Feature{Name: "names of kernel functions", OK: true, Found: "/proc/kallsyms shows addresses"}
	hidden, err := kallsymsHidden()
	if err != nil {
		f.OK, f.Found = false, err.Error()
	} else if hidden {
		f.OK, f.Found = false, "/proc/kallsyms hides addresses: kernel frames have no names"
		f.Remedy = "grant CAP_SYSLOG, or set the sysctl kernel.kptr_restrict to 0"
		if n, err := readSysctl("kernel/kptr_restrict"); err == nil && n >= 2 {
			f.Remedy = "kernel.kptr_restrict is 2, which hides them from everybody; set it to 1"
		}
	}
	return f
}

// kallsymsHidden looks at the first symbols: hidden ones are all zero. (The
// very first may be: per-CPU symbols of old amd64 kernels begin at zero.)
func kallsymsHidden() (bool, error) {
	k, err := os.Open("/proc/kallsyms")
	if err != nil {
		return false, err
	}
	defer k.Close()
	b := make([]byte, 64<<10)
	for range 64 {
		n, err := k.Read(b)
		for line := range strings.Lines(string(b[:n])) {
			address, _, _ := strings.Cut(line, " ")
			if len(address) == 16 && strings.Trim(address, "0") != "" {
				return false, nil
			}
		}
		if err != nil {
			break
		}
	}
	return true, nil
}

func deletedFiles() Feature {
	f := Feature{Name: "names from deleted files", OK: true, Found: "/proc/PID/map_files can be opened"}
	caps, err := process.OwnCapabilities()
	if err == nil && !caps.Has(process.CapSysAdmin) && !caps.Has(process.CapCheckpointRestore) {
		f.OK, f.Found = false, "CAP_CHECKPOINT_RESTORE is missing: functions of libraries replaced while running have no names"
		f.Remedy = "grant CAP_CHECKPOINT_RESTORE (CAP_SYS_ADMIN before Linux 5.9)"
	}
	return f
}

func paranoid() Feature {
	f := Feature{Name: "kernel.perf_event_paranoid", OK: true}
	n, err := readSysctl("kernel/perf_event_paranoid")
	if err != nil {
		f.OK, f.Found = false, "no such setting: the kernel has no perf events"
		return f
	}
	f.Found = fmt.Sprint(n)
	if caps, err := process.OwnCapabilities(); err == nil && n > 2 && !caps.Has(process.CapSysAdmin) {
		f.OK, f.Remedy = false, "3 and more take CAP_SYS_ADMIN; set it to 2, where CAP_PERFMON suffices"
	}
	return f
}

func sampleRate() Feature {
	f := Feature{Name: "kernel.perf_event_max_sample_rate", OK: true, Found: fmt.Sprintf("%d Hz", MaxFrequency())}
	if MaxFrequency() < session.DefaultFrequency {
		f.OK = false
		f.Remedy = fmt.Sprintf("the kernel lowered it because interrupts took too long; set it to at least %d", session.DefaultFrequency)
	}
	return f
}

func memlockLimit() Feature {
	f := Feature{Name: "limit on locked memory", OK: true}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &r); err != nil {
		f.OK, f.Found = false, err.Error()
		return f
	}
	f.Found = fmt.Sprintf("%d KiB (matters before Linux 5.11 only)", r.Cur>>10)
	if r.Cur == unix.RLIM_INFINITY {
		f.Found = "none"
	}
	return f
}

func lockdown() Feature {
	f := Feature{Name: "kernel lockdown", OK: true, Found: "off"}
	b, err := os.ReadFile("/sys/kernel/security/lockdown")
	if err != nil {
		return f // not built in, or not mounted: then it is off
	}
	if _, rest, ok := strings.Cut(string(b), "["); ok {
		f.Found, _, _ = strings.Cut(rest, "]")
	}
	return f
}

func jit() Feature {
	f := Feature{Name: "net.core.bpf_jit_enable", OK: true}
	n, err := readSysctl("net/core/bpf_jit_enable")
	switch {
	case err != nil:
		f.Found = "not readable"
	case n == 0:
		f.OK, f.Found, f.Remedy = false, "0: samples are taken by the interpreter, several times slower", "set it to 1"
	default:
		f.Found = fmt.Sprint(n)
	}
	return f
}

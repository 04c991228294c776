// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/session"
)

// loadError explains why the kernel did not take the program or its maps.
// memlock is what raising RLIMIT_MEMLOCK said.
func loadError(err, memlock error) error {
	var verifier *ebpf.VerifierError
	switch {
	case errors.Is(err, unix.ENOSYS):
		return session.Unsupported("no_bpf", "this kernel has no BPF",
			"eBPF needs Linux 4.9 or newer, built with CONFIG_BPF_SYSCALL and CONFIG_BPF_EVENTS", err)
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES) && !errors.As(err, &verifier): // the verifier says EACCES too
		return bpfNotPermitted(err, memlock)
	case errors.As(err, &verifier), errors.Is(err, ebpf.ErrNotSupported), errors.Is(err, unix.EINVAL):
		return session.Unsupported("bpf_refused", "this kernel does not accept the sampling program",
			"it needs Linux 4.9 or newer; srprof doctor shows what is missing", err)
	}
	return fmt.Errorf("load the sampling program: %w", err)
}

func bpfNotPermitted(err, memlock error) error {
	missing := missingFor(process.CapBPF, process.CapPerfmon)
	if missing == "" && memlock != nil {
		return session.NotPermitted("memlock", "loading the sampling program is not permitted: the limit on locked memory is too low and cannot be raised",
			"grant CAP_SYS_RESOURCE or raise the limit (ulimit -l unlimited, LimitMEMLOCK=infinity)", err)
	}
	if missing == "" {
		return session.NotPermitted("bpf_not_permitted", "loading the sampling program is not permitted although the capabilities are there",
			"kernel lockdown or the container's seccomp profile forbids it; srprof doctor shows which", err)
	}
	return session.NotPermitted("bpf_not_permitted", "loading the sampling program is not permitted: "+missing+" missing",
		"run as root, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)", err)
}

// eventError explains why the CPU clock could not be opened.
func eventError(err error) error {
	switch {
	case errors.As(err, new(*session.Error)):
		return err
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		problem := "opening perf events is not permitted"
		if missing := missingFor(process.CapPerfmon); missing != "" {
			problem += ": " + missing + " missing"
		}
		remedy := "run as root, or grant CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
		if n, e := readSysctl("kernel/perf_event_paranoid"); e == nil && n > 2 {
			remedy = fmt.Sprintf("kernel.perf_event_paranoid is %d, which takes CAP_SYS_ADMIN; grant it, or set the sysctl to 2 and grant CAP_PERFMON", n)
		}
		return session.NotPermitted("perf_not_permitted", problem, remedy, err)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EOPNOTSUPP):
		return session.Unsupported("no_perf_events", "this kernel has no perf events",
			"it takes one built with CONFIG_PERF_EVENTS", err)
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return fmt.Errorf("%w; raise the limit on open files (ulimit -n): one is needed for each CPU, without eBPF for each thread and CPU", err)
	}
	return err
}

// missingFor names those of the wanted capabilities that this program lacks,
// with the verb: "CAP_BPF is", "CAP_BPF and CAP_PERFMON are"; empty when
// nothing is missing. CAP_SYS_ADMIN stands for all of them.
func missingFor(want ...process.Capability) string {
	have, err := process.OwnCapabilities()
	if err != nil || have.Has(process.CapSysAdmin) {
		return ""
	}
	var names []string
	for _, c := range want {
		if !have.Has(c) {
			names = append(names, c.String())
		}
	}
	switch len(names) {
	case 0:
		return ""
	case 1:
		return names[0] + " is"
	}
	return strings.Join(names, " and ") + " are"
}

// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// event is one perf event (perf_event_open(2)).
type event struct{ fd int }

// openClock opens the CPU clock of one CPU, not yet running. It is a kernel
// timer, so it works in virtual machines without a PMU too. A CPU-wide event
// filtered in the program sees every thread of the target; events tied to
// threads miss those of large processes.
func openClock(cpu int, f profile.Frequency) (*event, error) {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Sample: uint64(f),
		Bits:   unix.PerfBitDisabled | unix.PerfBitFreq | unix.PerfBitExcludeIdle,
	}
	return openEvent(&attr, -1, cpu)
}

// openEvent opens an event of a thread on a CPU; -1 is all of them, 0 our own
// thread.
func openEvent(attr *unix.PerfEventAttr, tid, cpu int) (*event, error) {
	fd, err := unix.PerfEventOpen(attr, tid, cpu, -1, unix.PERF_FLAG_FD_CLOEXEC)
	if err != nil && tid > 0 {
		return nil, fmt.Errorf("open perf event of thread %d on CPU %d: %w", tid, cpu, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open perf event on CPU %d: %w", cpu, err)
	}
	return &event{fd: fd}, nil
}

// attach lets the event run a program. The ioctl works on every kernel from
// 4.9 on; newer kinds of links are not needed.
func (e *event) attach(program int) error {
	if err := unix.IoctlSetInt(e.fd, unix.PERF_EVENT_IOC_SET_BPF, program); err != nil {
		return fmt.Errorf("attach program to perf event: %w", err)
	}
	return nil
}

func (e *event) enable() error  { return unix.IoctlSetInt(e.fd, unix.PERF_EVENT_IOC_ENABLE, 0) }
func (e *event) disable() error { return unix.IoctlSetInt(e.fd, unix.PERF_EVENT_IOC_DISABLE, 0) }

// lost is how many of its records found no room, if it was opened with
// PERF_FORMAT_LOST; zero else.
func (e *event) lost() uint64 {
	var values [16]byte // the event's count, then the losses
	if n, err := unix.Read(e.fd, values[:]); err != nil || n < len(values) {
		return 0
	}
	return binary.NativeEndian.Uint64(values[8:])
}

// Close ends the event.
func (e *event) Close() { unix.Close(e.fd) }

func isOffline(err error) bool { return errors.Is(err, unix.ENODEV) }

func onlineCPUs() ([]int, error) {
	b, err := os.ReadFile("/sys/devices/system/cpu/online")
	if err != nil {
		return nil, fmt.Errorf("list CPUs: %w", err)
	}
	return parseCPUs(string(b))
}

// parseCPUs parses the kernel's list format: "0-3,8,10-11".
func parseCPUs(list string) ([]int, error) {
	var cpus []int
	for part := range strings.SplitSeq(strings.TrimSpace(list), ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, err2 := strconv.Atoi(to)
		if err != nil || err2 != nil || first < 0 || last < first || last-first > 1<<16 {
			return nil, fmt.Errorf("list CPUs: %q is no list of CPUs", list)
		}
		for c := first; c <= last; c++ {
			cpus = append(cpus, c)
		}
	}
	return cpus, nil
}

// MaxFrequency is the kernel's own limit (kernel.perf_event_max_sample_rate),
// which it lowers when interrupts take too long. Where it cannot be read, it
// is taken to be none.
func MaxFrequency() profile.Frequency {
	n, err := readSysctl("kernel/perf_event_max_sample_rate")
	if err != nil || n <= 0 {
		return profile.Frequency(1 << 30)
	}
	return profile.Frequency(n)
}

// maxStack is the kernel's limit to the frames of its own walk.
func maxStack() int {
	n, err := readSysctl("kernel/perf_event_max_stack")
	if err != nil || n <= 0 {
		return framesInPart
	}
	return n
}

func readSysctl(name string) (int, error) {
	b, err := os.ReadFile("/proc/sys/" + name)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

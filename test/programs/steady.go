// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// HoldPerf keeps an event of a thread open for as long as this process lives.
//
// When the first such event comes and when the last one goes, the kernel patches
// its scheduler (perf_sched_events, kernel/events/core.c), with a breakpoint
// standing there meanwhile. QEMU with a thread for each emulated CPU may go on
// with what it translated when the breakpoint stood there, which is an error to
// the kernel then: "Oops: int3" in __schedule. With an event that stays nothing
// is patched. It is a fault of the emulation, not of who opens events.
func HoldPerf() error {
	attr := unix.PerfEventAttr{
		Type:   unix.PERF_TYPE_SOFTWARE,
		Config: unix.PERF_COUNT_SW_CPU_CLOCK,
		Size:   uint32(unsafe.Sizeof(unix.PerfEventAttr{})),
		Bits:   unix.PerfBitDisabled,
	}
	if _, err := unix.PerfEventOpen(&attr, 0, -1, -1, unix.PERF_FLAG_FD_CLOEXEC); err != nil {
		return fmt.Errorf("open a perf event of a thread: %w", err)
	}
	return nil
}

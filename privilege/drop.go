// SPDX-License-Identifier: Apache-2.0

package privilege

import (
	"errors"
	"fmt"
	"math/bits"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
)

// ErrThreads says that privileges cannot be dropped in this build: threads that
// C has started would keep theirs. A build with CGO_ENABLED=0 has none.
var ErrThreads = errors.New("this program was built with cgo, which keeps it from dropping privileges in all threads; build it with CGO_ENABLED=0 (make build does)")

// Holding are the rights that this program was left with.
type Holding struct {
	Have    []Right
	Missing []Right
	Dropped int // how many others it had
}

// Keep drops every privilege but the needed ones, in all threads and for good:
// from the effective, permitted, inheritable, ambient and, where that is
// permitted, bounding set; and nothing that is executed can gain any.
func Keep(needed []Right) (Holding, error) {
	permitted, err := ownPermitted()
	if err != nil {
		return Holding{}, err
	}
	var keep process.Capabilities
	for _, r := range needed {
		keep |= 1 << r.Capability
	}
	keep &= permitted
	h := Holding{}
	for _, r := range needed {
		if keep.Has(r.Capability) {
			h.Have = append(h.Have, r)
		} else {
			h.Missing = append(h.Missing, r)
		}
	}
	if err := drop(keep, permitted.Has(process.CapSetPCAP)); err != nil {
		return h, err
	}
	h.Dropped = bits.OnesCount64(uint64(permitted &^ keep))
	return h, nil
}

func drop(keep process.Capabilities, bounding bool) error {
	if err := prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("forgo new privileges: %w", err)
	}
	// EINVAL: there are no ambient capabilities before Linux 4.3.
	if err := prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("clear ambient capabilities: %w", err)
	}
	for c := process.Capability(0); bounding && c < 64; c++ {
		if keep.Has(c) {
			continue
		}
		if err := prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0); errors.Is(err, unix.EINVAL) {
			break // the kernel has no more of them
		} else if err != nil {
			return fmt.Errorf("drop %v from the bounding set: %w", c, err)
		}
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	low, high := uint32(keep), uint32(keep>>32)
	sets := [2]unix.CapUserData{{Effective: low, Permitted: low}, {Effective: high, Permitted: high}}
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets)), 0); errno != 0 {
		return fmt.Errorf("drop capabilities: %w", errno)
	}
	return nil
}

// prctl is of a thread: all of them do it.
func prctl(option int, a, b uintptr) error {
	_, _, errno := syscall.AllThreadsSyscall6(unix.SYS_PRCTL, uintptr(option), a, b, 0, 0, 0)
	switch errno {
	case 0:
		return nil
	case syscall.ENOTSUP:
		return ErrThreads
	}
	return errno
}

func ownPermitted() (process.Capabilities, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return 0, fmt.Errorf("read this program's capabilities: %w", err)
	}
	return process.Capabilities(sets[0].Permitted) | process.Capabilities(sets[1].Permitted)<<32, nil
}

// RaiseLimits takes what needs a privilege once, so that the privilege need not
// be kept: locked memory, which maps count against before Linux 5.11, and
// precedence on a loaded host. Who may not is left with what there is.
func RaiseLimits() {
	for limit, most := range map[int]uint64{unix.RLIMIT_MEMLOCK: unix.RLIM_INFINITY, unix.RLIMIT_NICE: 40} { // 20 - (-20): getrlimit(2)
		_ = unix.Setrlimit(limit, &unix.Rlimit{Cur: most, Max: most})
	}
}

// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Refused names system calls that Forbid lets fail with one error.
func Refused(errno unix.Errno, calls ...int) string {
	var list []string
	for _, c := range calls {
		list = append(list, strconv.Itoa(c)+"="+strconv.Itoa(int(errno)))
	}
	return strings.Join(list, ",")
}

// Forbid makes the kernel refuse system calls to this process and what it
// executes, as a container's seccomp profile does, or with ENOSYS as a kernel
// built without them (seccomp(2)). The list is made by Refused.
func Forbid(list string) error {
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	for call := range strings.SplitSeq(list, ",") {
		var nr, errno uint32
		if _, err := fmt.Sscanf(call, "%d=%d", &nr, &errno); err != nil {
			return fmt.Errorf("forbid %q: %w", call, err)
		}
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid system calls: %w", err)
	}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	if errno != 0 {
		return fmt.Errorf("forbid system calls: install the filter: %w", errno)
	}
	return nil
}

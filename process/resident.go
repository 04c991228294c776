// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ForgetPages takes the pages of this program's own file, and of its libraries,
// out of its resident memory. They stay in the page cache, from where those that
// are needed come back, several with each fault; those that were needed for the
// start alone do not. They are most of what a program has that waits.
//
// Only what is mapped without the right to write is concerned, and nothing in
// which there is a page that differs from the file, as after relocation or by a
// debugger's breakpoint.
func ForgetPages() error {
	text, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read own mappings: %w", err)
	}
	for _, m := range unchanged(text) {
		// Refused where memory is locked; then it is meant to stay.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.start, m.limit-m.start, unix.MADV_DONTNEED)
	}
	return nil
}

// span is a range of our own addresses.
type span struct{ start, limit uintptr }

// unchanged are the mappings in smaps (proc(5)) that can be had from their files
// again as they are.
func unchanged(smaps []byte) (found []span) {
	candidate, is := span{}, false
	for line := range bytes.Lines(smaps) {
		f := strings.Fields(string(line))
		switch {
		case len(f) >= 2 && f[0] == "Anonymous:":
			if is && f[1] == "0" {
				found = append(found, candidate)
			}
			is = false
		case len(f) >= 6 && !strings.HasSuffix(f[0], ":"):
			candidate, is = spanOf(f[0])
			is = is && (f[1] == "r-xp" || f[1] == "r--p") && strings.HasPrefix(f[5], "/")
		case len(f) == 5: // a mapping without a name
			is = false
		}
	}
	return found
}

// spanOf reads the first column.
func spanOf(addresses string) (span, bool) {
	from, to, _ := strings.Cut(addresses, "-")
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return span{}, false
	}
	limit, err := strconv.ParseUint(to, 16, 64)
	return span{uintptr(start), uintptr(limit)}, err == nil && start < limit
}

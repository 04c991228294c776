// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The pages of the program's file go, and it goes on; what was changed in a
// mapping of a file stays changed.
func TestForgetPages(t *testing.T) {
	resident := func() int {
		t.Helper()
		status, err := os.ReadFile("/proc/self/status")
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSuffix(field(status, "RssFile"), " kB"))
		if err != nil {
			t.Skip("needs Linux 4.5: ", err)
		}
		return n
	}
	changed := mapFile(t)
	changed[0] = 'x'
	if err := unix.Mprotect(changed, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	before := resident()
	if err := ForgetPages(); err != nil {
		t.Fatal(err)
	}
	after := resident()
	if after > before*3/4 {
		t.Errorf("%d kB of files before, %d kB after", before, after)
	}
	if changed[0] != 'x' || changed[unix.Getpagesize()] != 'a' {
		t.Errorf("what was changed is %q now, what was not %q", changed[0], changed[unix.Getpagesize()])
	}
}

// mapFile maps a file of two pages, privately.
func mapFile(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	size := 2 * unix.Getpagesize()
	if err := os.WriteFile(path, bytes.Repeat([]byte("a"), size), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(m) })
	return m
}

func TestUnchanged(t *testing.T) {
	const smaps = `00400000-00452000 r-xp 00000000 08:02 173521      /usr/bin/program with space
Size:                328 kB
Anonymous:             0 kB
00651000-00652000 r--p 00051000 08:02 173521      /usr/bin/program with space
Anonymous:             4 kB
00652000-00655000 rw-p 00052000 08:02 173521      /usr/bin/program with space
Anonymous:             0 kB
00700000-00701000 r--s 00000000 00:01 1           /dev/shm/shared
Anonymous:             0 kB
00800000-00801000 r--p 00000000 00:00 0
Anonymous:             0 kB
7ffc1000-7ffc2000 r-xp 00000000 00:00 0           [vdso]
Anonymous:             0 kB
7fff0000-7fff1000 r--p 00000000 08:02 5           /lib/x.so
Anonymous:             0 kB
`
	got := unchanged([]byte(smaps))
	if want := []span{{0x400000, 0x452000}, {0x7fff0000, 0x7fff1000}}; len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %x, want %x", got, want)
	}
	for _, bad := range []string{"", "x", "1-2 r-xp 0 0 0 /a\n", "zz-1 r-xp 0 0 0 /a\nAnonymous: 0 kB\n", "2-1 r-xp 0 0 0 /a\nAnonymous: 0 kB\n", "Anonymous: 0 kB\n"} {
		if got := unchanged([]byte(bad)); len(got) > 0 {
			t.Errorf("%q: %x", bad, got)
		}
	}
}

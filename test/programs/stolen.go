// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Stolen is the time that a hypervisor took from all CPUs since boot: the
// eighth number of the first line of /proc/stat, in 1/100 s (proc(5)). Processes
// do not account for it, while clocks go on.
func Stolen(t testing.TB) time.Duration {
	t.Helper()
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	f := strings.Fields(line)
	if len(f) < 9 {
		t.Fatalf("/proc/stat begins with %q", line)
	}
	ticks, err := strconv.Atoi(f[8])
	if err != nil {
		t.Fatal(err)
	}
	return time.Duration(ticks) * time.Second / 100
}

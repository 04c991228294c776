// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"os"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// Rights that come and go are found by the next Open: nothing is remembered of
// what was refused.
func TestOpenLooksAgain(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	programs.SetSysctl(t, "kernel/perf_event_paranoid", "2") // Debian has 3, which takes more rights
	runtime.LockOSThread()                                   // capabilities are a thread's; this one ends with the test
	all := capabilities(t, nil)
	without := all
	for _, c := range []process.Capability{process.CapBPF, process.CapPerfmon, process.CapSysAdmin} {
		without[c/32].Effective &^= 1 << (c % 32)
	}
	for i, rights := range []caps{all, without, all, without, all} {
		capabilities(t, &rights)
		s, err := sampler.Open(sampler.Options{})
		if err != nil {
			now, _ := os.ReadFile("/proc/sys/kernel/perf_event_paranoid")
			t.Fatalf("time %d, kernel.perf_event_paranoid %s: %v", i, now, err)
		}
		about := s.About()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		want := sampler.Event
		if i%2 == 1 {
			want = sampler.EventPerf
		}
		if about.Event != want || (about.Warning == "") != (i%2 == 0) {
			t.Errorf("time %d: %+v, want %s", i, about, want)
		}
	}
}

type caps = [2]unix.CapUserData

// capabilities sets those of this thread, and returns what they were.
func capabilities(t *testing.T, set *caps) (old caps) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &old[0]); err != nil {
		t.Fatal(err)
	}
	if set != nil {
		if err := unix.Capset(&header, &set[0]); err != nil {
			t.Fatal(err)
		}
	}
	return old
}

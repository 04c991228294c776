// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// fed says that the kernel has the tables of all that the targets have mapped.
func (c *collector) fed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	objects := 0
	for _, t := range c.targets {
		if !t.told {
			return false
		}
		for m := range t.space.All() {
			if o := m.Of.object; o != nil {
				if objects++; len(o.fed) == 0 {
					return false
				}
			}
		}
	}
	return objects > 0 && c.feeder.walks
}

// BenchmarkFeed is the time from when a session samples until the kernel
// has all tables (to load the walk is some 10 ms of it): of a process's first session, and of those that follow.
//
//	go test -run '^$' -bench Feed -benchtime 20x ./profiler
func BenchmarkFeed(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root")
	}
	for _, program := range [][]string{{"sleep", "600"}, {"python3", "-c", "import ssl, time; time.sleep(600)"}, {"node", "-e", "setTimeout(()=>{}, 6e5)"}} {
		path, err := exec.LookPath(program[0])
		if err != nil {
			b.Logf("%s is not installed", program[0])
			continue
		}
		target := exec.Command(path, program[1:]...)
		if err := target.Start(); err != nil {
			b.Fatal(err)
		}
		time.Sleep(time.Second) // it loads libraries
		b.Run(program[0]+"/first", func(b *testing.B) {
			for range b.N {
				feedOnce(b, target.Process.Pid, unwind.NewCache(64<<20))
			}
		})
		shared := unwind.NewCache(64 << 20)
		feedOnce(b, target.Process.Pid, shared)
		b.Run(program[0]+"/second", func(b *testing.B) {
			for range b.N {
				feedOnce(b, target.Process.Pid, shared)
			}
		})
		b.Logf("%s: %+v", program[0], shared.Stats())
		if err := target.Process.Kill(); err != nil {
			b.Error(err)
		}
		_ = target.Wait() // killed
	}
}

func feedOnce(b *testing.B, pid int, tables *unwind.Cache) {
	b.Helper()
	b.StopTimer()
	c, err := newCollector(session.Spec{PIDs: []int{pid}, Duration: time.Minute, Frequency: 99}, &Recorder{tables: tables})
	if err != nil {
		b.Fatal(err)
	}
	defer c.close()
	s, err := sampler.OpenBPF(sampler.Options{Targets: c.room()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	if err := c.sampleInto(s); err != nil {
		b.Fatal(err)
	}
	b.StartTimer()
	defer b.StopTimer()
	if err := c.listen(); err != nil {
		b.Fatal(err)
	}
	for !c.fed() {
		time.Sleep(200 * time.Microsecond)
	}
}

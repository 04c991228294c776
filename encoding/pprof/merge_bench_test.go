// SPDX-License-Identifier: Apache-2.0

package pprof

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/encoding/encodingtest"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// heapPeaks watches the heap until stop is called: how much of it was in use at
// most, garbage included, and how much of that was found alive.
func heapPeaks() (stop func() (used, live uint64)) {
	over, most := make(chan struct{}), make(chan [2]uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}}
		var top [2]uint64
		for {
			metrics.Read(sample)
			for i := range top {
				top[i] = max(top[i], sample[i].Value.Uint64())
			}
			select {
			case <-over:
				most <- top
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() (used, live uint64) {
		close(over)
		top := <-most
		return top[0], top[1]
	}
}

// reportHeap has the benchmark's figures in it, above what there was before.
func reportHeap(b *testing.B, do func()) {
	b.Helper()
	defer debug.SetGCPercent(debug.SetGCPercent(25))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	stop := heapPeaks()
	do()
	used, live := stop()
	b.ReportMetric(float64(used-min(used, before.HeapAlloc))/1e6, "MB-used")
	b.ReportMetric(float64(live-min(live, before.HeapAlloc))/1e6, "MB-live")
}

// part is what one host of many has: so many stacks out of twice as many, of
// which the first half is everybody's.
func part(all *profile.Profile, host, stacks int) *profile.Profile {
	one := *all
	shared := stacks / 2
	one.Samples = append([]profile.Sample{}, all.Samples[:shared]...)
	for i := range stacks - shared {
		one.Samples = append(one.Samples, all.Samples[shared+(host*(stacks-shared)+i)%(len(all.Samples)-shared)])
	}
	return &one
}

// BenchmarkMergeHosts reads and merges the profiles of so many hosts, and
// writes what comes out of it.
func BenchmarkMergeHosts(b *testing.B) {
	const stacks, depth = 10_000, 50
	for _, c := range []struct {
		name      string
		hosts, of int
		forgotten bool
	}{
		{"10-hosts-alike", 10, stacks, false},
		{"10-hosts-apart", 10, 10 * stacks, false},
		{"1000-hosts-alike", 1000, stacks, true},
		{"1000-hosts-apart", 1000, 20 * stacks, true},
	} {
		b.Run(c.name, func(b *testing.B) {
			all := encodingtest.Large(c.of, depth)
			files := make([][]byte, min(c.hosts, c.of/(stacks/2)))
			for i := range files {
				files[i] = written(b, part(all, i, stacks))
			}
			all = nil
			for b.Loop() {
				var merged *profile.Profile
				m := NewMerger(0, 0)
				reportHeap(b, func() {
					began := time.Now()
					for i := range c.hosts {
						if err := m.Add(bytes.NewReader(files[i%len(files)]), fmt.Sprintf("web-%04d", i)); err != nil {
							b.Fatal(err)
						}
					}
					merged = m.Profile()
					b.ReportMetric(time.Since(began).Seconds(), "s-merge")
				})
				b.ReportMetric(float64(len(merged.Samples)), "samples")
			}
		})
	}
}

// BenchmarkWrite writes a merged profile as large as they get.
func BenchmarkWrite(b *testing.B) {
	for _, depth := range []int{20, 50, 200} {
		b.Run(fmt.Sprintf("100000-samples-of-%d-frames", depth), func(b *testing.B) {
			p := encodingtest.Large(100_000, depth)
			b.ReportAllocs()
			for b.Loop() {
				reportHeap(b, func() {
					if err := Write(io.Discard, p); err != nil {
						b.Fatal(err)
					}
				})
			}
		})
	}
}

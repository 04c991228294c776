// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/debugfile"
	"github.com/carverauto/serviceradar-profiler/dwarf"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// benchmark symbolizes 1,000 addresses all over an object's code, as a new
// session does: nothing is remembered from one round to the next.
func benchmark(b *testing.B, path string) {
	benchmarkWith(b, path, 1000, func(*object.File) func(*object.File) (Debug, error) { return nil })
}

// benchmarkWith is benchmark with debug files, of so many addresses.
func benchmarkWith(b *testing.B, path string, n int, debug func(*object.File) func(*object.File) (Debug, error)) {
	f, err := os.Open(path)
	if err != nil {
		b.Skip(err)
	}
	o, err := object.Open(f)
	if err != nil {
		b.Fatal(err)
	}
	defer o.Close()
	p := mapped(b, o, thousand(o)[:n])
	b.ReportAllocs()
	named := 0
	for b.Loop() {
		for i := range p.Addresses {
			p.Addresses[i].Frames = nil
		}
		r := &Resolver{Open: func(profile.MappingID) (*object.File, error) { return o, nil }, Debug: debug(o)}
		r.Resolve(p, nil)
	}
	for i := range p.Addresses {
		if !p.Addresses[i].Frames[0].Unknown {
			named++
		}
	}
	b.ReportMetric(float64(named), "named")
}

// thousand returns addresses in .text, the same ones each time.
func thousand(o *object.File) []profile.ObjAddr {
	text := o.Section(".text")
	random := rand.New(rand.NewPCG(1, 2))
	addrs := make([]profile.ObjAddr, 1000)
	for i := range addrs {
		addrs[i] = text.ObjAddr + profile.ObjAddr(random.Uint64N(text.Size))
	}
	return addrs
}

func BenchmarkLibc(b *testing.B) { benchmark(b, libc(b)) }

// BenchmarkLibcDebug is the same with Debian's libc6-dbg, which is looked for
// in each round: calls, lines and all functions.
func BenchmarkLibcDebug(b *testing.B) {
	path, err := filepath.EvalSymlinks(libc(b))
	if err != nil {
		b.Fatal(err)
	}
	finder, err := debugfile.NewFinder(debugfile.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer finder.Close()
	for _, n := range []int{30, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			benchmarkWith(b, path, n, func(*object.File) func(*object.File) (Debug, error) {
				return func(o *object.File) (Debug, error) {
					found, err := finder.Find(debugfile.Object{File: o, Path: path})
					if err != nil {
						b.Skip(err)
					}
					b.Cleanup(func() { found.File.Close() })
					return Debug{File: found.File, Calls: DebugInfo(found.File, dwarf.Options{})}, nil
				}
			})
		})
	}
}

// BenchmarkNode is an executable of some 100 MB of C++, if it is installed.
func BenchmarkNode(b *testing.B) {
	path, err := exec.LookPath("node")
	if err != nil {
		b.Skip(err)
	}
	if path, err = filepath.EvalSymlinks(path); err != nil {
		b.Skip(err)
	}
	benchmark(b, path)
}

func BenchmarkGo(b *testing.B) {
	path, err := exec.LookPath("go")
	if err != nil {
		b.Skip(err)
	}
	benchmark(b, path)
}

func BenchmarkKallsyms(b *testing.B) {
	var all []profile.ObjAddr
	f, err := openKallsyms()
	if err != nil {
		b.Skip(err)
	}
	err = eachLine(f, func(line []byte) {
		if a, _, _, ok := kernelSymbol(line); ok && a != 0 {
			all = append(all, a)
		}
	})
	f.Close()
	if err != nil || len(all) == 0 {
		b.Skip(ErrHidden, err)
	}
	build := profile.NewBuilder()
	m := build.Mapping(profile.Mapping{Kind: profile.MappingKernel})
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		build.Address(profile.Addr(all[random.IntN(len(all))]), m, false)
	}
	p := build.Profile()
	b.ReportAllocs()
	for b.Loop() {
		for i := range p.Addresses {
			p.Addresses[i].Frames = nil
		}
		new(Resolver).Resolve(p, nil)
	}
}

// BenchmarkPerfMap is what a Node.js server writes: the lines are those of a
// real map (node --perf-basic-prof), as many of them as after hours, of
// functions that are compiled up to four times.
func BenchmarkPerfMap(b *testing.B) {
	for _, count := range []int{10_000, 150_000, 1_000_000} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			text, addrs := longPerfMap(count)
			build := profile.NewBuilder()
			m := build.Mapping(profile.Mapping{Kind: profile.MappingAnonymous, Limit: 1 << 47})
			for _, a := range addrs {
				build.Address(profile.Addr(a), m, false)
			}
			p := build.Profile()
			f := newPerfMapFile(b, text)
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				for i := range p.Addresses {
					p.Addresses[i].Frames = nil
				}
				code := &RunTimeCode{Sources: []Source{f.open()}, Err: ErrNotWritten}
				r := &Resolver{RunTime: func(profile.MappingID) *RunTimeCode { return code }}
				if problems := r.Resolve(p, nil); len(problems) > 0 {
					b.Fatal(problems)
				}
			}
		})
	}
}

// longPerfMap makes a map of so many lines, and a thousand addresses in it.
func longPerfMap(count int) (string, []profile.ObjAddr) {
	random := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	var addrs []profile.ObjAddr
	at := uint64(0x7f1448003000)
	for i := range count {
		size := 64 + random.Uint64N(2000)
		function := random.IntN(count/3 + 1)
		fmt.Fprintf(&text, "%x %x JS:%cfunction%d /srv/app/node_modules/package%d/lib/file%d.js:%d:%d\n",
			at, size, "~^*"[i%3], function, function%400, function%7, function%900+1, function%80+1)
		if i%(count/1000) == 0 && len(addrs) < 1000 {
			addrs = append(addrs, profile.ObjAddr(at+random.Uint64N(size)))
		}
		at += size + 32
	}
	return text.String(), addrs
}

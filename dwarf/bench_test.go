// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	std "debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// large builds a shared object with the debug information of 48 sources: one
// is compiled, and its object file renamed.
func large(tb testing.TB, options ...string) string {
	tb.Helper()
	need(tb, options[0], "objcopy")
	dir := tb.TempDir()
	source, err := filepath.Abs("testdata/heavy.cpp")
	if err != nil {
		tb.Fatal(err)
	}
	run(tb, dir, append(options, "-O2", "-g", "-fPIC", "-c", "-o", "one.o", source)...)
	link := []string{"g++", "-shared", "-nostdlib", "-o", "large.so"}
	for i := range 48 {
		name := fmt.Sprintf("%d.o", i)
		run(tb, dir, "objcopy", fmt.Sprintf("--prefix-symbols=n%d_", i), "one.o", name)
		link = append(link, name)
	}
	run(tb, dir, link...)
	return filepath.Join(dir, "large.so")
}

func ours(o *object.File, file string, addrs []profile.ObjAddr) (known, inlined int, err error) {
	d, err := Open(o, optionsOf(file))
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	err = d.Find(addrs, func(_ int, calls []Call) {
		if known++; len(calls) > 1 {
			inlined++
		}
	})
	return known, inlined, err
}

// theirs does the same with the standard library.
func theirs(file string, addrs []profile.ObjAddr) (known, inlined int, err error) {
	e, err := elf.Open(file)
	if err != nil {
		return 0, 0, err
	}
	defer e.Close()
	d, err := e.DWARF()
	if err != nil {
		return 0, 0, err
	}
	units := map[std.Offset][]uint64{}
	unit := map[std.Offset]*std.Entry{}
	r := d.Reader()
	for _, a := range addrs {
		if u, err := r.SeekPC(uint64(a)); err == nil {
			units[u.Offset] = append(units[u.Offset], uint64(a))
			unit[u.Offset] = u
		}
	}
	for off, pcs := range units {
		depth, err := walkStd(d, unit[off], pcs)
		if err != nil {
			return 0, 0, err
		}
		lines, err := d.LineReader(unit[off])
		if err != nil {
			return 0, 0, err
		}
		for i, pc := range pcs {
			var l std.LineEntry
			if depth[i] == 0 || lines == nil {
				continue
			}
			err := lines.SeekPC(pc, &l)
			if err != nil { // it looks no further than what it has not yet passed
				lines.Reset()
				err = lines.SeekPC(pc, &l)
			}
			if err == nil {
				known++
			}
			if depth[i] > 1 {
				inlined++
			}
		}
	}
	return known, inlined, nil
}

// walkStd says how many calls there are at each address of a unit, and reads
// their names.
func walkStd(d *std.Data, unit *std.Entry, pcs []uint64) ([]int, error) {
	depth := make([]int, len(pcs))
	r, names := d.Reader(), d.Reader()
	r.Seek(unit.Offset)
	if _, err := r.Next(); err != nil {
		return nil, err
	}
	for level := 1; level > 0; {
		e, err := r.Next()
		if err != nil || e == nil {
			return depth, err
		}
		switch e.Tag {
		case 0:
			level--
			continue
		case std.TagSubprogram, std.TagInlinedSubroutine:
			ranges, err := d.Ranges(e)
			if err != nil {
				return nil, err
			}
			hit := false
			for _, x := range ranges {
				for i := range pcs {
					if pcs[i] >= x[0] && pcs[i] < x[1] {
						depth[i]++
						hit = true
					}
				}
			}
			if !hit {
				r.SkipChildren()
				continue
			}
			for o, ok := e.Val(std.AttrAbstractOrigin).(std.Offset); ok; {
				names.Seek(o)
				n, err := names.Next()
				if err != nil {
					return nil, err
				}
				if o, ok = n.Val(std.AttrSpecification).(std.Offset); !ok {
					o, ok = n.Val(std.AttrAbstractOrigin).(std.Offset)
				}
			}
		case std.TagStructType, std.TagClassType, std.TagUnionType, std.TagEnumerationType:
			r.SkipChildren()
			continue
		}
		if e.Children {
			level++
		}
	}
	return depth, nil
}

func benchmark(b *testing.B, file string, n int) {
	o := openObject(b, file)
	addrs := sample(o, n)
	for _, reader := range []string{"ours", "std"} {
		b.Run(fmt.Sprintf("%s/%d", reader, n), func(b *testing.B) {
			b.ReportAllocs()
			known, inlined := 0, 0
			before := cpu(b)
			for b.Loop() {
				var err error
				if reader == "ours" {
					known, inlined, err = ours(o, file, addrs)
				} else {
					known, inlined, err = theirs(file, addrs)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64((cpu(b)-before).Milliseconds())/float64(b.N), "cpu-ms")
			b.ReportMetric(float64(known), "known")
			b.ReportMetric(float64(inlined), "inlined")
			b.ReportMetric(peak(b, reader, file, n), "peak-MB")
		})
	}
}

// cpu is what this process has used, garbage collection included; other
// processes on the machine disturb it less than the time.
func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchmarkAll(b *testing.B, file string) {
	for _, n := range []int{30, 300, 3000} {
		benchmark(b, file, n)
	}
}

func BenchmarkGCC(b *testing.B)   { benchmarkAll(b, large(b, "g++")) }
func BenchmarkClang(b *testing.B) { benchmarkAll(b, large(b, "clang++-14")) }

func BenchmarkZlib(b *testing.B) {
	file := large(b, "g++")
	run(b, "", "objcopy", "--compress-debug-sections=zlib", file)
	benchmarkAll(b, file)
}

func BenchmarkZstd(b *testing.B) {
	file := large(b, "g++")
	run(b, "", "objcopy", "--compress-debug-sections=zstd", file)
	benchmarkAll(b, file)
}

// BenchmarkObjects is about the files that SRPROF_OBJECTS names.
func BenchmarkObjects(b *testing.B) {
	for _, file := range strings.Fields(os.Getenv("SRPROF_OBJECTS")) {
		b.Run(filepath.Base(file), func(b *testing.B) { benchmarkAll(b, file) })
	}
}

// peak is how much more memory a process of its own has at most while it
// reads, in MB.
func peak(b *testing.B, reader, file string, n int) float64 {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SRPROF_PEAK="+reader, "SRPROF_PEAK_FILE="+file, "SRPROF_PEAK_COUNT="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	mb, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		b.Fatal(err)
	}
	return mb
}

// TestMain is that process, too.
func TestMain(m *testing.M) {
	if reader := os.Getenv("SRPROF_PEAK"); reader != "" {
		if err := measure(reader, os.Getenv("SRPROF_PEAK_FILE"), os.Getenv("SRPROF_PEAK_COUNT")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func measure(reader, file, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	o, err := object.Open(f)
	if err != nil {
		return err
	}
	addrs := sample(o, n)
	debug.FreeOSMemory()
	// Resets the peak (proc(5), clear_refs).
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return err
	}
	before, err := status("VmRSS:")
	if err != nil {
		return err
	}
	if reader == "ours" {
		_, _, err = ours(o, file, addrs)
	} else {
		_, _, err = theirs(file, addrs)
	}
	if err != nil {
		return err
	}
	after, err := status("VmHWM:")
	if err != nil {
		return err
	}
	fmt.Println(float64(after-before) / 1024)
	return nil
}

// status reads a figure of this process, in KiB.
func status(name string) (int, error) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	f := strings.Fields(string(b))
	i := slices.Index(f, name)
	if i < 0 {
		return 0, fmt.Errorf("no %s", name)
	}
	return strconv.Atoi(f[i+1])
}

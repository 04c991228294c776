// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// names measures how long it takes to name what was sampled, inlined calls
// included, and what memory that needs at the peak, beside perf script on a
// recording of the same process.
func (b *bench) names() error {
	out := table{title: "Names, inlined calls and lines", columns: []string{"target", "srprof: names", "srprof: peak memory", "perf script --inline", "its peak memory", "time to srprof"}}
	for _, start := range append(b.targets(), b.debuggable) {
		if err := b.namesOf(start, &out); err != nil {
			return err
		}
	}
	out.note("2 s at 99 Hz. srprof: from the end of sampling until every address has its frames; the memory is of the whole command. perf script reads what perf record -g wrote (by frame pointer, so it has fewer frames to name); ∞: not finished after %v.", giveUp)
	out.print()
	return nil
}

func (b *bench) namesOf(start func() (*target, error), out *table) error {
	tg, err := start()
	if err != nil {
		return err
	}
	defer tg.stop()
	const lasts = 2 * time.Second
	process, _, err := b.peaks(lasts, b.record([]int{tg.pid}, 99, lasts, "names.pb.gz")...)
	if err != nil {
		return err
	}
	m, err := b.metadata()
	if err != nil {
		return err
	}
	ours := float64(m.SymbolizeNs) / 1e6
	row := []string{tg.label, number(ours, 1, " ms"), number(process/1e6, 1, " MB"), "", "", ""}
	if b.tools["perf"] {
		if _, _, err = b.peaks(lasts, b.perf(tg.pid, 99, "-g", "--", "sleep", seconds(lasts))...); err != nil {
			return err
		}
		begun := time.Now()
		memory, _, err := b.peaks(0, "perf", "script", "--inline", "-i", b.file("perf.data"))
		if err != nil {
			return err
		}
		took := milliseconds(time.Since(begun))
		row[3], row[4], row[5] = number(took, 0, " ms"), number(memory/1e6, 1, " MB"), times(took, ours)
	}
	out.row(row...)
	return nil
}

const (
	debugFunctions = 400 // of a unit
	debugUnits     = 220
)

// debugUnit is a unit of many small functions, each with calls inlined three
// deep, so with much more debug information than code.
func debugUnit() string {
	var s strings.Builder
	s.WriteString(`#define INLINED static inline __attribute__((always_inline)) unsigned
INLINED inner(unsigned x) { unsigned y = x * 2654435761u; return y ^ (y >> 13); }
INLINED middle(unsigned x) { unsigned s = 0; for (int i = 0; i < 4; i++) s += inner(x + i); return s; }
INLINED outer(unsigned x) { return middle(x) ^ inner(x); }
`)
	for i := range debugFunctions {
		fmt.Fprintf(&s, "__attribute__((noinline)) unsigned f%d(unsigned x) { unsigned v = outer(x + %d); return middle(v) + inner(x); }\n", i, i)
	}
	s.WriteString("unsigned (*const all[])(unsigned) = {")
	for i := range debugFunctions {
		fmt.Fprintf(&s, "f%d, ", i)
	}
	s.WriteString("};\n")
	return s.String()
}

// debuggable starts a program with debug information of some hundred MB: a unit
// is compiled once, and linked many times under other names.
func (b *bench) debuggable() (*target, error) {
	path := b.file("debuggable")
	if _, err := os.Stat(path); err != nil {
		if err := b.buildDebuggable(path); err != nil {
			return nil, err
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	p, err := programs.Launch(exec.CommandContext(b.ctx, path), "ready")
	if err != nil {
		return nil, err
	}
	return &target{fmt.Sprintf("C, %d MB with debug information", st.Size()>>20), p.PID, p.Stop}, nil
}

func (b *bench) buildDebuggable(path string) error {
	dir, err := os.MkdirTemp(b.dir, "")
	if err != nil {
		return err
	}
	var declared, called strings.Builder
	link := []string{"gcc", "-O1", "-g", "-o", path, "main.c"}
	steps := [][]string{{"gcc", "-O1", "-g3", "-fvar-tracking", "-c", "-o", "unit.o", "unit.c"}}
	for i := range debugUnits {
		o := fmt.Sprintf("unit%d.o", i)
		steps = append(steps, []string{"objcopy", fmt.Sprintf("--prefix-symbols=u%d_", i), "unit.o", o})
		fmt.Fprintf(&declared, "extern unsigned (*const u%d_all[])(unsigned);\n", i)
		fmt.Fprintf(&called, "for (int i = 0; i < %d; i++) x = u%d_all[i](x);\n", debugFunctions, i)
		link = append(link, o)
	}
	source := "#include <stdio.h>\n" + declared.String() + "int main(void) { unsigned x = 1; puts(\"ready\"); fflush(stdout); for (;;) {\n" + called.String() + "} }\n"
	for name, text := range map[string]string{"unit.c": debugUnit(), "main.c": source} {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o644); err != nil {
			return err
		}
	}
	for _, line := range append(steps, link) {
		c := exec.CommandContext(b.ctx, line[0], line[1:]...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", line, err, out)
		}
	}
	return nil
}

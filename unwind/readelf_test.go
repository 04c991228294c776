// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bufio"
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// line is a row of readelf's: what it says of the registers that we keep.
type line struct {
	addr        uint64
	cfa, fp, ra string
}

// readelfFDE is one function as readelf sees it.
type readelfFDE struct {
	start, limit uint64
	signal       bool
	lines        []line
}

// readelf runs GNU readelf, which was written by others and runs call frame
// instructions with code of its own.
func readelf(t *testing.T, path string) []readelfFDE {
	t.Helper()
	cmd := exec.Command("readelf", "-W", "--debug-dump=frames-interp", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		missing(t, err)
	}
	fdes := parseReadelf(bufio.NewScanner(out))
	cmd.Wait() // it complains of many files that are right
	return fdes
}

func parseReadelf(s *bufio.Scanner) []readelfFDE {
	type shared struct {
		first  line
		signal bool
	}
	cies := map[string]shared{}
	var fdes []readelfFDE
	var columns []string
	var cie string // of which the lines are read; empty in an FDE
	for s.Scan() {
		f := strings.Fields(s.Text())
		for i := len(f) - 1; i > 0 && len(columns) > 0; i-- { // "r5 (rdi)" is one value
			if strings.HasPrefix(f[i], "(") {
				f[i-1] = strings.Trim(f[i], "()")
				f = slices.Delete(f, i, i+1)
			}
		}
		switch {
		case len(f) >= 5 && f[3] == "CIE":
			cie, columns = f[0], nil
			cies[cie] = shared{signal: strings.Contains(f[4], "S")}
		case len(f) >= 6 && f[3] == "FDE":
			var d readelfFDE
			fmt.Sscanf(f[len(f)-1], "pc=%x..%x", &d.start, &d.limit)
			c := cies[strings.TrimPrefix(f[4], "cie=")]
			d.signal = c.signal
			c.first.addr = d.start
			d.lines = []line{c.first} // until it says otherwise
			fdes = append(fdes, d)
			cie, columns = "", nil
		case len(f) > 1 && f[0] == "LOC":
			columns = f
		case len(f) > 1 && len(f) == len(columns) && f[1] != "ZERO":
			l := line{fp: "u", ra: "u"}
			l.addr, _ = strconv.ParseUint(f[0], 16, 64)
			for i, c := range columns {
				switch c {
				case "CFA":
					l.cfa = f[i]
				case "rbp", "x29":
					l.fp = f[i]
				case "ra":
					l.ra = f[i]
				}
			}
			if cie != "" {
				c := cies[cie]
				c.first = l
				cies[cie] = c
			} else if d := &fdes[len(fdes)-1]; len(d.lines) == 1 && d.lines[0].addr == l.addr {
				d.lines[0] = l
			} else {
				d.lines = append(d.lines, l)
			}
		}
	}
	return fdes
}

// truth answers what readelf says of an address.
type truth struct {
	fdes []readelfFDE
}

func newTruth(fdes []readelfFDE) truth {
	slices.SortStableFunc(fdes, func(a, b readelfFDE) int {
		if a.start != b.start {
			return cmp.Compare(a.start, b.start)
		}
		return cmp.Compare(b.limit, a.limit)
	})
	return truth{slices.CompactFunc(fdes, func(a, b readelfFDE) bool { return a.start == b.start })}
}

func (t truth) at(a uint64) (*readelfFDE, *line) {
	i, ok := slices.BinarySearchFunc(t.fdes, a, func(d readelfFDE, a uint64) int { return cmp.Compare(d.start, a) })
	if !ok {
		i--
	}
	if i < 0 || a >= t.fdes[i].limit {
		return nil, nil
	}
	d := &t.fdes[i]
	var found *line
	for k := range d.lines {
		if d.lines[k].addr > a {
			break
		}
		found = &d.lines[k]
	}
	return d, found
}

var dwarfNames = strings.Fields("rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15")

// says writes what readelf says in the words of Rule.Text; a prefix "?" where
// readelf only says that there is an expression.
func (l *line) says(m elf.Machine) string {
	if m == elf.EM_AARCH64 {
		return l.arm64()
	}
	if l.ra == "u" {
		return "root"
	}
	if l.cfa == "exp" || l.fp == "exp" || l.ra == "exp" {
		return "?"
	}
	reg, off := splitCFA(l.cfa)
	s := fmt.Sprintf("CFA=R%d%+d", slices.Index(dwarfNames, reg), off)
	switch reg {
	case "rsp":
		s = fmt.Sprintf("CFA=SP%+d", off)
	case "rbp":
		s = fmt.Sprintf("CFA=BP%+d", off)
	}
	if i := slices.Index(dwarfNames, l.ra); i >= 0 {
		s += fmt.Sprintf(" RA=R%d", i)
	} else if l.ra != "c-8" {
		return "invalid"
	}
	if l.fp != "u" && l.fp != "s" {
		s += fmt.Sprintf(" BP=*(CFA%s)", strings.TrimPrefix(l.fp, "c"))
	}
	return s
}

func (l *line) arm64() string {
	reg, off := splitCFA(l.cfa)
	s := fmt.Sprintf("CFA=SP%+d", off)
	if reg == "x29" {
		s = fmt.Sprintf("CFA=FP%+d", off)
	} else if reg != "sp" {
		return "?"
	}
	if l.fp != "u" && l.fp != "s" {
		s += fmt.Sprintf(" FP=*(CFA%s)", strings.TrimPrefix(l.fp, "c"))
	}
	if l.ra != "u" && l.ra != "s" {
		s += fmt.Sprintf(" RA=*(CFA%s)", strings.TrimPrefix(l.ra, "c"))
	}
	return s
}

func splitCFA(s string) (string, int) {
	i := strings.IndexAny(s, "+-")
	if i < 0 {
		return s, 0
	}
	off, _ := strconv.Atoi(s[i:])
	return s[:i], off
}

// differences compares every row of a file, ours and readelf's, and returns
// how many rows there were and a sentence for each that differs.
func differences(t *testing.T, o *object.File, fdes []readelfFDE) (rows int, diffs, invalid []string) {
	t.Helper()
	tables, stats, err := Build(o)
	if err != nil {
		return 0, []string{err.Error()}, nil
	}
	truth := newTruth(fdes)
	gos := goText(o)
	for i := range tables {
		tb := &tables[i]
		var at []uint64
		for _, r := range tb.Rows {
			at = append(at, uint64(tb.Base)+uint64(r.Addr))
		}
		for k := range truth.fdes {
			d := &truth.fdes[k]
			for _, l := range d.lines {
				if l.addr < d.limit {
					at = append(at, l.addr)
				}
			}
			at = append(at, d.limit)
		}
		for _, a := range at {
			if a < uint64(tb.Base) || a >= uint64(tb.Limit) {
				continue
			}
			got, want := tb.Rule(profile.ObjAddr(a)), "none"
			d, l := truth.at(a)
			if d != nil && l != nil {
				want = l.says(o.Machine())
			}
			text := got.Text(o.Machine())
			switch {
			case text == want || d == nil && undescribed(o, gos, a):
			case want == "?" && (got.Op() >= OpPLT || got.bp() == bpFromBP):
			case want == "?" && got.Op() == OpSP && o.Section(".plt") != nil && o.Section(".plt").Contains(profile.ObjAddr(a)):
			case d != nil && d.signal && got.Op() == OpSignal:
			case d == nil && got.Op() == OpSignal && (truth.signalBefore(a) || atRestorer(o, a)):
			case got.Op() == OpDerefSP && got.off() < 0 && want == fmt.Sprintf("CFA=R%d%+d", amd64RBX, 8*int(got.bp())): // kept.go
			case d == nil && got.Op() == OpRoot && profile.ObjAddr(a) >= o.Entry() && profile.ObjAddr(a) < o.Entry()+entrySize:
			case got.Op() == OpRoot && l != nil && l.ra == "u": // arm64: the same word for LR
			case got.Op() == OpInvalid:
				invalid = append(invalid, fmt.Sprintf("%#x: %s (%+v)", a, want, l))
			default:
				diffs = append(diffs, fmt.Sprintf("%#x: got %s, readelf says %s (%+v)", a, text, want, l))
			}
		}
	}
	return stats.Rows, diffs, invalid
}

// signalBefore says that an address is the one behind a signal's return code.
func (t truth) signalBefore(a uint64) bool {
	d, _ := t.at(a - 1)
	return d != nil && d.signal
}

// atRestorer says that an address is in code that returns from a signal, or one
// byte before it.
func atRestorer(o *object.File, a uint64) bool {
	var code [2 * 9]byte
	return o.ReadObj(code[:], profile.ObjAddr(a-9)) == nil &&
		(bytes.Contains(code[:], amd64Restorer[7:]) || bytes.Contains(code[:], arm64Restorer[4:]))
}

// undescribed says that our rule for an address comes from somewhere else.
func undescribed(o *object.File, gos []codeRange, a uint64) bool {
	for _, g := range gos {
		if a >= g.start && a < g.limit {
			return true
		}
	}
	for i := range o.Sections() {
		if s := &o.Sections()[i]; isStubs(s) && s.Contains(profile.ObjAddr(a)) {
			return true
		}
	}
	return false
}

// Every row equals readelf's, on a few files of the machine. A C++ program
// built for the test adds exceptions and stack realignment.
func TestReadelf(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	paths := append(slices.Clone(files), "/usr/aarch64-linux-gnu/lib/libc.so.6", "/usr/aarch64-linux-gnu/lib/libstdc++.so.6")
	for _, path := range paths {
		t.Run(path, func(t *testing.T) {
			o := open(t, path)
			n, diffs, invalid := differences(t, o, readelf(t, path))
			for _, d := range diffs[:min(10, len(diffs))] {
				t.Error(d)
			}
			t.Logf("%d rows, %d differ, %d invalid", n, len(diffs), len(invalid))
			for _, d := range invalid[:min(10, len(invalid))] {
				t.Logf("invalid %s", d)
			}
		})
	}
}

// The same for all files of the machine: SRPROF_ALL_OBJECTS=1, takes minutes.
func TestReadelfAll(t *testing.T) {
	if os.Getenv("SRPROF_ALL_OBJECTS") == "" {
		t.Skip("set SRPROF_ALL_OBJECTS=1")
	}
	objects, rows, described, reasons := 0, 0, int64(0), map[Reason]int{}
	var worst float64
	seen := map[string]bool{}
	for _, root := range []string{"/usr/bin", "/usr/sbin", "/usr/lib", "/usr/libexec"} {
		filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			real, _ := filepath.EvalSymlinks(path)
			if err != nil || d.IsDir() || real == "" || seen[real] || strings.HasSuffix(path, ".o") || strings.HasSuffix(path, ".ko") {
				return nil
			}
			seen[real] = true
			head := make([]byte, 4)
			f, err := os.Open(real)
			if err != nil {
				return nil
			}
			f.Read(head)
			if !bytes.Equal(head, []byte(elf.ELFMAG)) {
				f.Close()
				return nil
			}
			f.Seek(0, 0)
			o, err := object.Open(f)
			if err != nil {
				return nil // relocatable, or of another architecture
			}
			defer o.Close()
			n, diffs, invalid := differences(t, o, readelf(t, real))
			_, stats, _ := Build(o)
			objects, rows = objects+1, rows+n
			for _, s := range findSources(o) {
				described += s.size
			}
			for r, n := range stats.Unexpressed {
				reasons[r] += n
			}
			if n > 4*fixedRows {
				worst = max(worst, float64(n)/float64(Bound(o)))
			}
			for _, d := range diffs[:min(5, len(diffs))] {
				t.Errorf("%s: %s (of %d)", real, d, len(diffs))
			}
			if len(invalid) > 0 {
				t.Logf("%s: %d invalid, first %s; %v", real, len(invalid), invalid[0], stats.Unexpressed)
			}
			return nil
		})
	}
	t.Logf("%d objects, %d rows of %d bytes, unexpressed %v, fullest table %.2f of its bound", objects, rows, described, reasons, worst)
}

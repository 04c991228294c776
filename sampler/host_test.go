// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// hostWalks are the walks that bpf/testdata/host.c is compiled to: those of
// both builds.
var hostWalks = map[string]string{"5.4": "-UKERNEL_4_9", "4.9": "-DKERNEL_4_9"}

// compileHost compiles the kernel side's walk for this host, with the rules of
// an architecture.
func compileHost(t *testing.T, target, build string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "walk")
	cmd := exec.Command("gcc", "-D__TARGET_ARCH_"+target, hostWalks[build], "-O1", "-g", "-Wall", "-Wextra", "-Werror",
		"-Wno-unknown-pragmas", "-Wno-unused-variable", "-Wno-unused-function", "-Wno-missing-field-initializers",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-o", out, "../bpf/testdata/host.c")
	if b, err := cmd.CombinedOutput(); err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") == "" {
			t.Skipf("needs gcc: %v", err)
		}
		t.Fatalf("%v\n%s", err, b)
	}
	return out
}

// hostTables is what the kernel would have of some tables.
type hostTables struct {
	chunks, blocks, space []byte
}

// mapped is a table where a process has it.
type mapped struct {
	table *unwind.Table
	bias  profile.Addr
}

func (m *mapped) start() profile.Addr { return m.bias + profile.Addr(m.table.Base) }
func (m *mapped) limit() profile.Addr { return m.bias + profile.Addr(m.table.Limit) }

// feedHost puts tables into the kernel, the way a recording does, and reads
// them back.
func feedHost(t *testing.T, all []mapped) hostTables {
	t.Helper()
	s, err := OpenBPF(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rows, code := 0, 0
	for _, m := range all {
		rows += len(m.table.Rows)
		code += int(m.table.Limit - m.table.Base)
	}
	// The start of a page repeats the row that is in force there.
	if err := s.OpenTables(TableNeed{Rows: rows + code/pageSize, Code: code + len(all)*pageSize}); err != nil {
		t.Fatal(err)
	}
	var ms []Mapping
	for i := range all {
		id, err := s.addTable(all[i].table)
		if err != nil {
			t.Fatal(err)
		}
		ms = append(ms, Mapping{Start: all[i].start(), Limit: all[i].limit(), Bias: all[i].bias, Table: &id})
	}
	number, err := s.spaces.describe(ms)
	if err != nil {
		t.Fatal(err)
	}
	var h hostTables
	for i := range s.tabled.maps.rows.MaxEntries() {
		h.chunks = append(h.chunks, element(t, s.tabled.maps.rows, i)...)
	}
	for i := range s.tabled.maps.pages.MaxEntries() {
		h.blocks = append(h.blocks, element(t, s.tabled.maps.pages, i)...)
	}
	h.space = element(t, s.objs.Spaces, number)
	return h
}

func element(t *testing.T, m interface {
	LookupBytes(any) ([]byte, error)
}, i uint32) []byte {
	t.Helper()
	b, err := m.LookupBytes(i)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// hostStack is a stack to walk: registers and memory of a thread.
type hostStack struct {
	regs  unwind.Registers
	start profile.Addr // of the memory
	mem   []byte
}

func (s *hostStack) word(a profile.Addr) (uint64, bool) {
	at := a - s.start
	if at >= profile.Addr(len(s.mem)) || profile.Addr(len(s.mem))-at < 8 {
		return 0, false
	}
	return binary.LittleEndian.Uint64(s.mem[at:]), true
}

// hostFound is what the walk found.
type hostFound struct {
	end         profile.End
	interrupted uint32
	noTable     uint32
	frames      []profile.Addr
}

// walkHost lets the compiled walk walk stacks.
func walkHost(t *testing.T, walk string, tables hostTables, stacks []hostStack) []hostFound {
	t.Helper()
	var in bytes.Buffer
	u64 := func(vs ...uint64) {
		for _, v := range vs {
			in.Write(binary.LittleEndian.AppendUint64(nil, v))
		}
	}
	u64(uint64(len(tables.chunks)/4096), uint64(len(tables.blocks)/4096), uint64(len(stacks)))
	in.Write(tables.chunks)
	in.Write(tables.blocks)
	in.Write(tables.space)
	for i := range stacks {
		s := &stacks[i]
		u64(uint64(s.regs.PC), uint64(s.regs.SP), uint64(s.regs.BP), uint64(s.regs.LR))
		u64(s.regs.General[:]...)
		u64(uint64(s.start), uint64(len(s.mem)))
		in.Write(s.mem)
	}
	cmd := exec.Command(walk)
	cmd.Stdin = &in
	var diagnosis bytes.Buffer
	cmd.Stderr = &diagnosis
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, diagnosis.Bytes())
	}
	var all []hostFound
	for range stacks {
		if len(out) < 16 {
			t.Fatal("the walk's output ends early")
		}
		word := func(i int) uint32 { return binary.LittleEndian.Uint32(out[4*i:]) }
		f := hostFound{end: profile.End(word(0)), interrupted: word(2), noTable: word(3)}
		n := int(word(1))
		out = out[16:]
		for i := range n {
			f.frames = append(f.frames, profile.Addr(binary.LittleEndian.Uint64(out[8*i:])))
		}
		out = out[8*n:]
		all = append(all, f)
	}
	return all
}

// oracle walks the same stack by the Go twin of the walk.
func oracle(file *object.File, all []mapped, s *hostStack) unwind.Walk {
	w := unwind.Walker{Machine: file.Machine(), Depth: 512, Word: s.word, PACMask: 0xffff << 48}
	w.Rule = func(a profile.Addr) (unwind.Rule, bool) {
		for i := range all {
			if m := &all[i]; a >= m.start() && a < m.limit() {
				return m.table.Rule(profile.ObjAddr(a - m.bias)), true
			}
		}
		return 0, false
	}
	return w.Walk(s.regs)
}

// sameWalk says whether both walks agree.
func sameWalk(f *hostFound, w *unwind.Walk) bool {
	if !slices.Equal(f.frames, w.Frames) || (f.end == profile.EndRoot) != (w.End == unwind.EndRoot) || f.noTable != uint32(w.Guessed) {
		return false
	}
	for i, isReturn := range w.Returns[:min(32, len(w.Returns))] {
		if isReturn == (f.interrupted&(1<<i) != 0) {
			return false
		}
	}
	return true
}

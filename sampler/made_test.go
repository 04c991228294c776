// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// maker makes stacks whose truth is known, without running anything: it
// chooses a chain of addresses in real code, and lays out registers and memory
// so that each one's rule, read as the equation that it is, leads to the next.
// So the walk is tested with every rule that an object has, of architectures
// that this machine is not.
type maker struct {
	machine elf.Machine
	tables  []mapped
	rnd     *rand.Rand
	sites   map[unwind.Op][][2]int // rows (table, index) by their kind of rule
	kinds   []unwind.Op

	regs   unwind.Registers
	words  map[profile.Addr]uint64
	sp     profile.Addr // of the frame being made
	bpAt   profile.Addr // where its BP is kept; 0: in the register
	bp     profile.Addr // its BP, once something depends on it
	bpSet  bool
	raAt   profile.Addr // where the next address is to be written; 0: in a register
	raReg  int          // amd64: which
	lr     bool         // arm64: LR is this frame's
	slow   int          // frames that are not plain
	frames []profile.Addr
	ops    map[unwind.Op]int
}

// place is where a frame's caller is found.
type place struct {
	cfa          profile.Addr
	raAt, bpAt   profile.Addr // bpAt 0: BP is unchanged
	raReg        int
	inRegister   bool
	interrupted  bool
	value, valAt profile.Addr // a word that the rule reads the CFA from
	bp           profile.Addr // the BP that the rule needs, if it needs one
	needsBP      bool
	reg          int // the register that the rule needs, with regValue
	regValue     uint64
}

// make makes a stack of at most so many frames.
func (m *maker) make(frames int) (hostStack, []profile.Addr) {
	m.words, m.frames, m.slow = map[profile.Addr]uint64{}, nil, 0
	m.sp, m.bpAt, m.bpSet, m.lr = 0x7ffc00010000, 0, false, true
	m.regs = unwind.Registers{SP: m.sp}
	for i := range m.regs.General {
		m.regs.General[i] = m.rnd.Uint64()
	}
	interrupted := true
	// Not below a signal's frame: an address of zero was called there.
	for len(m.frames) < frames || interrupted {
		pc, p, ok := m.frame(interrupted)
		if !ok {
			break
		}
		m.write(pc)
		m.frames = append(m.frames, pc)
		interrupted = p.interrupted
		m.go_(p)
	}
	m.write(0) // the root
	if !m.bpSet && m.bpAt == 0 {
		m.regs.BP = profile.Addr(m.rnd.Uint64() | 1)
	}
	return m.memory(), m.frames
}

// frame finds an address whose rule can hold where the stack stands now.
func (m *maker) frame(interrupted bool) (profile.Addr, place, bool) {
	for range 300 {
		t, i := m.site()
		row := t.table.Rows[i]
		size := uint32(1)
		if i+1 < len(t.table.Rows) {
			size = t.table.Rows[i+1].Addr - row.Addr
		}
		at := t.start() + profile.Addr(row.Addr) + profile.Addr(m.rnd.IntN(int(size)))
		pc := at
		if !interrupted {
			pc++ // a return address: looked up one byte earlier
		}
		if p, ok := m.solve(row.Rule, pc); ok && m.free(p) {
			m.ops[row.Rule.Op()]++
			if row.Rule.Op() > unwind.OpFramePointer || m.machine == elf.EM_AARCH64 && row.Rule>>12&255 == 0 {
				m.slow++
			}
			return pc, p, true
		}
	}
	return 0, place{}, false
}

// site is a row: of any kind of rule with the same chance, or of the rare ones
// there would be none.
func (m *maker) site() (*mapped, int) {
	if m.sites == nil {
		m.sites = map[unwind.Op][][2]int{}
		for t := range m.tables {
			for i, row := range m.tables[t].table.Rows {
				m.sites[row.Rule.Op()] = append(m.sites[row.Rule.Op()], [2]int{t, i})
			}
		}
		for op := range m.sites {
			m.kinds = append(m.kinds, op)
		}
		slices.Sort(m.kinds)
	}
	kind := m.kinds[m.rnd.IntN(len(m.kinds))]
	if m.slow > 20 { // of frames by rare rules a walk takes no more than there are tail calls
		kind = unwind.OpSP
	}
	of := m.sites[kind]
	s := of[m.rnd.IntN(len(of))]
	return &m.tables[s[0]], s[1]
}

// leaf says whether the registers are those of the frame being made.
func (m *maker) leaf() bool { return len(m.frames) == 0 }

// solve reads a rule as an equation whose unknowns may be chosen.
func (m *maker) solve(r unwind.Rule, pc profile.Addr) (place, bool) {
	if m.machine == elf.EM_AARCH64 {
		return m.solveARM64(r)
	}
	bp, off := profile.Addr(r>>4&255), int64(int32(r)>>12)
	some := profile.Addr(8 * (1 + m.rnd.IntN(40)))
	p := place{inRegister: false}
	switch r.Op() {
	case unwind.OpSP:
		p.cfa = m.sp + profile.Addr(8*off)
	case unwind.OpBP:
		p.needsBP, p.bp = true, m.sp+some-profile.Addr(8*off)
		if m.bpSet {
			p.bp = m.bp
		}
		p.cfa = p.bp + profile.Addr(8*off)
	case unwind.OpFramePointer:
		p.needsBP, p.bp = true, m.sp+some
		if m.bpSet {
			p.bp = m.bp
		}
		p.cfa, bp = p.bp+16, 2
	case unwind.OpPLT:
		p.cfa = m.sp + 8
		if pc&15 >= 11 {
			p.cfa += 8
		}
	case unwind.OpSignal:
		return m.solveSignal()
	case unwind.OpDerefBP:
		p.needsBP, p.bp = true, m.sp+some-profile.Addr(8*off)
		if m.bpSet {
			p.bp = m.bp
		}
		p.valAt = p.bp + profile.Addr(8*off)
		p.cfa = p.valAt + 8*bp%2048 + some + 8
		p.value = p.cfa
	case unwind.OpDerefSP:
		p.valAt = m.sp + profile.Addr(8*off)
		p.cfa = p.valAt + some + 8
		p.value, bp = p.cfa-8*bp, 0
	case unwind.OpDerefSPSaved:
		p.valAt = m.sp + profile.Addr(8*(off>>7))
		p.cfa = p.valAt + some + 8*bp%2048 + 8
		p.value = p.cfa - profile.Addr(8*(off&127))
	case unwind.OpRegister:
		p.reg, p.cfa = int(off&15), m.sp+some+8*bp%2048
		p.regValue = uint64(p.cfa - profile.Addr(8*(off>>4)))
		if !m.leaf() || p.reg == 6 || p.reg == 7 {
			return p, false
		}
	case unwind.OpReturnRegister:
		p.inRegister, p.raReg, p.cfa = true, int(off&15), m.sp+profile.Addr(8*(off>>4))
		return p, m.leaf() && p.cfa >= m.sp && p.raReg != 6 && p.raReg != 7
	default:
		return p, false
	}
	p.raAt = p.cfa - 8
	switch bp {
	case 0:
	case 255: // BP = *(BP)
		p.bpAt = p.bp
		if !p.needsBP {
			return p, false
		}
	default:
		p.bpAt = p.cfa - 8*bp
	}
	return p, p.cfa > m.sp
}

func (m *maker) solveARM64(r unwind.Rule) (place, bool) {
	fp, ra := 8*profile.Addr(r>>4&255), 8*profile.Addr(r>>12&255)
	off := profile.Addr(16 * int64(int32(r)>>20))
	p := place{cfa: m.sp + off}
	op := r.Op()
	switch op {
	case unwind.OpRecordSP, unwind.OpRecordBP:
		fp = 16 * profile.Addr(r>>4&0xffff)
		ra = fp - 8
	case unwind.OpSP, unwind.OpBP, unwind.OpFramePointer:
	case unwind.OpSignal:
		return m.solveSignal()
	default:
		return p, false
	}
	if op == unwind.OpFramePointer {
		off, fp, ra = 16, 16, 8
	}
	if op == unwind.OpBP || op == unwind.OpRecordBP || op == unwind.OpFramePointer {
		p.needsBP, p.bp = true, m.sp+profile.Addr(16*(1+m.rnd.IntN(20)))+fp-fp%16-off
		if m.bpSet {
			p.bp = m.bp
		}
		p.cfa = p.bp + off
	}
	if p.inRegister = ra == 0; !p.inRegister {
		p.raAt = p.cfa - ra
	}
	if fp != 0 {
		p.bpAt = p.cfa - fp
	}
	if p.inRegister && !m.lr {
		return p, false
	}
	return p, p.cfa > m.sp || p.cfa == m.sp && m.lr
}

// solveSignal lets the frame be a signal's, above which another stack goes on.
func (m *maker) solveSignal() (place, bool) {
	p := place{interrupted: true, cfa: m.sp + 0x2000, raAt: m.sp + 168, bpAt: m.sp + 120, valAt: m.sp + 160}
	if m.machine == elf.EM_AARCH64 {
		p.raAt, p.bpAt, p.valAt = m.sp+568, m.sp+544, m.sp+560
	}
	p.value = p.cfa
	return p, true
}

// free says whether what the place needs is not taken by another frame.
func (m *maker) free(p place) bool {
	for _, at := range []profile.Addr{p.raAt, p.bpAt, p.valAt} {
		if _, taken := m.words[at]; at != 0 && (taken || at < m.sp || at > m.sp+1<<16 || at == m.bpAt) {
			return false
		}
	}
	distinct := p.raAt != p.bpAt && (p.valAt == 0 || p.valAt != p.raAt && p.valAt != p.bpAt)
	return (distinct || p.raAt == 0) && p.cfa < m.sp+1<<16
}

// go_ goes to the caller's frame.
func (m *maker) go_(p place) {
	if p.needsBP && !m.bpSet {
		m.bp, m.bpSet = p.bp, true
		if m.bpAt == 0 {
			m.regs.BP = p.bp
		} else {
			m.words[m.bpAt] = uint64(p.bp)
		}
	}
	if p.valAt != 0 {
		m.words[p.valAt] = uint64(p.value)
	}
	if p.regValue != 0 {
		m.regs.General[p.reg] = p.regValue
	}
	if p.bpAt != 0 {
		if !m.bpSet && m.bpAt == 0 {
			m.regs.BP = profile.Addr(m.rnd.Uint64() | 1) // nobody asks for it
		}
		m.bpAt, m.bpSet = p.bpAt, false
		m.words[p.bpAt] = m.rnd.Uint64() | 1
	}
	m.raAt, m.raReg, m.sp = p.raAt, p.raReg, p.cfa
	if m.raAt != 0 {
		m.words[m.raAt] = 0 // taken
	}
	m.lr = false
	if p.interrupted && m.machine == elf.EM_AARCH64 {
		m.lr = true
		m.words[m.sp-0x2000+552] = 0 // LR, if the next frame has it there
	}
}

// write puts an address where the frame before found it.
func (m *maker) write(pc profile.Addr) {
	v := uint64(pc)
	if m.machine == elf.EM_AARCH64 && pc != 0 && len(m.frames) > 0 {
		v |= m.rnd.Uint64() << 48 // signed
	}
	switch {
	case len(m.frames) == 0:
		m.regs.PC = pc
	case m.raAt != 0:
		m.words[m.raAt] = v
	case m.machine == elf.EM_AARCH64 && len(m.frames) == 1:
		m.regs.LR = profile.Addr(v)
	case m.machine == elf.EM_AARCH64: // below a signal's frame
		m.words[m.sp-0x2000+552] = v
	default:
		m.regs.General[m.raReg] = v
	}
}

// memory is all that was written, and noise between.
func (m *maker) memory() hostStack {
	s := hostStack{regs: m.regs, start: 0x7ffc00010000}
	end := slices.Max(append(slices.Collect(maps.Keys(m.words)), s.start))
	s.mem = make([]byte, end-s.start+8)
	for a := s.start; a < end; a += 8 {
		binary.LittleEndian.PutUint64(s.mem[a-s.start:], m.rnd.Uint64())
	}
	for a, v := range m.words {
		binary.LittleEndian.PutUint64(s.mem[a-s.start:], v)
	}
	return s
}

// The walk finds exactly the chain that a stack was made of, on both
// architectures and in both builds, and so does its Go twin.
func TestMadeStacks(t *testing.T) {
	for _, c := range []struct {
		target, path string
		need         []unwind.Op // that must have been among the frames
	}{
		{"x86", "/lib/x86_64-linux-gnu/libc.so.6", []unwind.Op{unwind.OpSP, unwind.OpBP, unwind.OpPLT, unwind.OpSignal}},
		{"x86", "/lib/x86_64-linux-gnu/libcrypto.so.3", []unwind.Op{unwind.OpSP, unwind.OpBP, unwind.OpDerefSP, unwind.OpRegister}},
		{"x86", "/usr/bin/redis-server", []unwind.Op{unwind.OpSP, unwind.OpBP, unwind.OpPLT}},
		{"arm64", "/usr/aarch64-linux-gnu/lib/libc.so.6", []unwind.Op{unwind.OpSP, unwind.OpBP}},
		{"arm64", "/usr/aarch64-linux-gnu/lib/libstdc++.so.6", []unwind.Op{unwind.OpSP}},
		{"arm64", "/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1", []unwind.Op{unwind.OpSP, unwind.OpBP}},
	} {
		for build := range hostWalks {
			t.Run(fmt.Sprintf("%s %s %s", c.target, build, c.path), func(t *testing.T) {
				ops := walkMade(t, compileHost(t, c.target, build), c.path)
				t.Logf("frames by rule: %v", ops)
				for _, op := range c.need {
					if ops[op] == 0 {
						t.Errorf("no frame with rule %d was made", op)
					}
				}
			})
		}
	}
}

func walkMade(t *testing.T, walk, path string) map[unwind.Op]int {
	f, err := os.Open(path)
	if err != nil {
		if os.Getenv("SRPROF_REQUIRE_ALL") == "" {
			t.Skip(err)
		}
		t.Fatal(err)
	}
	file, err := object.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	tables, _, err := unwind.Build(file)
	if err != nil {
		t.Fatal(err)
	}
	m := maker{machine: file.Machine(), rnd: rand.New(rand.NewPCG(1, 2)), ops: map[unwind.Op]int{}}
	for i := range tables {
		m.tables = append(m.tables, mapped{&tables[i], 0x7f1200000000})
	}
	var stacks []hostStack
	var chains [][]profile.Addr
	for range 400 {
		s, chain := m.make(1 + m.rnd.IntN(60))
		if len(chain) > 0 {
			stacks, chains = append(stacks, s), append(chains, slices.Clone(chain))
		}
	}
	found := walkHost(t, walk, feedHost(t, m.tables), stacks)
	bad := 0
	for i := range found {
		w := oracle(file, m.tables, &stacks[i])
		if slices.Equal(found[i].frames, chains[i]) && found[i].end == profile.EndRoot && sameWalk(&found[i], &w) {
			continue
		}
		if bad++; bad <= 3 {
			t.Errorf("stack %d: %v after %d frames, of %d made; Go: %v after %d", i, found[i].end, len(found[i].frames), len(chains[i]), w.End, len(w.Frames))
		}
	}
	if bad > 0 {
		t.Errorf("%d of %d stacks are not what was made", bad, len(found))
	}
	return m.ops
}

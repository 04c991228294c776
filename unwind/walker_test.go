// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"slices"
	"testing"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// wordsAt is a made-up memory: these words from base on.
func wordsAt(base profile.Addr, words ...uint64) func(profile.Addr) (uint64, bool) {
	return func(a profile.Addr) (uint64, bool) {
		if i := (a - base) / 8; a >= base && a%8 == 0 && int(i) < len(words) {
			return words[i], true
		}
		return 0, false
	}
}

// Each case walks from PC 0x1000 with SP 0x7000 and BP 0x7020; the rule of the
// leaf is given, the rest of the code is root, apart from 0x2fff: the last byte
// of a call.
func TestWalker(t *testing.T) {
	words := []uint64{0x3000, 0x3001, 0x7030, 0x3003, 0x7040, 0x3005, 0, 0x3007}
	var general [16]uint64
	general[5], general[4] = 0x3100, 0x7010
	for _, c := range []struct {
		name   string
		m      elf.Machine
		leaf   Rule
		pc     profile.Addr // after the first step
		sp, bp profile.Addr
		end    End
	}{
		{"SP", elf.EM_X86_64, amd64Rule(OpSP, 0, 1), 0x3000, 0x7008, 0x7020, EndRoot},
		{"SP, BP saved", elf.EM_X86_64, amd64Rule(OpSP, 2, 4), 0x3003, 0x7020, 0x7030, EndRoot},
		{"BP", elf.EM_X86_64, amd64Rule(OpBP, 2, 2), 0x3005, 0x7030, 0x7040, EndRoot},
		{"frame pointer", elf.EM_X86_64, Rule(OpFramePointer), 0x3005, 0x7030, 0x7040, EndRoot},
		{"nothing known", elf.EM_X86_64, Rule(OpNone), 0x3005, 0x7030, 0x7040, EndRoot},
		{"PLT", elf.EM_X86_64, Rule(OpPLT), 0x3000, 0x7008, 0x7020, EndRoot},
		{"deref BP", elf.EM_X86_64, amd64Rule(OpDerefBP, bpFromBP, -2), 0x3005, 0x7030, 0x7040, EndRoot},
		{"deref SP", elf.EM_X86_64, amd64Rule(OpDerefSP, 1, 2), 0, 0, 0, EndRoot},
		{"deref SP, BP saved", elf.EM_X86_64, amd64Rule(OpDerefSPSaved, 3, 2<<7|2), 0x3007, 0x7040, 0x3005, EndRoot},
		{"register", elf.EM_X86_64, amd64Rule(OpRegister, 0, 0<<4|4), 0x3001, 0x7010, 0x7020, EndRoot},
		{"return register", elf.EM_X86_64, amd64Rule(OpReturnRegister, 0, 0<<4|5), 0x3100, 0x7000, 0x7020, EndRoot},
		{"root", elf.EM_X86_64, Rule(OpRoot), 0, 0, 0, EndRoot},
		{"invalid", elf.EM_X86_64, Rule(OpInvalid), 0, 0, 0, EndInvalid},
		{"backwards", elf.EM_X86_64, amd64Rule(OpSP, 0, -1), 0, 0, 0, EndUnreadable},
		{"unreadable", elf.EM_X86_64, amd64Rule(OpSP, 0, 100), 0, 0, 0, EndUnreadable},
		{"link register", elf.EM_AARCH64, arm64Rule(OpSP, 0, 0, 0), 0x4000, 0x7000, 0x7020, EndRoot},
		{"arm64 saved", elf.EM_AARCH64, arm64Rule(OpSP, 2, 1, 3), 0x3005, 0x7030, 0x7040, EndRoot},
		{"arm64 FP", elf.EM_AARCH64, arm64Rule(OpBP, 2, 1, 1), 0x3005, 0x7030, 0x7040, EndRoot},
		{"record SP", elf.EM_AARCH64, arm64Rule(OpRecordSP, 1, 0, 3), 0x3005, 0x7030, 0x7040, EndRoot},
		{"record FP", elf.EM_AARCH64, arm64Rule(OpRecordBP, 1, 0, 1), 0x3005, 0x7030, 0x7040, EndRoot},
	} {
		var f frame
		w := Walker{Machine: c.m, Word: wordsAt(0x7000, words...), Depth: 2, PACMask: 0xffff << 48}
		regs := Registers{PC: 0x1000, SP: 0x7000, BP: 0x7020, LR: 0xabcd000000004000, General: general}
		w.Rule = func(a profile.Addr) (Rule, bool) {
			if a == 0x1000 {
				return c.leaf, true
			}
			return Rule(OpRoot), true
		}
		k := w.Walk(regs)
		frames := []profile.Addr{0x1000}
		if c.pc != 0 {
			frames = append(frames, c.pc)
		}
		if !slices.Equal(k.Frames, frames) || k.End != c.end {
			t.Errorf("%s: got %v %v, want %v %v", c.name, k.Frames, k.End, frames, c.end)
		}
		f.Registers, f.lr = regs, true
		rule := c.leaf
		if rule.Op() == OpNone {
			rule = Rule(OpFramePointer)
		}
		if _, more := w.step(&f, rule, false); more && (f.SP != c.sp || f.BP != c.bp) {
			t.Errorf("%s: got SP %v BP %v, want %v %v", c.name, f.SP, f.BP, c.sp, c.bp)
		}
	}
}

// The rules that only hold in a leaf, and the ways to end beyond it.
func TestWalkerCallers(t *testing.T) {
	up := amd64Rule(OpSP, 0, 1)
	for _, c := range []struct {
		name   string
		m      elf.Machine
		caller Rule
		depth  int
		want   End
		frames int
	}{
		{"register", elf.EM_X86_64, amd64Rule(OpRegister, 0, 4), 9, EndRegister, 2},
		{"return register", elf.EM_X86_64, amd64Rule(OpReturnRegister, 0, 4), 9, EndRegister, 2},
		{"link register", elf.EM_AARCH64, arm64Rule(OpSP, 0, 0, 1), 9, EndRegister, 2},
		{"no progress", elf.EM_X86_64, amd64Rule(OpSP, 0, 0), 9, EndBadSP, 2},
		{"too deep", elf.EM_X86_64, up, 3, EndTruncated, 3},
		{"return address 0", elf.EM_X86_64, up, 9, EndRoot, 4},
		{"BP 0", elf.EM_X86_64, Rule(OpFramePointer), 9, EndRoot, 2},
	} {
		first := up
		if c.m == elf.EM_AARCH64 {
			first = arm64Rule(OpSP, 0, 2, 1)
		}
		w := Walker{Machine: c.m, Word: wordsAt(0x6ff8, 1, 0x3000, 0x3000, 0x3000, 0), Depth: c.depth}
		w.Rule = func(a profile.Addr) (Rule, bool) {
			if a == 0x1000 {
				return first, true
			}
			return c.caller, a == 0x2fff // the byte before the return address
		}
		k := w.Walk(Registers{PC: 0x1000, SP: 0x7000})
		if k.End != c.want || len(k.Frames) != c.frames {
			t.Errorf("%s: got %v after %v, want %v", c.name, k.End, k.Frames, c.want)
		}
	}
}

// An interrupted frame is looked up where it stands, and on arm64 has its LR.
func TestWalkerSignal(t *testing.T) {
	for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
		words := make([]uint64, 80)
		words[120/8], words[160/8], words[168/8] = 0x7100, 0x100, 0x3000
		words[544/8], words[552/8], words[560/8], words[568/8] = 0x7100, 0x4000, 0x100, 0x3000
		w := Walker{Machine: m, Word: wordsAt(0x7000, words...), Depth: 9}
		w.Rule = func(a profile.Addr) (Rule, bool) {
			switch a {
			case 0x1000:
				return Rule(OpSignal), true
			case 0x3000:
				if m == elf.EM_AARCH64 {
					return arm64Rule(OpSP, 0, 0, 0), true
				}
				return Rule(OpRoot), true
			}
			return Rule(OpRoot), true
		}
		k := w.Walk(Registers{PC: 0x1000, SP: 0x7000})
		want, returns := []profile.Addr{0x1000, 0x3000}, []bool{false, false}
		if m == elf.EM_AARCH64 {
			want, returns = append(want, 0x4000), append(returns, true)
		}
		if !slices.Equal(k.Frames, want) || !slices.Equal(k.Returns, returns) || k.End != EndRoot {
			t.Errorf("%v: %+v", m, k)
		}
	}
}

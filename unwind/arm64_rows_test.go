// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"testing"
)

// Each case is the first row of a function of arm64, where the CFA is SP and
// the return address in LR until something else is said.
func TestMachineARM64(t *testing.T) {
	const fp, lr, sp = 29, 30, 31
	record := func(words uint64) bytecode {
		return bytecode{}.saved(fp, words).saved(lr, words-1)
	}
	for _, c := range []struct {
		name, augmentation string
		code               bytecode
		want               string
		bad                Reason
	}{
		{"leaf", "zR", nil, "CFA=SP+0", 0},
		{"leaf with variables", "zR", bytecode{}.cfaOffset(48), "CFA=SP+48", 0},
		{"frame record", "zR", record(4).cfaOffset(32), "CFA=SP+32 FP=*(CFA-32) RA=*(CFA-24)", 0},
		{"frame pointer", "zR", record(4).defCFA(fp, 32), "CFA=FP+32 FP=*(CFA-32) RA=*(CFA-24)", 0},
		{"signed return address", "zRB", record(2).u8(opNegateRAState).cfaOffset(16), "CFA=SP+16 FP=*(CFA-16) RA=*(CFA-8)", 0},
		{"record far away", "zR", record(514).cfaOffset(4112), "CFA=SP+4112 FP=*(CFA-4112) RA=*(CFA-4104)", 0},
		{"record far away, frame pointer", "zR", record(514).defCFA(fp, 4112), "CFA=FP+4112 FP=*(CFA-4112) RA=*(CFA-4104)", 0},
		{"only LR saved", "zR", bytecode{}.saved(lr, 2).cfaOffset(16), "CFA=SP+16 RA=*(CFA-16)", 0},
		{"root", "zR", bytecode{}.u8(opUndefined, lr), "root", 0},
		{"signal", "zRS", record(2), "signal", 0},
		{"odd offset", "zR", bytecode{}.cfaOffset(8), "invalid", ReasonCFAOffset},
		{"giant offset", "zR", bytecode{}.cfaOffset(16 * 2048), "invalid", ReasonCFAOffset},
		{"another register", "zR", bytecode{}.defCFA(3, 16), "invalid", ReasonCFARegister},
		{"expression", "zR", bytecode{}.expression(opDefCFAExpression, -1, exprBreg0+sp, 0, exprDeref), "invalid", ReasonCFAExpression},
		{"LR far away", "zR", bytecode{}.saved(lr, 300), "invalid", ReasonReturn},
		{"FP far away", "zR", bytecode{}.saved(fp, 300), "invalid", ReasonFramePointer},
		{"odd record far away", "zR", record(515).cfaOffset(4128), "invalid", ReasonFramePointer},
		{"LR in a register", "zR", bytecode{}.u8(opRegister, lr, 3), "invalid", ReasonReturn},
	} {
		s := section{addr: frameAddr}
		e := s.id(true, 0).u8(1).text(c.augmentation).uleb(4).sleb(-8).u8(lr).uleb(1).join(zR).defCFA(sp, 0)
		s.fde(s.record(e), textAddr, 0x1000, c.code)
		tables, stats, err := Build(build(t, elf.EM_AARCH64, ehFrame(&s)))
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if c.bad != 0 {
			want = 1
		}
		if got := tables[0].Rule(textAddr).Text(elf.EM_AARCH64); got != c.want || stats.Unexpressed[c.bad] != want {
			t.Errorf("%s: got %s, %v, want %s", c.name, got, stats.Unexpressed, c.want)
		}
	}
}

// A record too big to be one is stepped over.
func TestGiantRecord(t *testing.T) {
	s := section{addr: frameAddr}
	c := s.cie("zR", zR, nil)
	s.b = s.b.u32(maxRecord + 8).join(make([]byte, maxRecord+8))
	s.fde(c, textAddr, 0x10, nil)
	if got, stats := text(t, ehFrame(&s)); got != "0: CFA=SP+8\n10: none" || stats.Unexpressed[ReasonMalformed] != 1 {
		t.Error(got, stats)
	}
}

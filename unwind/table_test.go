// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// text writes the rows of the only table: addresses relative to it, in hex.
func text(t testing.TB, parts ...part) (string, Stats) {
	t.Helper()
	o := build(t, elf.EM_X86_64, parts...)
	tables, stats, err := Build(o)
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	var all []string
	for _, r := range tables[0].Rows {
		all = append(all, fmt.Sprintf("%x: %s", r.Addr, r.Rule.Text(elf.EM_X86_64)))
	}
	return strings.Join(all, "\n"), stats
}

const (
	rax, rbx, rsi, rdi, rbp, rsp, rip = 0, 3, 4, 5, 6, 7, 16
)

func lines(s ...string) string { return strings.Join(s, "\n") }

var zR = []byte{encodingPC | encodingS4}

// Each case is one function of 0x40 bytes at 0x10, with a gap on either side.
func TestMachine(t *testing.T) {
	push := slices.Clip(bytecode{}.advance(1).cfaOffset(16).saved(rbp, 2)) // shared by cases, so appending must copy
	for _, c := range []struct {
		name string
		code bytecode
		want string
		bad  Reason
	}{
		{"nothing", nil, "10: CFA=SP+8", 0},
		{"push", push, "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)", 0},
		{"frame pointer", push.advance(3).cfaRegister(rbp), "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)\n14: CFA=BP+16 BP=*(CFA-16)", 0},
		{"equal neighbors", push.advance(3).saved(rbx, 3).advance(2).cfaOffset(16), "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)", 0},
		{"all advances", bytecode{}.u8(opAdvanceLoc1, 1).cfaOffset(16).u8(opAdvanceLoc2, 2, 0).cfaOffset(24).
			u8(opAdvanceLoc4, 3, 0, 0, 0).cfaOffset(32).u8(opAdvanceLoc8).u64(4).cfaOffset(40),
			"10: CFA=SP+8\n11: CFA=SP+16\n13: CFA=SP+24\n16: CFA=SP+32\n1a: CFA=SP+40", 0},
		{"advance beyond the end", push.u8(opAdvanceLoc2, 0, 1).cfaOffset(64), "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)", 0},
		{"remember and restore", push.u8(opRememberState).advance(1).cfaOffset(8).u8(opRestore | rbp).advance(1).u8(opRestoreState),
			"10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)\n12: CFA=SP+8\n13: CFA=SP+16 BP=*(CFA-16)", 0},
		{"nested states", push.u8(opRememberState).cfaOffset(32).u8(opRememberState).cfaOffset(64).u8(opRestoreState).advance(1).u8(opRestoreState),
			"10: CFA=SP+8\n11: CFA=SP+32 BP=*(CFA-16)\n12: CFA=SP+16 BP=*(CFA-16)", 0},
		{"states too deep", push.join(bytes.Repeat([]byte{opRememberState}, maxStates+1)), "10: CFA=SP+8\n11: invalid", ReasonNesting},
		{"restore without remember", push.advance(1).u8(opRestoreState), "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)\n12: invalid", ReasonNesting},
		{"root", bytecode{}.u8(opUndefined, rip), "10: root", 0},
		{"same value", push.u8(opSameValue, rbp), "10: CFA=SP+8\n11: CFA=SP+16", 0},
		{"extended forms", bytecode{}.u8(opOffsetExtended, rbp).uleb(3).advance(1).u8(opOffsetExtendedSF, rbp).sleb(4).
			advance(1).u8(opNegativeOffsetExtended, rbp).uleb(0).u8(opRestoreExtended, rbp).advance(1).u8(opDefCFASF, rbp).sleb(-5).
			advance(1).u8(opDefCFAOffsetSF).sleb(-6),
			"10: CFA=SP+8 BP=*(CFA-24)\n11: CFA=SP+8 BP=*(CFA-32)\n12: CFA=SP+8\n13: CFA=BP+40\n14: CFA=BP+48", 0},
		{"of no matter", bytecode{}.u8(opArgsSize).uleb(300).u8(opValOffset, rbx, 2).u8(opValOffsetSF, rbx, 2).u8(opRegister, rbx, rax).
			u8(opNegateRAState, opNop).expression(opValExpression, rbx, exprDeref), "10: CFA=SP+8", 0},
		{"plt", bytecode{}.expression(opDefCFAExpression, -1, pltExpression...), "10: CFA=PLT", 0},
		{"realigned stack", bytecode{}.expression(opDefCFAExpression, -1, exprBreg0+rbp, 0x78, exprDeref).expression(opExpression, rbp, exprBreg0+rbp, 0),
			"10: CFA=*(BP-8) BP=*(BP)", 0},
		{"CFA in memory", bytecode{}.expression(opDefCFAExpression, -1, exprBreg0+rsp, 24, exprDeref, exprPlusConst, 8), "10: CFA=*(SP+24)+8", 0},
		{"CFA in memory, BP saved", bytecode{}.saved(rbp, 3).expression(opDefCFAExpression, -1, exprBreg0+rsp, 24, exprDeref, exprLit0+8, exprPlus),
			"10: CFA=*(SP+24)+8 BP=*(CFA-24)", 0},
		{"CFA is a plain expression", bytecode{}.expression(opDefCFAExpression, -1, exprBreg0+rsp, 24), "10: CFA=SP+24", 0},
		{"BP by expression", bytecode{}.cfaOffset(48).expression(opExpression, rbp, exprBreg0+rsp, 16), "10: CFA=SP+48 BP=*(CFA-32)", 0},
		{"CFA on another register", bytecode{}.defCFA(rsi, 8), "10: CFA=R4+8", 0},
		{"return register", bytecode{}.cfaOffset(0).u8(opRegister, rip, rdi), "10: CFA=SP+0 RA=R5", 0},
		{"vector register", bytecode{}.defCFA(17, 8), "10: invalid", ReasonCFARegister},
		{"odd offset", bytecode{}.cfaOffset(12), "10: invalid", ReasonCFAOffset},
		{"giant offset", bytecode{}.cfaOffset(8 << 19), "10: invalid", ReasonCFAOffset},
		{"big offset", bytecode{}.cfaOffset(8<<19 - 8), "10: CFA=SP+4194296", 0},
		{"unknown expression", bytecode{}.expression(opDefCFAExpression, -1, exprLit0), "10: invalid", ReasonCFAExpression},
		{"offset after expression", bytecode{}.expression(opDefCFAExpression, -1, exprBreg0+rsp, 24, exprDeref).cfaOffset(16), "10: invalid", ReasonCFAExpression},
		{"return address elsewhere", bytecode{}.saved(rip, 2), "10: invalid", ReasonReturn},
		{"BP far away", bytecode{}.saved(rbp, 255), "10: invalid", ReasonFramePointer},
		{"BP in a register", bytecode{}.u8(opRegister, rbp, rax), "10: invalid", ReasonFramePointer},
		{"unknown instruction", push.advance(1).u8(0x3f), "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)\n12: invalid", ReasonMalformed},
		{"cut instruction", push.advance(1).u8(opAdvanceLoc4), "10: CFA=SP+8\n11: CFA=SP+16 BP=*(CFA-16)\n12: invalid", ReasonMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := section{addr: frameAddr}
			code := c.code
			for c.name == "cut instruction" && (len(code)+17)%8 != 0 { // so that no padding completes it
				code = append(bytecode{opNop}, code...)
			}
			s.fde(s.cie("zR", zR, nil), textAddr+0x10, 0x40, code)
			got, stats := text(t, ehFrame(&s))
			if want := lines("0: none", c.want, "50: none"); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			want := map[Reason]int{}
			if c.bad != 0 {
				want[c.bad] = 1
			}
			if !maps.Equal(stats.Unexpressed, want) || stats.Functions != 1 || stats.Rows != strings.Count(got, "\n")+1 {
				t.Errorf("got %+v, want %v", stats, want)
			}
		})
	}
}

// DW_CFA_set_loc has an address in the CIE's encoding.
func TestSetLoc(t *testing.T) {
	want := lines("0: none", "10: CFA=SP+8", "14: CFA=SP+16", "20: none")
	s := section{addr: frameAddr}
	c := s.cie("zR", []byte{encodingAbsolute}, nil)
	s.record(s.id(false, c).u64(textAddr + 0x10).u64(0x10).uleb(0).u8(opSetLoc).u64(textAddr + 0x14).cfaOffset(16))
	if got, _ := text(t, ehFrame(&s)); got != want {
		t.Errorf("absolute: got\n%s", got)
	}
	s = section{addr: frameAddr}
	c = s.cie("zR", zR, nil)
	here := uint64(frameAddr + len(s.b) + 4 + 4 + 4 + 4 + 1 + 1) // length, CIE, start, size, augmentation, instruction
	s.fde(c, textAddr+0x10, 0x10, bytecode{}.u8(opSetLoc).u32(uint32(textAddr+0x14-here)).cfaOffset(16))
	if got, _ := text(t, ehFrame(&s)); got != want {
		t.Errorf("relative: got\n%s", got)
	}
	s = section{addr: frameAddr}
	c = s.cie("zR", []byte{encodingAbsolute}, nil)
	s.record(s.id(false, c).u64(textAddr + 0x10).u64(0x10).uleb(0).advance(8).u8(opSetLoc).u64(textAddr + 0x14))
	if got, _ := text(t, ehFrame(&s)); got != lines("0: none", "10: CFA=SP+8", "18: invalid", "20: none") {
		t.Errorf("backwards: got\n%s", got)
	}
}

// Stubs with endbr64 push at byte 9: rows instead of OpPLT.
func TestSpreadStubs(t *testing.T) {
	e := slices.Clone(pltExpression)
	e[pltLiteral] = exprLit0 + 9
	s := section{addr: frameAddr}
	s.fde(s.cie("zR", zR, nil), textAddr, 0x28, bytecode{}.expression(opDefCFAExpression, -1, e...))
	got, _ := text(t, ehFrame(&s))
	if want := lines("0: CFA=SP+8", "9: CFA=SP+16", "10: CFA=SP+8", "19: CFA=SP+16", "20: CFA=SP+8", "28: none"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// The address behind the return code is that of its system call, unless another
// function begins there.
func TestSignal(t *testing.T) {
	s := section{addr: frameAddr}
	s.fde(s.cie("zRS", zR, nil), textAddr, 0x10, bytecode{}.expression(opDefCFAExpression, -1, bytecode{}.u8(exprBreg0+rsp).sleb(160).u8(exprDeref)...))
	if got, _ := text(t, ehFrame(&s)); got != "0: signal\n11: none" {
		t.Error(got)
	}
	s.fde(s.cie("zR", zR, nil), textAddr+0x10, 0x10, nil)
	if got, _ := text(t, ehFrame(&s)); got != "0: signal\n10: CFA=SP+8\n20: none" {
		t.Error(got)
	}
}

func TestOverlaps(t *testing.T) {
	s := section{addr: frameAddr}
	c := s.cie("zR", zR, nil)
	cfa := func(n uint64) bytecode { return bytecode{}.cfaOffset(n) }
	s.fde(c, textAddr+0x100, 0x20, cfa(16)) // out of order
	s.fde(c, textAddr+0x40, 0x40, cfa(24))
	s.fde(c, textAddr+0x50, 0x10, cfa(32))   // inside of the one before
	s.fde(c, textAddr+0x100, 0x30, cfa(40))  // at the same address, longer
	s.fde(c, textAddr+0x100, 0x30, cfa(48))  // the same again
	s.fde(c, textAddr+0x130, 0x10, cfa(40))  // neighbor with the same rule
	s.fde(c, textAddr+0xff0, 0x100, cfa(56)) // over the segment's end
	s.fde(c, 0, 0x10, cfa(64))               // thrown away by the linker
	s.fde(c, textAddr+0x200, 0, cfa(64))     // empty
	got, stats := text(t, ehFrame(&s))
	want := lines("0: none", "40: CFA=SP+24", "50: CFA=SP+32", "60: none", "100: CFA=SP+40", "140: none", "ff0: CFA=SP+56")
	if got != want || stats.Functions != 7 {
		t.Errorf("%+v\n%s\nwant\n%s", stats, got, want)
	}
}

// The same function in every form of record.
func TestForms(t *testing.T) {
	want := lines("0: none", "10: CFA=SP+16", "20: none")
	code := bytecode{}.cfaOffset(16)
	check := func(name string, parts ...part) {
		t.Helper()
		if got, stats := text(t, parts...); got != want || len(stats.Unexpressed) > 0 {
			t.Errorf("%s: %+v\n%s", name, stats, got)
		}
	}
	for _, wide := range []bool{false, true} {
		s := section{addr: frameAddr, wide: wide}
		s.fde(s.cie("zPLR", bytecode{}.u8(encodingIndirect|encodingPC|encodingS4).u32(77).u8(encodingPC|encodingS4, zR[0]), nil), textAddr+0x10, 0x10, code)
		check(fmt.Sprintf("personality, wide %v", wide), ehFrame(&s))
	}
	s := section{addr: frameAddr}
	s.b = s.b.u32(0)
	c := s.cie("zR", zR, nil)
	s.b = s.b.u32(0) // left by ld -r
	s.fde(c, textAddr+0x10, 0x10, code)
	s.b = s.b.u32(0)
	check("zeros in the middle", ehFrame(&s))

	for enc, field := range map[uint8]bytecode{
		encodingAbsolute:                   bytecode{}.u64(textAddr + 0x10).u64(0x10),
		encodingULEB:                       bytecode{}.uleb(textAddr + 0x10).uleb(0x10),
		encodingU2:                         bytecode{}.u8(0x10, 0x10, 0x10, 0),
		encodingU4:                         bytecode{}.u32(textAddr + 0x10).u32(0x10),
		encodingSLEB:                       bytecode{}.sleb(textAddr + 0x10).sleb(0x10),
		encodingS2:                         bytecode{}.u8(0x10, 0x10, 0x10, 0),
		encodingS8:                         bytecode{}.u64(textAddr + 0x10).u64(0x10),
		encodingText | encodingS4:          bytecode{}.u32(0x10).u32(0x10),
		encodingData | encodingS4:          bytecode{}.u32(^uint32(0x3000-textAddr-0x10) + 1).u32(0x10),
		encodingAligned | encodingAbsolute: nil,
	} {
		s := section{addr: frameAddr}
		c := s.cie("zR", []byte{enc}, nil)
		if enc&0x70 == encodingAligned {
			field = make(bytecode, -(len(s.b)+8)&7).u64(textAddr + 0x10).u64(0x10)
		}
		s.record(s.id(false, c).join(field).uleb(0).join(code))
		check(fmt.Sprintf("encoding %#x", enc), ehFrame(&s),
			part{name: ".text", addr: textAddr, code: true}, part{name: ".got", addr: 0x3000})
	}

	for _, wide := range []bool{false, true} {
		d := section{debug: true, wide: wide}
		d.record(d.id(true, 0).u8(4, 0, 8, 0).uleb(1).sleb(-8).uleb(16).defCFA(7, 8).saved(16, 1))
		d.record(d.id(false, 0).u64(textAddr + 0x10).u64(0x10).join(code))
		check("debug_frame", part{name: ".debug_frame", b: d.b})
		var z bytes.Buffer
		w := zlib.NewWriter(&z)
		w.Write(d.b)
		w.Close()
		head := bytecode{}.u32(uint32(elf.COMPRESS_ZLIB)).u32(0).u64(uint64(len(d.b))).u64(8)
		check("compressed", part{name: ".debug_frame", flags: elf.SHF_COMPRESSED, b: head.join(z.Bytes())})
	}
}

// What cannot be read is counted, and costs nothing but itself.
func TestUnreadable(t *testing.T) {
	good := func(s *section) { s.fde(s.cie("zR", zR, nil), textAddr, 0x10, nil) }
	for _, c := range []struct {
		name string
		make func(s *section)
		want Reason
		more string
	}{
		{"indirect address", func(s *section) { s.fde(s.cie("zR", []byte{encodingIndirect | zR[0]}, nil), textAddr+0x20, 16, nil) }, ReasonEncoding, ""},
		{"unknown letter", func(s *section) { s.fde(s.cie("zRX", zR, nil), textAddr+0x20, 16, nil) }, ReasonEncoding, ""},
		{"no z", func(s *section) { s.fde(s.cie("R", nil, nil), textAddr+0x20, 16, nil) }, ReasonEncoding, ""},
		{"CIE that advances", func(s *section) { s.fde(s.cie("zR", zR, bytecode{}.advance(1)), textAddr+0x20, 16, nil) }, ReasonMalformed, "20: invalid\n30: none"},
		{"no such CIE", func(s *section) { s.fde(0x1000000, textAddr+0x20, 16, nil) }, ReasonMalformed, ""},
		{"record of nothing", func(s *section) { s.b = s.b.u32(2).u8(0, 0) }, ReasonMalformed, ""},
	} {
		s := section{addr: frameAddr}
		c.make(&s)
		good(&s)
		want := lines("0: CFA=SP+8", "10: none")
		if c.more != "" {
			want += "\n" + c.more
		}
		if got, stats := text(t, ehFrame(&s)); got != want || stats.Unexpressed[c.want] != 1 {
			t.Errorf("%s: %+v\n%s", c.name, stats, got)
		}
	}
	s := section{addr: frameAddr}
	good(&s)
	s.b = s.b.u32(0x7fffffff)
	if got, stats := text(t, ehFrame(&s)); got != "0: CFA=SP+8\n10: none" || stats.Unexpressed[ReasonMalformed] != 1 {
		t.Errorf("record longer than its section: %+v\n%s", stats, got)
	}
}

// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"debug/elf"
	"testing"
	"time"
	"unsafe"
)

func TestRowSize(t *testing.T) {
	if s := unsafe.Sizeof(Row{}); s != 8 {
		t.Errorf("a row has %d bytes, the kernel side's has 8", s)
	}
}

// check asserts what a Table promises.
func check(t *testing.T, parts ...part) {
	for _, m := range []elf.Machine{elf.EM_X86_64, elf.EM_AARCH64} {
		o := build(t, m, parts...)
		tables, stats, err := Build(o)
		if err != nil {
			return
		}
		if stats.Rows > Bound(o) {
			t.Errorf("%d rows, the bound is %d", stats.Rows, Bound(o))
		}
		for i := range tables {
			tb := &tables[i]
			if len(tb.Rows) == 0 || tb.Rows[0].Addr != 0 {
				t.Fatalf("the first row is not at 0: %v", tb.Rows)
			}
			for k, r := range tb.Rows {
				if k > 0 && (r.Addr <= tb.Rows[k-1].Addr || r.Rule == tb.Rows[k-1].Rule) {
					t.Fatalf("rows %v", tb.Rows[k-1:k+1])
				}
				if uint64(r.Addr) >= uint64(tb.Limit-tb.Base) || r.Rule.Op() > OpRecordBP {
					t.Fatalf("row %v in %v to %v", r, tb.Base, tb.Limit)
				}
				r.Rule.Text(m)
			}
		}
	}
}

// seeds are sections of every form.
func seeds() [][]byte {
	var all [][]byte
	for _, wide := range []bool{false, true} {
		s := section{addr: frameAddr, wide: wide}
		c := s.cie("zPLR", bytecode{}.u8(encodingIndirect|encodingPC|encodingS4).u32(77).u8(encodingPC|encodingS4, zR[0]), nil)
		s.fde(c, textAddr+0x10, 0x40, bytecode{}.advance(1).cfaOffset(16).saved(rbp, 2).u8(opRememberState).advance(3).cfaRegister(rbp).u8(opRestoreState))
		s.fde(s.cie("zRS", zR, nil), textAddr+0x80, 0x40, bytecode{}.expression(opDefCFAExpression, -1, pltExpression...).advance(9).
			expression(opDefCFAExpression, -1, exprBreg0+rsp, 24, exprDeref, exprPlusConst, 8).expression(opExpression, rbp, exprBreg0+rbp, 0))
		all = append(all, s.b)
		d := section{debug: true, wide: wide}
		d.record(d.id(true, 0).u8(4, 0, 8, 0).uleb(1).sleb(-8).uleb(16).defCFA(7, 8).saved(16, 1))
		d.record(d.id(false, 0).u64(textAddr + 0x10).u64(0x10).cfaOffset(16))
		all = append(all, d.b)
	}
	return all
}

func FuzzReader(f *testing.F) {
	for _, s := range seeds() {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		check(t, part{name: ".eh_frame", addr: frameAddr, b: b}, part{name: ".text", addr: textAddr, code: true, b: []byte{0x90}})
		check(t, part{name: ".debug_frame", b: b})
	})
}

// FuzzMachine runs any instructions, in a function that is described well.
func FuzzMachine(f *testing.F) {
	f.Add([]byte(bytecode{}.advance(1).cfaOffset(16).saved(rbp, 2).u8(opRememberState).advance(3).cfaRegister(rbp).u8(opRestoreState)))
	f.Add([]byte(bytecode{}.expression(opDefCFAExpression, -1, pltExpression...).u8(opSetLoc).u32(4)))
	f.Add([]byte(bytecode{}.expression(opDefCFAExpression, -1, exprBreg0+rsp, 24, exprDeref, exprPlusConst, 8).expression(opValExpression, rbp, exprBreg0+rbp, 0)))
	f.Fuzz(func(t *testing.T, code []byte) {
		s := section{addr: frameAddr}
		s.fde(s.cie("zR", zR, nil), textAddr+0x10, 0xf00, code)
		check(t, ehFrame(&s))
	})
}

// The worst files that we could think of take bounded time, which is logged
// and not judged.
func TestHostile(t *testing.T) {
	begin := time.Now()
	measure := func(name string, parts ...part) {
		check(t, parts...)
		t.Logf("%s: %v", name, time.Since(begin))
		begin = time.Now()
	}
	const size = 4 << 20
	measure("zeros", part{name: ".eh_frame", addr: frameAddr, b: make([]byte, size)})
	s := section{addr: frameAddr}
	for c := 0; len(s.b) < size; { // CIEs, all different, and functions at one address
		c = s.cie("zR", zR, bytecode{}.cfaOffset(uint64(len(s.b))))
		s.fde(c, textAddr, 0x1000, nil)
	}
	measure("CIEs", ehFrame(&s))
	s = section{addr: frameAddr}
	c := s.cie("zR", zR, nil)
	for i := uint64(0); len(s.b) < size; i++ { // backwards, all overlapping
		s.fde(c, textAddr+0xfff-i%0xfff, 0x1000, bytecode{}.cfaOffset(8*(i%99)).advance(1).cfaOffset(8))
	}
	measure("overlaps", ehFrame(&s))
	s = section{addr: frameAddr}
	c = s.cie("zR", zR, nil)
	for len(s.b) < size { // the most rows from the fewest bytes
		var code bytecode
		for i := range 0xf00 {
			code = code.u8(opAdvanceLoc|1, opDefCFAOffset, uint8(8+i%2*8))
		}
		s.fde(c, textAddr, 0x1000, code)
	}
	measure("rows", ehFrame(&s))
	s = section{addr: frameAddr}
	c = s.cie("zR", zR, nil)
	for i := uint64(0); i < textSize; i += 4 { // each with a gap behind it
		s.fde(c, textAddr+i, 3, bytecode{}.advance(1).cfaOffset(16).advance(1).cfaOffset(24))
	}
	measure("gaps", ehFrame(&s))
	s = section{addr: frameAddr}
	c = s.cie("zR", zR, nil)
	e := append([]byte(nil), pltExpression...)
	e[pltLiteral] = exprLit0 + 9
	for len(s.b) < size { // stubs that become many rows
		s.fde(c, textAddr, 0x1000, bytecode{}.expression(opDefCFAExpression, -1, e...))
	}
	measure("stubs", ehFrame(&s))
}

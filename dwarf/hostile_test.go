// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"compress/zlib"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/carverauto/serviceradar-profiler/object"
)

func deflate(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// zstdFrame compresses in one go, as linkers do.
func zstdFrame(t testing.TB, b []byte) []byte {
	t.Helper()
	w, err := zstd.NewWriter(nil, zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	return w.EncodeAll(b, nil)
}

// compressedPart is a section compressed by zlib, zstandard, or as GNU's tools
// once did it.
func compressedPart(name string, how uint8, content []byte, size uint64) part {
	if how == 2 {
		return part{".zdebug_" + name, 0, append(binary.BigEndian.AppendUint64([]byte("ZLIB"), size), content...)}
	}
	h := make([]byte, chdrSize)
	le.PutUint32(h, []uint32{uint32(elf.COMPRESS_ZLIB), zstandard}[how])
	le.PutUint64(h[8:], size)
	return part{".debug_" + name, elf.SHF_COMPRESSED, append(h, content...)}
}

// A section that is compressed reads as it was, in whatever order.
func TestInflate(t *testing.T) {
	content := make([]byte, 10<<20) // zstandard's window is smaller
	for i := range content {
		content[i] = byte(i>>3 ^ i>>11)
	}
	for how, compressed := range [][]byte{deflate(t, content), zstdFrame(t, content), deflate(t, content)} {
		p := compressedPart("info", uint8(how), compressed, uint64(len(content)))
		image := assembleELF([]part{p})
		o, err := object.New(bytes.NewReader(image), int64(len(image)))
		if err != nil {
			t.Fatal(err)
		}
		d := &Data{budget: budget{maxWork}}
		f, err := d.open(o, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, off := range []int64{5 << 20, 0, 9 << 20, 1 << 20, 10<<20 - 100} {
			got := f.info.at(off, 100)
			if !bytes.Equal(got, content[off:off+100]) {
				t.Errorf("%s at %d: % x, %v", p.name, off, got, f.info.err)
			}
		}
		if got := f.info.at(10<<20-10, 100); len(got) != 10 || f.info.err != nil {
			t.Errorf("%s at its end: %d bytes, %v", p.name, len(got), f.info.err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A bomb is refused, as is one that lies about its size.
func TestBomb(t *testing.T) {
	zeros := deflate(t, make([]byte, 20<<20))
	for _, p := range []part{
		compressedPart("info", 0, zeros, 20<<20), // shrunk to a thousandth
		compressedPart("info", 0, zeros, 1<<40),
		compressedPart("info", 1, zeros, 1<<20), // not zstandard
		compressedPart("info", 0, deflate(t, []byte("x")), 400),
		{".debug_info", elf.SHF_COMPRESSED, make([]byte, chdrSize)},
		{".debug_info", elf.SHF_COMPRESSED, make([]byte, 3)},
		{".zdebug_info", 0, []byte("ZLIB")},
	} {
		image := assembleELF([]part{p, {name: ".debug_abbrev", data: []byte{1, tagCompileUnit, 0, 0, 0, 0}}})
		if _, err := exercise(t, image, Options{}); err == nil || errors.Is(err, ErrNone) {
			t.Errorf("%s of %d bytes: %v", p.name, len(p.data), err)
		}
	}
}

// uleb appends an unsigned LEB128.
func uleb(b []byte, values ...uint64) []byte {
	for _, v := range values {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

// unitOf wraps entries into a unit of DWARF 4.
func unitOf(entries []byte) []byte {
	b := le.AppendUint32(nil, uint32(7+len(entries)))
	b = le.AppendUint16(b, 4)
	b = le.AppendUint32(b, 0)
	return append(append(b, 8), entries...)
}

// Abbreviations of the units below.
const (
	abbrevUnit     = 1 // low_pc, high_pc
	abbrevFunction = 2 // low_pc, high_pc, abstract_origin
	abbrevInlined  = 3 // low_pc, high_pc, abstract_origin, call_line
	abbrevListed   = 4 // a function: ranges
	abbrevNoCode   = 5 // a function: name, specification
	abbrevSkip     = 6 // a namespace: sibling
)

func hostileAbbrevs() []byte {
	var b []byte
	add := func(code, tag uint64, attrs ...uint64) {
		b = append(uleb(b, code, tag), 1)
		b = uleb(b, append(attrs, 0, 0)...)
	}
	add(abbrevUnit, tagCompileUnit, attrLowPC, formAddr, attrHighPC, formData8)
	add(abbrevFunction, tagSubprogram, attrLowPC, formAddr, attrHighPC, formData8, attrAbstractOrigin, formRef4)
	add(abbrevInlined, tagInlinedSubroutine, attrLowPC, formAddr, attrHighPC, formData8, attrAbstractOrigin, formRef4, attrCallLine, formUdata)
	add(abbrevListed, tagSubprogram, attrRanges, formSecOffset)
	add(abbrevNoCode, tagSubprogram, attrName, formString, attrSpecification, formRef4)
	add(abbrevSkip, tagNamespace, attrSibling, formRef4)
	return append(b, 0)
}

// code is an entry with all probes but the last in it.
func code(b []byte, abbrev uint64, origin uint32) []byte {
	b = le.AppendUint64(uleb(b, abbrev), 0)
	b = le.AppendUint64(b, 1<<41)
	if abbrev == abbrevUnit {
		return b
	}
	return le.AppendUint32(b, origin)
}

const firstEntry = 11 // in a unit of DWARF 4

// What is crafted to take forever, or all memory, costs a bounded amount.
func TestHostile(t *testing.T) {
	root := code(nil, abbrevUnit, 0)
	function := func(b []byte, origin uint32) []byte { return code(b, abbrevFunction, origin) }
	at := func(b []byte) uint32 { return firstEntry + uint32(len(b)) }

	round := append([]byte(nil), root...) // a function that is its own origin
	round = function(round, at(round))

	two := append([]byte(nil), root...) // two declarations that specify each other
	two = append(uleb(two, abbrevNoCode), "\x00"...)
	two = append(le.AppendUint32(two, at(two)+5), 0)
	two = append(uleb(two, abbrevNoCode), "\x00"...)
	two = append(le.AppendUint32(two, firstEntry+uint32(len(root))), 0)
	two = function(two, firstEntry+uint32(len(root)))

	deep := function(append([]byte(nil), root...), 0)
	for range 2000 {
		deep = uleb(code(deep, abbrevInlined, 0), 1)
	}

	back := append([]byte(nil), root...) // a sibling before itself
	back = le.AppendUint32(uleb(back, abbrevSkip), firstEntry)

	var ranges []byte
	for range 1 << 16 {
		ranges = le.AppendUint64(le.AppendUint64(ranges, 1), 2)
	}
	listed := append([]byte(nil), root...) // each function with all ranges
	for range 1 << 14 {
		listed = append(le.AppendUint32(uleb(listed, abbrevListed), 0), 0)
	}

	for _, x := range []struct {
		name    string
		entries []byte
		err     error
		calls   int // at the second probe, 0 for any
	}{
		{"origin of itself", round, nil, 1},
		{"specifications of each other", two, nil, 1},
		{"deep", deep, ErrFormat, 0},
		{"backwards", back, nil, 0},
		{"ranges again and again", listed, ErrBudget, 0},
	} {
		t.Run(x.name, func(t *testing.T) {
			image := assembleELF([]part{{name: ".debug_info", data: unitOf(x.entries)}, {name: ".debug_abbrev", data: hostileAbbrevs()},
				{name: ".debug_ranges", data: ranges}})
			calls, err := exercise(t, image, Options{})
			if !errors.Is(err, x.err) {
				t.Errorf("%v, want %v", err, x.err)
			}
			if x.calls > 0 && len(calls[1]) != x.calls {
				t.Errorf("%v, want %d calls", calls[1], x.calls)
			}
		})
	}
}

// A file that cannot be read further gives what was found, and an error.
func TestUnreadable(t *testing.T) {
	entries := code(code(nil, abbrevUnit, 0), abbrevFunction, 0)
	image := assembleELF([]part{{name: ".debug_info", data: append(unitOf(entries), 0xff, 0xff, 0)}, {name: ".debug_abbrev", data: hostileAbbrevs()}})
	calls, err := exercise(t, image, Options{})
	if !errors.Is(err, ErrFormat) || len(calls[1]) != 1 {
		t.Errorf("%v, %v", calls[1], err)
	}
	r := &disk{ReaderAt: bytes.NewReader(image)}
	o, err := object.New(r, int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	d, err := Open(o, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	r.broken = true
	if err := d.Find(probes, func(i int, c []Call) { t.Error(i, c) }); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

// disk is a file that can become unreadable.
type disk struct {
	io.ReaderAt
	broken bool
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	if d.broken {
		return 0, io.ErrNoProgress
	}
	return d.ReaderAt.ReadAt(p, off)
}

// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"cmp"
	"io"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
)

// Call frame information is a sequence of records (DWARF 5 section 6.4.1; LSB
// Core section 10.6.1 for .eh_frame): a CIE has what many functions share, an
// FDE is one function and names its CIE.
//
// The sequence is read once, in order, through a window, so that a section
// costs no memory. The price: an FDE may only name a CIE before it. All
// assemblers and linkers write them in that order, and .eh_frame cannot even
// say otherwise with small numbers.

// stream is a window over a source.
type stream struct {
	r    io.Reader
	b    []byte
	at   int64 // offset in the source of b[0]
	pos  int   // in b: what was used so far
	have int   // in b: what was read so far
	end  bool
}

const windowSize = 128 << 10

// need makes n bytes available at pos; false if the source has no more.
func (s *stream) need(n int) (bool, error) {
	if s.have-s.pos >= n {
		return true, nil
	}
	s.at += int64(s.pos)
	if n > len(s.b) {
		grown := make([]byte, n+windowSize)
		s.have = copy(grown, s.b[s.pos:s.have])
		s.b = grown
	} else {
		s.have = copy(s.b, s.b[s.pos:s.have])
	}
	s.pos = 0
	for !s.end && s.have < n {
		k, err := s.r.Read(s.b[s.have:])
		s.have += k
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			s.end = true
		} else if err != nil {
			return false, err
		}
	}
	return s.have >= n, nil
}

// skip goes n bytes forward.
func (s *stream) skip(n int64) error {
	if inside := int64(s.have - s.pos); n > inside {
		k, err := io.CopyN(io.Discard, s.r, n-inside)
		s.at, s.pos, s.have = s.at+int64(s.have)+k, 0, 0
		if err == io.EOF {
			s.end, err = true, nil
		}
		return err
	}
	s.pos += int(n)
	return nil
}

// cie is what of a CIE matters, its instructions already run. Equal ones are
// kept once.
type cie struct {
	initial    state
	codeAlign  uint64
	dataAlign  int64
	encoding   uint8  // of addresses
	augmented  bool   // FDEs have augmentation data
	signal     bool   // FDEs are of frames that were interrupted
	unreadable Reason // nothing can be known of its FDEs, not even where they are
	bad        Reason // their rules cannot be known
}

type cieRef struct {
	off   int64
	shape int32
}

// frames reads one source.
type frames struct {
	*builder
	src    *source
	refs   []cieRef // sorted, since they come in order
	shapes []cie
	last   cieRef // looked up; shape −1 if none was
}

// read takes in all records of a source.
func (b *builder) read(src *source) error {
	r, err := src.open()
	if err != nil {
		return err
	}
	if b.window == nil {
		b.window = make([]byte, windowSize)
	}
	s := stream{r: io.LimitReader(r, maxSource), b: b.window}
	if src.size > maxSource {
		b.unexpressed[ReasonLimit]++
	}
	f := frames{builder: b, src: src, last: cieRef{shape: -1}}
	first := b.functions
	for !b.overflow {
		if ok, err := s.need(4); !ok || err != nil {
			return err
		}
		head, length := 4, uint64(le.Uint32(s.b[s.pos:]))
		if length == 0 {
			if b.functions-first >= src.functions {
				return nil
			}
			s.pos += 4
			continue
		}
		if length == 0xffffffff { // 64-bit format, DWARF 5 section 7.4
			if ok, err := s.need(12); !ok || err != nil {
				return err
			}
			head, length = 12, le.Uint64(s.b[s.pos+4:])
		}
		if length > maxRecord {
			b.unexpressed[ReasonMalformed]++
			if length > uint64(src.size) {
				return nil // not the sequence it should be
			}
			if err := s.skip(int64(head) + int64(length)); err != nil {
				return err
			}
			continue
		}
		if ok, err := s.need(head + int(length)); err != nil {
			return err
		} else if !ok {
			b.unexpressed[ReasonMalformed]++
			return nil
		}
		f.record(s.b[s.pos:s.pos+head+int(length)], head, s.at+int64(s.pos))
		s.pos += head + int(length)
	}
	return nil
}

// record reads a CIE or an FDE: all of its bytes, how many of them are the
// length, and the offset of the first.
func (f *frames) record(b []byte, head int, off int64) {
	c := object.Cursor{B: b, Pos: head}
	field := off + int64(head)
	var id uint64
	isCIE := false
	if wide := head == 12; wide && f.src.debug {
		id = c.U64()
		isCIE = id == ^uint64(0)
	} else {
		id = uint64(c.U32()) // 4 bytes in .eh_frame, whatever the length's format
		isCIE = id == 0
		if f.src.debug {
			isCIE = id == 0xffffffff
		}
	}
	if c.Bad {
		f.unexpressed[ReasonMalformed]++
		return
	}
	if isCIE {
		f.keep(off, f.cie(&c, off))
		return
	}
	at := int64(id)
	if !f.src.debug {
		at = field - int64(id)
	}
	if e := f.find(at); e != nil {
		f.function(&c, e, off)
	} else {
		f.unexpressed[ReasonMalformed]++
	}
}

func (f *frames) keep(off int64, e cie) {
	if len(f.refs) >= maxCIEs || len(f.shapes) >= maxShapes {
		f.unexpressed[ReasonLimit]++
		return
	}
	// Compilation units of one program differ little: look among the last few.
	for i := len(f.shapes) - 1; i >= max(0, len(f.shapes)-8); i-- {
		if f.shapes[i] == e {
			f.refs = append(f.refs, cieRef{off, int32(i)})
			return
		}
	}
	f.shapes = append(f.shapes, e)
	f.refs = append(f.refs, cieRef{off, int32(len(f.shapes) - 1)})
}

func (f *frames) find(off int64) *cie {
	if off != f.last.off || f.last.shape < 0 {
		i, ok := slices.BinarySearchFunc(f.refs, off, func(r cieRef, off int64) int { return cmp.Compare(r.off, off) })
		if !ok {
			return nil
		}
		f.last = f.refs[i]
	}
	return &f.shapes[f.last.shape]
}

// cie reads a CIE after its ID.
func (f *frames) cie(c *object.Cursor, off int64) cie {
	var e cie
	version := c.U8()
	augmentation := c.Text()
	if version == 4 { // sizes of addresses and segment selectors
		if size, selector := c.U8(), c.U8(); size != 8 || selector != 0 {
			e.unreadable = ReasonEncoding
			return e
		}
	} else if version != 1 && version != 3 {
		e.unreadable = ReasonEncoding
		return e
	}
	if bytes.Equal(augmentation, []byte("eh")) { // g++ 2: a pointer of its own
		c.U64()
		augmentation = nil
	}
	e.codeAlign, e.dataAlign = c.ULEB(), c.SLEB()
	var ra uint64
	if version == 1 {
		ra = uint64(c.U8())
	} else {
		ra = c.ULEB()
	}
	if ra != uint64(f.arch.ra) {
		e.bad = ReasonReturn
	}
	if len(augmentation) > 0 && !f.augmentation(c, augmentation, &e, off) {
		e.unreadable = ReasonEncoding
	}
	if c.Bad {
		e.unreadable = ReasonMalformed
	}
	if e.unreadable == 0 && e.bad == 0 {
		e.initial, e.bad = f.machine.initial(&e, c.B[c.Pos:])
	}
	if e.unreadable != 0 || e.bad != 0 {
		e = cie{codeAlign: e.codeAlign, encoding: e.encoding, augmented: e.augmented, unreadable: e.unreadable, bad: e.bad}
	}
	return e
}

// augmentation reads what the letters of the augmentation string say (LSB Core
// section 10.6.1.1.1); false if there is one that we do not know, because then
// it is not known what the others mean.
func (f *frames) augmentation(c *object.Cursor, letters []byte, e *cie, off int64) bool {
	if letters[0] != 'z' {
		return false
	}
	e.augmented = true
	size := c.ULEB()
	if size > uint64(len(c.B)-c.Pos) {
		return false
	}
	end := c.Pos + int(size)
	for _, l := range letters[1:] {
		switch l {
		case 'R':
			e.encoding = c.U8()
		case 'L':
			c.U8()
		case 'P': // the personality routine; of no interest, but what follows it is
			if enc := c.U8(); enc != encodingOmit {
				if _, ok := f.src.pointer(c, enc&^encodingIndirect, off, 0); !ok {
					return false
				}
			}
		case 'S':
			e.signal = true
		case 'B', 'G': // arm64: signed with the B key; with memory tags
		default:
			return false
		}
	}
	if c.Pos > end {
		return false
	}
	c.Pos = end
	return true
}

// function reads an FDE after its CIE pointer.
func (f *frames) function(c *object.Cursor, e *cie, off int64) {
	if e.unreadable != 0 {
		f.unexpressed[e.unreadable]++
		return
	}
	start, ok := f.src.pointer(c, e.encoding, off, 0)
	size, _ := f.src.pointer(c, e.encoding&0x0f, off, 0)
	if !ok || c.Bad {
		f.unexpressed[ReasonEncoding]++
		return
	}
	if e.augmented {
		c.Take(c.ULEB())
	}
	if c.Bad {
		f.unexpressed[ReasonMalformed]++
		return
	}
	f.add(e, start, size, c.B[c.Pos:], f.src, off+int64(c.Pos))
}

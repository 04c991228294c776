// SPDX-License-Identifier: Apache-2.0

package dwarf

import (
	"bytes"
	"fmt"
	"io"
	"math"

	"github.com/carverauto/serviceradar-profiler/object"
)

// section is a section of debug information, or the part of one that a
// package gives to a unit. Its content stays where it is: small reads go
// through a window, large ones fill a buffer of the caller's. A section that is
// not there is empty.
type section struct {
	name   string
	source io.ReaderAt
	start  int64
	size   int64

	window   []byte
	windowAt int64
	err      error // the first of reading, not of reading beyond the end
}

// windowSize is how much is read for a small read: neighbors are mostly wanted
// next. Strings are not, hence not more.
const windowSize = 4 << 10

// maxString bounds names and paths, in bytes: a longer one is cut.
const maxString = 8 << 10

// at returns n bytes at an offset, or as many as there are. They are valid
// until the next call.
func (s *section) at(off int64, n int) []byte {
	if s == nil || off < 0 || off >= s.size {
		return nil
	}
	n = int(min(int64(n), s.size-off))
	if off >= s.windowAt && off-s.windowAt+int64(n) <= int64(len(s.window)) {
		at := int(off - s.windowAt)
		return s.window[at : at+n]
	}
	want := int(min(int64(max(n, windowSize)), s.size-off))
	if cap(s.window) < want {
		s.window = make([]byte, want)
	}
	s.window, s.windowAt = s.window[:want], off
	got := s.read(s.window, off)
	s.window = s.window[:got]
	return s.window[:min(n, got)]
}

// read fills p from an offset and returns how much there was.
func (s *section) read(p []byte, off int64) int {
	if s == nil || off < 0 || off >= s.size {
		return 0
	}
	p = p[:min(int64(len(p)), s.size-off)]
	n, err := s.source.ReadAt(p, s.start+off)
	if n < len(p) && s.err == nil {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		s.err = fmt.Errorf("read %s: %w", s.name, err)
	}
	return n
}

// load fills buffer, which grows as needed, with n bytes at an offset.
func (s *section) load(buffer *[]byte, off, n, limit int64) ([]byte, error) {
	if s == nil || off < 0 || n < 0 || off > s.size || n > s.size-off {
		return nil, fmt.Errorf("%d bytes at %#x of %s, beyond its end: %w", n, off, s.title(), ErrFormat)
	}
	if n > limit {
		return nil, fmt.Errorf("%d bytes at %#x of %s in one piece, more than %d: %w", n, off, s.title(), limit, ErrFormat)
	}
	if int64(cap(*buffer)) < n {
		*buffer = make([]byte, n)
	}
	b := (*buffer)[:n]
	if s.read(b, off) < len(b) {
		return nil, s.err
	}
	return b, nil
}

// What is held of one unit, and of one line program, in bytes. The largest
// units of browsers and compilers have some 20 MB.
const (
	maxUnit  = 32 << 20
	maxLines = 16 << 20
)

func (s *section) title() string {
	if s == nil {
		return "a missing section"
	}
	return s.name
}

// text returns the string at an offset; "" if there is none.
func (s *section) text(off uint64) string {
	if off > math.MaxInt64 {
		return ""
	}
	for n := 128; ; n *= 8 { // most are short
		b := s.at(int64(off), min(n, maxString))
		if end := bytes.IndexByte(b, 0); end >= 0 {
			return string(b[:end])
		}
		if n >= maxString || len(b) < n {
			return string(b)
		}
	}
}

// uint reads a number of n bytes at an offset; false if it is not there.
func (s *section) uint(off uint64, n int) (uint64, bool) {
	if off > math.MaxInt64 {
		return 0, false
	}
	c := cursor{B: s.at(int64(off), n)}
	v := c.Uint(n)
	return v, !c.Bad
}

func plain(s *object.Section) *section {
	return &section{name: s.Name, source: s, size: s.FileSize}
}

// part is what lies at [off, off+size) as a section of its own.
func (s *section) part(off, size uint64) *section {
	if s == nil || off > uint64(s.size) || size > uint64(s.size)-off {
		return nil
	}
	return &section{name: s.name, source: s.source, start: s.start + int64(off), size: int64(size)}
}

// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"cmp"
	"debug/elf"
	"slices"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// A signal handler returns to code of a few bytes, the restorer, that makes the
// system call rt_sigreturn. glibc describes its own; those of musl and Go have
// no description, and without one nothing that a signal interrupted could be
// seen. But there is no other reason for that system call, so the code itself
// says what it is.

var (
	amd64Restorer = []byte{0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05}    // mov $15, %rax; syscall
	arm64Restorer = []byte{0x68, 0x11, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4} // mov x8, #139; svc #0
)

const (
	// minRestorerGap is the least undescribed code that is searched. C
	// libraries without descriptions, and Go's code, are one big gap; between
	// described functions are but a few bytes of padding.
	minRestorerGap = 256
	maxRestorers   = 8
	maxSearched    = 256 << 20 // bytes of code
)

// addRestorers adds rows for restorers in code that nobody described.
func (b *builder) addRestorers(f *object.File) {
	pattern := amd64Restorer
	if f.Machine() == elf.EM_AARCH64 {
		pattern = arm64Restorer
	}
	found, searched := 0, uint64(0)
	for _, gap := range b.gaps(minRestorerGap) {
		s := &b.segments[gap.segment]
		if searched += uint64(gap.limit - gap.start); searched > maxSearched {
			b.unexpressed[ReasonLimit]++
			return
		}
		b.search(f, s, gap, pattern, func(at uint32) {
			if found++; found > maxRestorers || b.full() {
				return
			}
			b.restorers = append(b.restorers, s.base+uint64(at))
			// The handler's return address is the first byte, and is looked up
			// one byte earlier.
			b.spans = append(b.spans, span{
				key: uint64(s.index)<<32 | uint64(max(at, 1)-1), limit: at + uint32(len(pattern)),
				first: uint32(len(b.rows)), count: 1,
			})
			b.rows = append(b.rows, Row{max(at, 1) - 1, Rule(OpSignal)})
		})
	}
}

// gap is code that nobody described.
type gap struct{ segment, start, limit uint32 }

// gaps returns those of at least so many bytes, by address.
func (b *builder) gaps(least uint32) []gap {
	slices.SortFunc(b.spans, func(a, b span) int { return cmp.Compare(a.key, b.key) })
	var found []gap
	spans := b.spans
	for i := range b.segments {
		s := &b.segments[i]
		end := uint32(0)
		for len(spans) > 0 && spans[0].segment() == s.index {
			if start := spans[0].start(); start > end && start-end >= least {
				found = append(found, gap{s.index, end, start})
			}
			end = max(end, spans[0].limit)
			spans = spans[1:]
		}
		if limit := uint32(s.size); limit > end && limit-end >= least {
			found = append(found, gap{s.index, end, limit})
		}
	}
	return found
}

// search calls found with each place of the pattern in a gap, relative to the
// segment.
func (b *builder) search(f *object.File, s *segment, g gap, pattern []byte, found func(at uint32)) {
	if b.window == nil {
		b.window = make([]byte, windowSize)
	}
	for at := g.start; at < g.limit; {
		code := b.window[:min(uint32(len(b.window)), g.limit-at)]
		if f.ReadObj(code, profile.ObjAddr(s.base+uint64(at))) != nil {
			return // the rest of the segment is not in the file
		}
		for from := 0; ; {
			i := bytes.Index(code[from:], pattern)
			if i < 0 {
				break
			}
			found(at + uint32(from+i))
			from += i + len(pattern)
		}
		if at+uint32(len(code)) == g.limit {
			return
		}
		at += uint32(len(code) - len(pattern) + 1)
	}
}

// SPDX-License-Identifier: Apache-2.0

package process

import (
	"cmp"
	"fmt"
	"iter"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// errNoProcess is what reading a file below /proc/PID says once the process is gone.
const errNoProcess = syscall.ESRCH

// deletedMark is what the kernel appends to the path of a file without a name.
const deletedMark = " (deleted)"

// Device is the number of the file system a file is on, as maps print it.
type Device struct{ Major, Minor uint32 }

// Mapping is an executable mapping with what identifies its file. The path may
// lead to another file by now, or to none.
type Mapping struct {
	profile.Mapping
	Device  Device
	Inode   uint64
	Deleted bool
}

// ReadMaps reads the executable mappings of a process, by address.
func ReadMaps(pid int) ([]Mapping, error) {
	b, err := os.ReadFile(path(pid, "maps"))
	if err != nil {
		return nil, gone(err)
	}
	return ParseMaps(string(b))
}

// ParseMaps parses the text of /proc/PID/maps (proc(5)), keeping the
// executable mappings.
func ParseMaps(text string) ([]Mapping, error) {
	var ms []Mapping
	for line := range strings.Lines(text) {
		m, executable, err := parseMapsLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("parse maps: %w in %.200q", err, line)
		}
		if executable {
			ms = append(ms, m)
		}
	}
	return ms, nil
}

// parseMapsLine parses "start-limit perms offset major:minor inode  path".
func parseMapsLine(line string) (m Mapping, executable bool, err error) {
	var f [5]string
	rest := line
	for i := range f {
		f[i], rest, _ = strings.Cut(rest, " ")
	}
	hex := func(s string, bits int) uint64 {
		v, e := strconv.ParseUint(s, 16, bits)
		if e != nil && err == nil {
			err = e
		}
		return v
	}
	start, limit, _ := strings.Cut(f[0], "-")
	major, minor, _ := strings.Cut(f[3], ":")
	m.Start, m.Limit = profile.Addr(hex(start, 64)), profile.Addr(hex(limit, 64))
	m.Offset = int64(hex(f[2], 63))
	m.Device = Device{uint32(hex(major, 32)), uint32(hex(minor, 32))}
	if err != nil {
		return m, false, err
	}
	if m.Inode, err = strconv.ParseUint(f[4], 10, 64); err != nil {
		return m, false, err
	}
	m.SetPath(unescape(strings.TrimLeft(rest, " ")))
	return m, len(f[1]) >= 3 && f[1][2] == 'x', nil
}

// SetPath sets the path as the kernel writes it, and by it the kind: it tells apart files, the vDSO and code without a file.
func (m *Mapping) SetPath(p string) {
	m.Path, m.Deleted = strings.CutSuffix(p, deletedMark)
	switch {
	case m.Path == "[vdso]":
		m.Kind = profile.MappingVDSO
	case m.Inode == 0, !strings.HasPrefix(m.Path, "/"), strings.HasPrefix(m.Path, "/dev/zero"),
		strings.HasPrefix(m.Path, "/anon_hugepage"), strings.HasPrefix(m.Path, "/SYSV"):
		m.Kind = profile.MappingAnonymous
	default: // a memfd too: some programs run from one
		m.Kind = profile.MappingObject
	}
}

// unescape undoes the one escape of maps: a newline in a path is \012.
func unescape(p string) string { return strings.ReplaceAll(p, `\012`, "\n") }

// AddressSpace is the executable mappings of one process as they change:
// sorted by address, never overlapping. The zero value is empty. T is what its
// owner knows of a mapping.
type AddressSpace[T any] struct {
	mappings []SpaceMapping[T]
}

// SpaceMapping is a mapping and what the owner knows of it.
type SpaceMapping[T any] struct {
	Mapping
	Of T
}

// Replace takes over a fresh reading of all mappings. know says what the owner
// knows of each; old is the mapping that was at this place before, equal in
// every way, or nil.
func (s *AddressSpace[T]) Replace(ms []Mapping, know func(m *Mapping, old *SpaceMapping[T]) T) {
	fresh := make([]SpaceMapping[T], 0, len(ms))
	for i := range ms {
		old := s.Lookup(ms[i].Start)
		if old != nil && old.Mapping != ms[i] {
			old = nil
		}
		fresh = append(fresh, SpaceMapping[T]{ms[i], know(&ms[i], old)})
	}
	slices.SortFunc(fresh, func(a, b SpaceMapping[T]) int { return cmp.Compare(a.Start, b.Start) })
	s.mappings = fresh
}

// Insert puts m over whatever was mapped there before.
func (s *AddressSpace[T]) Insert(m Mapping, of T) {
	if m.Start >= m.Limit {
		return
	}
	kept := make([]SpaceMapping[T], 0, len(s.mappings)+2)
	for _, o := range s.mappings {
		if o.Limit <= m.Start || m.Limit <= o.Start {
			kept = append(kept, o)
			continue
		}
		if o.Start < m.Start {
			left := o
			left.Limit = m.Start
			kept = append(kept, left)
		}
		if m.Limit < o.Limit {
			right := o
			right.Offset += int64(m.Limit - o.Start)
			right.Start = m.Limit
			kept = append(kept, right)
		}
	}
	i := sort.Search(len(kept), func(i int) bool { return kept[i].Start >= m.Start })
	s.mappings = slices.Insert(kept, i, SpaceMapping[T]{m, of})
}

// Lookup returns the mapping that a lies in, or nil. The pointer is good until
// the next change.
func (s *AddressSpace[T]) Lookup(a profile.Addr) *SpaceMapping[T] {
	i := sort.Search(len(s.mappings), func(i int) bool { return a < s.mappings[i].Limit })
	if i < len(s.mappings) && s.mappings[i].Contains(a) {
		return &s.mappings[i]
	}
	return nil
}

// All yields the mappings by address. The pointers are good until the next
// change.
func (s *AddressSpace[T]) All() iter.Seq[*SpaceMapping[T]] {
	return func(yield func(*SpaceMapping[T]) bool) {
		for i := range s.mappings {
			if !yield(&s.mappings[i]) {
				return
			}
		}
	}
}

// Clone is the address space of a forked child.
func (s *AddressSpace[T]) Clone() *AddressSpace[T] {
	return &AddressSpace[T]{mappings: slices.Clone(s.mappings)}
}

// Len is the number of mappings.
func (s *AddressSpace[T]) Len() int { return len(s.mappings) }

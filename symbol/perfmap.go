// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// PerfMap is the list of names that a process writes of the code it makes,
// /tmp/perf-PID.map: one function a line,
//
//	7f144803cf40 180 JS:*fib /srv/fib.js:1:13
//
// its first address and its size, both in hex, and the name, which may contain
// spaces (the Linux kernel's tools/perf/Documentation/jit-interface.txt). There
// is no end to such a list while the process runs, and it is in no order but
// that of time: what was compiled again, or is now where something else was,
// is written again.
//
// So for each address the last line that covers it counts, and nothing but
// these lines is kept, by their offsets. When more addresses are asked for,
// the part that was read is read again, for them alone; what was added since
// is read for all. A line without its end is still being written: it is none.
type PerfMap struct {
	r    io.ReaderAt
	size func() (int64, error)

	known answers
	begin int64  // what comes before is too much
	read  int64  // up to here; the start of a line
	mark  []byte // what was before that: if it is something else now, the file was rewritten
}

// maxPerfMap is how much of the end of a map is read, in bytes: five million
// functions, and about a second.
const maxPerfMap = 512 << 20

// NewPerfMap is for a file of which size says how much there is at present.
func NewPerfMap(r io.ReaderAt, size func() (int64, error)) *PerfMap {
	return &PerfMap{r: r, size: size}
}

// Find is Source's. What an address was found to be may change with each call.
func (m *PerfMap) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	if len(addrs) == 0 {
		return nil
	}
	size, err := m.size()
	if err != nil {
		return fmt.Errorf("read perf map: %w", err)
	}
	if size < m.read || !m.marked() {
		m.known, m.read, m.mark, m.begin = answers{}, 0, nil, 0
	}
	err = m.update(addrs, size)
	scratch := make([]byte, maxName+maxEntry)
	var last written
	var name string
	for i, a := range addrs {
		w := m.known.of(a)
		if w.at == 0 {
			continue
		}
		if w != last {
			last, name = w, m.name(w, scratch)
		}
		if name != "" {
			found(i, Symbol{Name: name, Start: w.start, Limit: w.limit})
		}
	}
	if err != nil {
		return fmt.Errorf("read perf map: %w", err)
	}
	return nil
}

// update reads what is needed to know of addrs up to size.
func (m *PerfMap) update(addrs []profile.ObjAddr, size int64) error {
	if m.begin < size-maxPerfMap {
		m.begin = size - maxPerfMap
	}
	fresh := newLatest(m.known.missing(addrs))
	if len(fresh.addrs) > 0 {
		if _, err := m.scan(m.begin, m.read, fresh); err != nil {
			return err
		}
		m.known.insert(fresh)
	}
	grown := newLatest(m.known.addrs)
	end, err := m.scan(max(m.begin, m.read), size, grown)
	m.known.update(grown)
	if err != nil {
		return err
	}
	if m.read != end {
		m.read = end
		m.mark = make([]byte, min(end, 64))
		return readFull(m.r, m.mark, end-int64(len(m.mark)))
	}
	return nil
}

// marked says whether what was read last is still where it was.
func (m *PerfMap) marked() bool {
	now := make([]byte, len(m.mark))
	return readFull(m.r, now, m.read-int64(len(now))) == nil && bytes.Equal(now, m.mark)
}

// maxEntry is how long a line may be up to its name: two numbers, each with 0x,
// and some spaces.
const maxEntry = 64

// scan offers the lines in [from, to) to l and returns where the last one ended.
// Of lines that are longer than the buffer only the beginning is looked at.
func (m *PerfMap) scan(from, to int64, l *latest) (end int64, err error) {
	end = from
	if from >= to || len(l.addrs) == 0 {
		return from, nil
	}
	buffer := make([]byte, min(chunkSize, to-from+1)) // full only by a line that is too long
	kept := 0                                         // bytes of an unfinished line, at the start of the buffer
	skip := from > 0 && from == m.begin               // in the middle of a line
	for at := from; at < to; {
		n := int(min(int64(len(buffer)-kept), to-at))
		if err := readFull(m.r, buffer[kept:kept+n], at); err != nil {
			return end, err
		}
		b := buffer[:kept+n]
		line := at - int64(kept) // offset of b
		at += int64(n)
		for {
			n := bytes.IndexByte(b, '\n')
			if n < 0 {
				break
			}
			if !skip {
				offer(l, line, b[:n])
			}
			skip = false
			b = b[n+1:]
			line += int64(n) + 1
			end = line
		}
		if kept = copy(buffer, b); kept == len(buffer) {
			if !skip {
				offer(l, line, b)
			}
			kept, skip = 0, true
		}
	}
	return end, nil
}

func offer(l *latest, at int64, line []byte) {
	if start, limit, _, ok := perfMapEntry(line); ok {
		l.add(written{at + 1, start, limit})
	}
}

// name reads the name of an entry; "" if there is another one by now.
func (m *PerfMap) name(w written, scratch []byte) string {
	n, _ := m.r.ReadAt(scratch, w.at-1)
	line := scratch[:n]
	if end := bytes.IndexByte(line, '\n'); end >= 0 {
		line = line[:end]
	}
	start, limit, name, ok := perfMapEntry(line)
	if !ok || start != w.start || limit != w.limit {
		return ""
	}
	return string(name[:min(len(name), maxName)])
}

// perfMapEntry splits a line.
func perfMapEntry(line []byte) (start, limit profile.ObjAddr, name []byte, ok bool) {
	first, rest, ok := hexField(line)
	if !ok {
		return 0, 0, nil, false
	}
	size, name, ok := hexField(rest)
	if !ok || size == 0 || len(name) == 0 {
		return 0, 0, nil, false
	}
	start = profile.ObjAddr(first)
	if limit = start + profile.ObjAddr(size); limit < start {
		limit = noAddress
	}
	return start, limit, name, true
}

// hexField splits a number and the spaces after it off b, which may begin with
// 0x as some write it.
func hexField(b []byte) (v uint64, rest []byte, ok bool) {
	if len(b) > 2 && b[0] == '0' && b[1]|0x20 == 'x' {
		b = b[2:]
	}
	i := 0
	for ; i < len(b); i++ {
		c := b[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			if i == 0 || i > 16 || c != ' ' {
				return 0, nil, false
			}
			for i < len(b) && b[i] == ' ' {
				i++
			}
			return v, b[i:], true
		}
		v = v<<4 | uint64(c)
	}
	return 0, nil, false
}

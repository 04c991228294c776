// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"errors"
	"fmt"
	"io"
	"regexp"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// JITDump is a file, jit-PID.dump, in which a process keeps the code it makes,
// with names (the Linux kernel's tools/perf/Documentation/
// jitdump-specification.txt). It may be anywhere; the process says where by
// mapping a page of it as executable.
//
// Only the records of new code are read, the last one that covers an address
// counts. That code was moved, and its lines, are not.
type JITDump struct {
	r    io.ReaderAt
	size func() (int64, error)
}

// NewJITDump is for a file of which size says how much there is at present.
func NewJITDump(r io.ReaderAt, size func() (int64, error)) *JITDump {
	return &JITDump{r: r, size: size}
}

// IsJITDump says whether a mapping's path is that of such a file.
func IsJITDump(path string) bool { return jitDumpPath.MatchString(path) }

var jitDumpPath = regexp.MustCompile(`/jit-[0-9]+\.dump$`)

const (
	maxJITDump     = 1 << 30    // bytes that are read of a dump
	jitMagic       = 0x4a695444 // "JiTD" in the byte order of the machine
	jitHeader      = 12         // magic, version, size of the header
	jitRecord      = 16         // kind, size of the record, time
	jitLoad        = jitRecord + 40
	jitLoadAddress = jitRecord + 16 // after PID, TID and the address in the file
	jitCodeLoad    = 0
)

var errNoJITDump = errors.New("read jitdump: it does not begin as one of this machine")

// Find is Source's.
func (d *JITDump) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	if len(addrs) == 0 {
		return nil
	}
	size, err := d.size()
	if err != nil {
		return fmt.Errorf("read jitdump: %w", err)
	}
	var head [jitHeader]byte
	if err := readFull(d.r, head[:], 0); err != nil || le.Uint32(head[:]) != jitMagic {
		return errNoJITDump
	}
	l := newLatest(addrs)
	err = d.records(int64(le.Uint32(head[8:])), min(size, maxJITDump), func(at int64, b []byte) {
		start, length := le.Uint64(b[jitLoadAddress:]), le.Uint64(b[jitLoadAddress+8:])
		limit := start + length
		if limit < start {
			limit = uint64(noAddress)
		}
		l.add(written{at + 1, profile.ObjAddr(start), profile.ObjAddr(limit)})
	})
	scratch := new([maxName]byte)
	var last written
	var name string
	for i := range addrs {
		w := l.of(i)
		if w.at == 0 {
			continue
		}
		if w != last {
			last, name = w, readName(d.r, w.at-1+jitLoad, scratch)
		}
		if name != "" {
			found(i, Symbol{Name: name, Start: w.start, Limit: w.limit})
		}
	}
	if err != nil {
		return fmt.Errorf("read jitdump: %w", err)
	}
	return nil
}

// records calls load for the head of each record of new code in [from, to). The
// code itself, most of the file, is jumped over.
func (d *JITDump) records(from, to int64, load func(at int64, b []byte)) error {
	buffer := make([]byte, chunkSize)
	var b []byte // what is read and not yet looked at, from the offset on
	for at := from; to-at >= jitRecord; {
		if len(b) < jitLoad && int64(len(b)) < to-at {
			b = buffer[:min(int64(len(buffer)), to-at)]
			if err := readFull(d.r, b, at); err != nil {
				return err
			}
		}
		size := int64(le.Uint32(b[4:]))
		if size < jitRecord || size > to-at { // nonsense, or still being written
			return nil
		}
		if le.Uint32(b) == jitCodeLoad && size > jitLoad {
			load(at, b)
		}
		at += size
		b = b[min(size, int64(len(b))):]
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// kallsyms is the running kernel's list of symbols: text, one symbol a line,
//
//	ffffffff81000000 T _stext
//	ffffffffc0a01000 t nf_conntrack_in	[nf_conntrack]
//
// address, type as nm has it (capital: global), name and module. Modules, BPF
// programs and trampolines follow the kernel itself, each in an order of its
// own. There are no sizes: a function goes on until the next symbol, of
// whatever type, but not for more than maxKernelFunction.
//
// Making the text takes the kernel longer than reading it takes us (some 40 ms
// for 120,000 symbols), so it is read once a call, and only if it is needed.
type kallsyms struct {
	open func() (io.ReadCloser, error)
}

// How far a symbol reaches at most, in bytes. It matters where the last function
// of a module is followed by code that has no symbol, such as that of BPF
// programs when net.core.bpf_jit_kallsyms is 0. BPF programs are longer than
// what people write.
const (
	maxKernelFunction = 1 << 20
	maxModuleFunction = 64 << 10
)

// openKallsyms opens the running kernel's list.
func openKallsyms() (io.ReadCloser, error) { return os.Open("/proc/kallsyms") }

func (k *kallsyms) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	if len(addrs) == 0 {
		return nil
	}
	r, err := k.open()
	if err != nil {
		return err
	}
	defer r.Close()
	return findKernel(r, addrs, found)
}

// kernelSlot is the gap before one of the addresses, and the last symbol in it.
type kernelSlot struct {
	start profile.ObjAddr
	after profile.ObjAddr // the first symbol after the address
	rank  int8            // 0: no symbol; negative: not code
	name  []byte          // with the module's; used again for each better symbol
}

func findKernel(r io.Reader, addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	slots := make([]kernelSlot, len(addrs))
	for i := range slots {
		slots[i].after = noAddress
	}
	at, lines, shown := 0, 0, false
	err := eachLine(r, func(line []byte) {
		start, kind, name, ok := kernelSymbol(line)
		if !ok {
			return
		}
		lines++
		shown = shown || start != 0
		at = gapOf(addrs, at, start)
		if at > 0 && start < slots[at-1].after {
			slots[at-1].after = start
		}
		if at < len(addrs) {
			slots[at].offer(start, kind, name)
		}
	})
	switch {
	case err != nil:
		return fmt.Errorf("read kernel symbols: %w", err)
	case lines == 0:
		return fmt.Errorf("read kernel symbols: %w", ErrNoTable)
	case !shown:
		return ErrHidden
	}
	settleKernel(slots, addrs, found)
	return nil
}

// gapOf returns the index of the first address at or after start. Most symbols
// lie in the same gap as the one before, because the list is nearly sorted.
func gapOf(addrs []profile.ObjAddr, at int, start profile.ObjAddr) int {
	if (at == len(addrs) || start <= addrs[at]) && (at == 0 || start > addrs[at-1]) {
		return at
	}
	low, high := 0, len(addrs)
	for low < high {
		if m := int(uint(low+high) / 2); addrs[m] < start {
			low = m + 1
		} else {
			high = m
		}
	}
	return low
}

func (s *kernelSlot) offer(start profile.ObjAddr, kind byte, name []byte) {
	rank := kernelRank(kind)
	if s.rank != 0 && (start < s.start || (start == s.start && !kernelBetter(rank, name, s.rank, s.name))) {
		return
	}
	s.start, s.rank, s.name = start, rank, append(s.name[:0], name...)
}

// kernelRank orders symbols at the same address as elfTable does.
func kernelRank(kind byte) int8 {
	switch kind {
	case 'T':
		return 3
	case 'W', 'w':
		return 2
	case 't':
		return 1
	}
	return -1
}

func kernelBetter(rank int8, name []byte, oldRank int8, oldName []byte) bool {
	if rank != oldRank {
		return rank > oldRank
	}
	return leadingUnderscores(name) < leadingUnderscores(oldName)
}

func leadingUnderscores(name []byte) int {
	return len(name) - len(bytes.TrimLeft(name, "_"))
}

func settleKernel(slots []kernelSlot, addrs []profile.ObjAddr, found func(i int, s Symbol)) {
	for i := len(slots) - 2; i >= 0; i-- {
		slots[i].after = min(slots[i].after, slots[i+1].after)
	}
	last := -1 // slot of the last symbol before the address
	var name, module string
	for i, a := range addrs {
		if slots[i].rank != 0 {
			last = i
			name, module = splitModule(string(slots[i].name))
		}
		reach := profile.ObjAddr(maxKernelFunction)
		if module != "" && module != "[bpf]" {
			reach = maxModuleFunction
		}
		if last < 0 || slots[last].rank < 0 || a-slots[last].start >= reach {
			continue
		}
		s := &slots[last]
		limit := s.start + reach
		if limit < s.start {
			limit = noAddress
		}
		found(i, Symbol{Name: name, Module: module, Start: s.start, Limit: min(limit, slots[i].after)})
	}
}

// splitModule splits "nf_conntrack_in\t[nf_conntrack]". What the kernel makes
// itself it gives to modules that there are not: [bpf], [__builtin__ftrace],
// [__builtin__kprobes].
func splitModule(s string) (name, module string) {
	name, module, _ = strings.Cut(s, "\t")
	if inside, ok := strings.CutPrefix(module, "[__builtin__"); ok {
		module = "[" + inside
	}
	return name, module
}

// kernelSymbol splits one line; the name is part of it, and the module's may
// follow, to be cut off if the name is needed.
func kernelSymbol(line []byte) (start profile.ObjAddr, kind byte, name []byte, ok bool) {
	i := 0
	for ; i < len(line) && line[i] != ' '; i++ {
		var digit byte
		switch c := line[i]; {
		case '0' <= c && c <= '9':
			digit = c - '0'
		case 'a' <= c && c <= 'f':
			digit = c - 'a' + 10
		default:
			return 0, 0, nil, false
		}
		start = start<<4 | profile.ObjAddr(digit)
	}
	if i == 0 || i > 16 || len(line) < i+4 || line[i+2] != ' ' {
		return 0, 0, nil, false
	}
	name = line[i+3:]
	return start, line[i+1], name, name[0] > ' ' && name[0] != '$'
}

// eachLine calls line for each line of r, without its end. Lines longer than a
// chunk are left out: the kernel's names have at most 511 bytes.
func eachLine(r io.Reader, line func([]byte)) error {
	buffer := make([]byte, chunkSize)
	kept, skip := 0, false
	for {
		n, err := r.Read(buffer[kept:])
		b := buffer[:kept+n]
		for {
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				break
			}
			if !skip {
				line(b[:end])
			}
			skip, b = false, b[end+1:]
		}
		if err != nil {
			if len(b) > 0 && !skip {
				line(b)
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if kept = copy(buffer, b); kept == len(buffer) {
			kept, skip = 0, true
		}
	}
}

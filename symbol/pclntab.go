// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// pclntab names functions by Go's own table, which every Go program has,
// stripped or not.
//
// Inlined calls are not looked up: an address gets the function it was
// compiled into.
type pclntab struct{ *object.GoTable }

// openPclntab returns the Go function table of an object; nil without an error
// if it is not Go's.
func openPclntab(f *object.File) (*pclntab, error) {
	t, err := f.GoTable()
	if t == nil || err != nil {
		return nil, err
	}
	return &pclntab{t}, nil
}

// Find goes through functab and the addresses side by side, both sorted. If
// functab is not, some addresses are not found, but it still ends.
func (t *pclntab) Find(addrs []profile.ObjAddr, found func(i int, s Symbol)) error {
	if len(addrs) == 0 {
		return nil
	}
	scratch := new([maxName]byte)
	next := 0 // index of the first address that is not yet dealt with
	settle := func(start, limit profile.ObjAddr, function uint64) {
		for next < len(addrs) && addrs[next] < start {
			next++
		}
		if next == len(addrs) || addrs[next] >= limit {
			return
		}
		name := t.name(function, scratch)
		for ; next < len(addrs) && addrs[next] < limit; next++ {
			if name != "" {
				found(next, Symbol{Name: name, Start: start, Limit: limit})
			}
		}
	}
	pairs := io.NewSectionReader(t, t.Functab, t.Size()-t.Functab)
	var start profile.ObjAddr
	var function uint64
	i, pair := int64(0), 2*t.Width
	err := chunks(pairs, t.Count*int64(pair), pair, func(b []byte) {
		for ; len(b) >= pair && next < len(addrs); b = b[pair:] {
			entry, offset := t.Pair(b)
			if i > 0 {
				settle(start, entry, function)
			}
			start, function = entry, offset
			i++
		}
	})
	if err == nil && next < len(addrs) {
		var end uint64
		if _, end, err = t.Entries(); err == nil {
			settle(start, t.Text+profile.ObjAddr(end), function)
		}
	}
	if err != nil {
		return fmt.Errorf("read functab: %w", err)
	}
	return nil
}

// name reads the name of the function whose _func is at an offset.
func (t *pclntab) name(function uint64, scratch *[maxName]byte) string {
	if function > uint64(t.Size()) {
		return ""
	}
	var b [4]byte
	if readFull(t, b[:], t.Functions+int64(function)+t.NameAt) != nil {
		return ""
	}
	return readName(t, t.Names+int64(le.Uint32(b[:])), scratch)
}

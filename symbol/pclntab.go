// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"fmt"
	"io"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// pclntab names functions by Go's own table, which every Go program has,
// stripped or not; and with it, inlined calls, files and lines (goinline.go).
type pclntab struct {
	*object.GoTable
	file   *object.File // for inline trees, which are not part of the table; nil: none
	layout *goLayout    // nil: only names are read
	base   profile.ObjAddr
	sought bool // base was looked for: it is 0 if it was not found
}

// openPclntab returns the Go function table of an object; nil without an error
// if it is not Go's.
func openPclntab(f *object.File) (*pclntab, error) {
	t, err := f.GoTable()
	if t == nil || err != nil {
		return nil, err
	}
	return &pclntab{GoTable: t, file: f, layout: goLayouts[t.Magic]}, nil
}

// Find gives the calls at each address that lies in a Go function.
func (t *pclntab) Find(addrs []profile.ObjAddr, found func(i int, calls []Call)) error {
	g := newGoReader(t, len(addrs))
	f := goFunction{at: -1}
	return t.walk(addrs, func(i int, start, limit profile.ObjAddr, at int64) {
		if f.at != at {
			f = g.function(start, limit, at)
		}
		if f.name != "" {
			found(i, g.calls(&f, addrs[i]))
		}
	})
}

// walk goes through functab and the addresses side by side, both sorted, and
// yields each address with the bounds of its function and the offset of its
// _func. If functab is not sorted, some addresses are not found, but it still
// ends.
func (t *pclntab) walk(addrs []profile.ObjAddr, each func(i int, start, limit profile.ObjAddr, at int64)) error {
	if len(addrs) == 0 {
		return nil
	}
	next := 0 // index of the first address that is not yet dealt with
	settle := func(start, limit profile.ObjAddr, function uint64) {
		for next < len(addrs) && addrs[next] < start {
			next++
		}
		for ; next < len(addrs) && addrs[next] < limit; next++ {
			if function <= uint64(t.Size()) {
				each(next, start, limit, t.Functions+int64(function))
			}
		}
	}
	pairs := io.NewSectionReader(t, t.Functab, t.Size()-t.Functab)
	var start profile.ObjAddr
	var function uint64
	i, pair := int64(0), 2*t.Width
	err := object.Chunks(pairs, t.Count*int64(pair), pair, func(b []byte) {
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

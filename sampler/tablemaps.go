// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/bpf"
)

// tableMaps are the kernel's maps for unwind tables, of a size.
type tableMaps struct {
	number      int32 // counts up, of those of a set
	rows, pages *ebpf.Map
	users       atomic.Int32
}

// newTableMaps makes maps for one user.
func newTableMaps(number int32, chunks, blocks uint32) (*tableMaps, error) {
	m := &tableMaps{number: number}
	m.users.Store(1)
	var err, other error
	m.rows, err = ebpf.NewMap(arrayOf(bpf.SampleMapRows, unsafe.Sizeof(bpf.SampleChunk{}), chunks))
	m.pages, other = ebpf.NewMap(arrayOf(bpf.SampleMapPages, unsafe.Sizeof(bpf.SampleBlock{}), blocks))
	if err = errors.Join(err, other); err != nil {
		m.release()
		return nil, fmt.Errorf("make room for unwind tables: %w", err)
	}
	return m, nil
}

// arrayOf is the map that maps.h declares under that name.
func arrayOf(name string, size uintptr, entries uint32) *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: name, Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: entries}
}

// newestOf says whether the set that they are of has none that are bigger.
func (m *tableMaps) newestOf(set *tableSet) bool {
	return m != nil && m.number == set.newest.Load()
}

// hold says whether there is room for so much.
func (m *tableMaps) hold(chunks, blocks uint32) bool {
	return chunks <= m.rows.MaxEntries() && blocks <= m.pages.MaxEntries()
}

func (m *tableMaps) bytes() int64 {
	return int64(m.rows.MaxEntries())*int64(m.rows.ValueSize()) + int64(m.pages.MaxEntries())*int64(m.pages.ValueSize())
}

// release notes that a user is gone. A walk holds its maps by itself, in the
// kernel, so nothing is pulled away from under it.
func (m *tableMaps) release() {
	if m.users.Add(-1) == 0 {
		m.rows.Close()  //nolint:errcheck // of descriptors that are ours
		m.pages.Close() //nolint:errcheck
	}
}

// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"encoding/binary"
	"fmt"

	"github.com/cilium/ebpf"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// stackMaps is where the build for old kernels finds what the kernel walked.
type stackMaps struct {
	StackIds0    *ebpf.Map `ebpf:"stack_ids_0"`
	StackIds1    *ebpf.Map `ebpf:"stack_ids_1"`
	OverflowIds0 *ebpf.Map `ebpf:"overflow_ids_0"`
	OverflowIds1 *ebpf.Map `ebpf:"overflow_ids_1"`
}

const overflowID = 1 << 16 // OVERFLOW_ID of abi.h

// of returns the map that a word of a region points into, and the id there.
func (m *stackMaps) of(buffer int, word uint64) (*ebpf.Map, uint32) {
	id := uint32(word &^ overflowID)
	switch overflow := word&overflowID != 0; {
	case buffer == 0 && !overflow:
		return m.StackIds0, id
	case buffer == 0:
		return m.OverflowIds0, id
	case !overflow:
		return m.StackIds1, id
	default:
		return m.OverflowIds1, id
	}
}

// stackByID returns the addresses of a part that the kernel walked, leaf first.
func (s *BPF) stackByID(buffer int, word uint64) ([]profile.Addr, error) {
	if a, ok := s.scratch.ids[word]; ok {
		return a, nil
	}
	m, id := s.stackMaps.of(buffer, word)
	b, err := m.LookupBytes(id)
	if err != nil {
		return nil, fmt.Errorf("drain stack %d: %w", id, err)
	}
	var a []profile.Addr
	for ; len(b) >= 8; b = b[8:] {
		v := binary.NativeEndian.Uint64(b)
		if v == 0 { // what the kernel did not need is zero
			break
		}
		a = append(a, profile.Addr(v))
	}
	s.scratch.ids[word] = a
	return a, nil
}

// forgetIDs makes room for the stacks of the next drain but one. (An id of a
// stack that was lost for other reasons stays; there are few, and what finds
// its place taken goes to the overflow.)
func (s *BPF) forgetIDs(buffer int) error {
	for word := range s.scratch.ids {
		m, id := s.stackMaps.of(buffer, word)
		if err := m.Delete(id); err != nil && !isNotExist(err) {
			return fmt.Errorf("drain: delete stack %d: %w", id, err)
		}
	}
	clear(s.scratch.ids)
	return nil
}

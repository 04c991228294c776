// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"fmt"

	"github.com/cilium/ebpf"
)

// checkMap says why Linux 4.9 does not make a map, or not for a perf event's
// program (kernel/bpf/arraymap.c, hashtab.c, stackmap.c there).
func checkMap(m *ebpf.MapSpec) error {
	const (
		most      = 2 << 20  // bytes of a value: half of the largest kmalloc, with SLAB
		mostOfCPU = 32 << 10 // PCPU_MIN_UNIT_SIZE
		element   = 64       // more than struct htab_elem
	)
	if m.Flags != 0 {
		return fmt.Errorf("%s: flags %#x", m.Name, m.Flags) // BPF_F_NO_PREALLOC there is, but not here
	}
	if m.InnerMap != nil || m.MapExtra != 0 || m.NumaNode != 0 || m.MaxEntries == 0 || m.ValueSize == 0 {
		return fmt.Errorf("%s: %v", m.Name, m)
	}
	key, value, perCPU := m.KeySize, int64(m.ValueSize), false
	wantKey := uint32(4)
	switch m.Type {
	case ebpf.PerCPUArray, ebpf.PerCPUHash:
		perCPU = true
		if m.Type == ebpf.PerCPUHash {
			wantKey = 0
		}
	case ebpf.Array:
	case ebpf.Hash:
		wantKey = 0
	case ebpf.ProgramArray, ebpf.PerfEventArray, ebpf.CGroupArray:
		if value != 4 {
			return fmt.Errorf("%s: values of %d bytes", m.Name, value)
		}
	case ebpf.StackTrace:
		if value%8 != 0 || value > 127*8 { // sysctl kernel.perf_event_max_stack
			return fmt.Errorf("%s: values of %d bytes", m.Name, value)
		}
	default:
		return fmt.Errorf("%s: %v maps came later", m.Name, m.Type)
	}
	if wantKey != 0 && key != wantKey || key == 0 || key > stackBytes {
		return fmt.Errorf("%s: keys of %d bytes", m.Name, key)
	}
	if value >= most-stackBytes-element || perCPU && value > mostOfCPU {
		return fmt.Errorf("%s: values of %d bytes", m.Name, value)
	}
	if total := (int64(key) + value + element) * int64(m.MaxEntries); total > 1<<32-1<<16 {
		return fmt.Errorf("%s: %d bytes", m.Name, total)
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"github.com/carverauto/serviceradar-profiler/dwarf"
	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// debugInfo is the debug information of a file.
type debugInfo struct {
	file    *object.File
	options dwarf.Options
}

// DebugInfo returns the debug information in a file, nil if it has none. It is
// read when somebody asks, and nothing of it is kept.
func DebugInfo(f *object.File, o dwarf.Options) CallSource {
	for _, name := range []string{".debug_info", ".zdebug_info"} {
		if s := f.Section(name); s != nil && s.FileSize > 0 {
			return &debugInfo{f, o}
		}
	}
	return nil
}

func (d *debugInfo) Find(addrs []profile.ObjAddr, found func(i int, calls []Call)) error {
	data, err := dwarf.Open(d.file, d.options)
	if err != nil {
		return err
	}
	defer data.Close()
	var calls []Call
	return data.Find(addrs, func(i int, active []dwarf.Call) {
		calls = calls[:0]
		for _, c := range active {
			calls = append(calls, Call{c.Name, c.File, c.Line})
		}
		found(i, calls)
	})
}

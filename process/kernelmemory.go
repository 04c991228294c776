// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// KernelMemory is how many bytes this process holds in the kernel by its BPF
// maps and programs, and by the pages of perf's rings that are pinned for it.
// It is not part of any RSS.
func KernelMemory() (bytes int64, err error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("read own status: %w", err)
	}
	pinned, _ := strconv.ParseInt(strings.TrimSuffix(field(status, "VmPin"), " kB"), 10, 64) // kernels before 3.2 have no such line
	bytes = pinned << 10
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, fmt.Errorf("list own descriptors: %w", err)
	}
	seen := map[string]bool{} // a map may have several descriptors
	for _, f := range files {
		to, err := os.Readlink(filepath.Join("/proc/self/fd", f.Name()))
		if err != nil || to != "anon_inode:bpf-map" && to != "anon_inode:bpf-prog" {
			continue // it may be closed by now
		}
		info, err := os.ReadFile(filepath.Join("/proc/self/fdinfo", f.Name()))
		if err != nil {
			if os.IsNotExist(err) {
				continue
			}
			return 0, fmt.Errorf("read about an own descriptor: %w", err)
		}
		id := "map " + field(info, "map_id") + " program " + field(info, "prog_id")
		if locked, err := strconv.ParseInt(field(info, "memlock"), 10, 64); err == nil && (!seen[id] || id == "map  program ") { // Linux before 4.13 tells no ID
			bytes += locked
		}
		seen[id] = true
	}
	return bytes, nil
}

// field is the value of a line "name: value"; empty if there is none.
func field(text []byte, name string) string {
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && key == name {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

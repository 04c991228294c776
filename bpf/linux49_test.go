// SPDX-License-Identifier: Apache-2.0

package bpf_test

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
)

// objects49 are the objects of the build for Linux 4.9, with the size of
// struct bpf_perf_event_data there: struct pt_regs and a word.
var objects49 = []struct {
	arch, file string
	context    int64
}{
	{"amd64", "sample49_x86_bpfel.o", 168 + 8},
	{"arm64", "sample49_arm64_bpfel.o", 304 + 8},
}

// The build for Linux 4.9 keeps to what that kernel loads, which can be had
// for no test: so its verifier is done again here (verifier49).
func TestLinux49Programs(t *testing.T) {
	for _, o := range objects49 {
		spec, err := ebpf.LoadCollectionSpec(o.file)
		if err != nil {
			t.Fatal(err)
		}
		for name, p := range spec.Programs {
			if p.Type != ebpf.PerfEvent || p.License != "GPL" || p.Flags != 0 {
				t.Errorf("%s: %s is a %v program, licensed %q, flags %#x", o.arch, name, p.Type, p.License, p.Flags)
			}
			for _, r := range releases {
				n, err := verify49(r, p.Instructions, spec.Maps, o.context)
				if err != nil {
					t.Errorf("%s: Linux %s refuses %s: %v", o.arch, r.name, name, err)
					continue
				}
				t.Logf("%s: Linux %s processes %d instructions of %s", o.arch, r.name, n, name)
			}
		}
	}
}

func TestLinux49Maps(t *testing.T) {
	for _, o := range objects49 {
		spec, err := ebpf.LoadCollectionSpec(o.file)
		if err != nil {
			t.Fatal(err)
		}
		if len(spec.Variables) > 0 {
			t.Errorf("%s: there are global variables", o.arch)
		}
		for name, m := range spec.Maps {
			if err := checkMap(m); err != nil {
				t.Errorf("%s: %v", o.arch, err)
			}
			if strings.HasPrefix(name, ".") {
				t.Errorf("%s: %s is a section of data", o.arch, name)
			}
		}
	}
}

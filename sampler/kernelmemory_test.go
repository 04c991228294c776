// SPDX-License-Identifier: Apache-2.0

package sampler_test

import (
	"errors"
	"io/fs"
	"os"
	"testing"

	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/sampler"
)

// What the service tells of its memory in the kernel is there while a sampler
// is, and not after it.
func TestKernelMemory(t *testing.T) {
	now := func() int64 {
		t.Helper()
		n, err := process.KernelMemory()
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := now()
	s, err := sampler.OpenBPF(sampler.Options{})
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	held := now()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if held-before < 1<<20 || now() != before {
		t.Errorf("%d bytes before, %d with a sampler, %d after it", before, held, now())
	}
}

// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// The kernel's list takes long to read. It is read when one of its functions
// may be the hottest, and not for those that cannot be.
func TestHottestReadsTheKernelSeldom(t *testing.T) {
	c := &collector{builder: profile.NewBuilder()}
	kernel := c.addMapping(profile.Mapping{Kind: profile.MappingKernel, Path: profile.KernelPath, Start: kernelStart, Limit: ^profile.Addr(0)}, known{})
	user := c.addMapping(profile.Mapping{Path: "/bin/x", Start: 0x1000, Limit: 0x2000}, known{})
	reads := 0
	c.hot.names.Open = func(profile.MappingID) (*object.File, error) { return nil, errors.New("none") }
	c.hot.names.Kallsyms = func() (io.ReadCloser, error) {
		reads++
		return io.NopCloser(strings.NewReader("ffffffff81000000 T first\nffffffff81000100 T second\nffffffffc0000000 t third\t[m]\nffffffffc0000100 t fourth\t[m]\n")), nil
	}
	sample := func(a profile.Addr, m profile.MappingID, n uint64) {
		c.builder.Add(profile.Thread{PID: 1}, []profile.AddressID{c.builder.Address(a, m, false)}, false, n)
	}
	check := func(want string, wantReads int) {
		t.Helper()
		if got := c.findHottest(); got != want || reads != wantReads {
			t.Errorf("the hottest is %q after %d reads, want %q and %d", got, reads, want, wantReads)
		}
	}
	sample(0x1000, user, 10)
	sample(0xffffffff81000010, kernel, 5)
	check("[x]", 0)
	sample(0xffffffff81000020, kernel, 20)
	check("first", 1)
	sample(0xffffffff81000110, kernel, 24)
	check("first", 1) // as many as first has at least
	sample(0xffffffff81000110, kernel, 10)
	check("second", 2)
	sample(0xffffffffc0000010, kernel, 100)
	check("third", 3)
	// A mapping that came after one that the resolver added.
	late := c.addMapping(profile.Mapping{Path: "/bin/late"}, known{object: &opened{err: io.ErrClosedPipe}})
	if _, err := c.object(late); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the mapping leads to another object: %v", err)
	}
}

// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// Each object without names has its share: of samples that go through it, and
// of those that end in it.
func TestUnnamed(t *testing.T) {
	b := profile.NewBuilder()
	gone := b.Mapping(profile.Mapping{Start: 0x1000, Limit: 0x2000, Path: "/lib/libgone.so"})
	jit := b.Mapping(profile.Mapping{Start: 0x3000, Limit: 0x4000, Kind: profile.MappingAnonymous})
	a, a2 := b.Address(0x1010, gone, true), b.Address(0x1020, gone, false)
	j, n := b.Address(0x3010, jit, false), b.Address(0x9000, profile.NoMapping, true)
	add := func(count uint64, ids ...profile.AddressID) { b.Add(profile.Thread{}, ids, false, count) }
	add(50, a2, a, n) // twice through one object: counts once
	add(20, j, a)
	add(7)
	p := b.Profile()
	r := Resolver{Open: func(profile.MappingID) (*object.File, error) { return nil, fs.ErrNotExist }}
	us := Unnamed(p, r.Resolve(p, nil))
	check := func(i int, object string, reason profile.Reason, samples, self uint64, addresses int) {
		t.Helper()
		if i >= len(us) {
			t.Fatalf("%d objects without names, want more", len(us))
		}
		if u := us[i]; u.Object != object || u.Reason != reason || u.Samples != samples || u.Self != self || u.Addresses != addresses || u.Why == "" {
			t.Errorf("%d: %+v", i, u)
		}
	}
	check(0, "libgone.so", profile.ReasonGone, 70, 50, 2)
	check(1, "[unknown]", profile.ReasonNoMapping, 50, 0, 1)
	check(2, "[anonymous]", profile.ReasonMade, 20, 20, 1)
}

// Many of them are cut off with a sum, in which a sample counts once.
func TestUnnamedSum(t *testing.T) {
	b := profile.NewBuilder()
	const n = maxUnnamed + 30
	var all []profile.AddressID
	for i := range profile.Addr(n) {
		m := b.Mapping(profile.Mapping{Start: 0x1000 * i, Limit: 0x1000*i + 0x1000, Path: fmt.Sprintf("/lib/lib%d.so", i)})
		all = append(all, b.Address(0x1000*i+0x10, m, true))
	}
	b.Add(profile.Thread{}, all, false, 5)
	b.Add(profile.Thread{}, all[:1], false, 3)
	p := b.Profile()
	us := Unnamed(p, new(Resolver).Resolve(p, nil))
	if len(us) != maxUnnamed {
		t.Fatalf("%d objects, want %d", len(us), maxUnnamed)
	}
	if first, rest := us[0], us[maxUnnamed-1]; first.Object != "lib0.so" || first.Samples != 8 || first.Self != 8 ||
		rest.Reason != profile.ReasonSeveral || rest.Samples != 5 || rest.Addresses != n-maxUnnamed+1 {
		t.Errorf("first %+v, rest %+v", first, rest)
	}
}

func TestReasons(t *testing.T) {
	for _, c := range []struct {
		err  error
		want profile.Reason
	}{
		{ErrHidden, profile.ReasonHidden},
		{fmt.Errorf("open: %w", fs.ErrPermission), profile.ReasonNotPermitted},
		{process.ErrReplaced, profile.ReasonReplaced},
		{fmt.Errorf("%w; no debug file", ErrNoTable), profile.ReasonStripped},
		{ErrNoSymbol, profile.ReasonNotCovered},
		{fmt.Errorf("read .symtab: %w", object.ErrFormat), profile.ReasonUnreadable},
		{errors.New("input/output error"), profile.ReasonUnreadable},
		{fs.ErrNotExist, profile.ReasonGone},
	} {
		if got, _ := reasonOf(c.err); got != c.want {
			t.Errorf("%v: %q, want %q", c.err, got, c.want)
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"math/rand/v2"
	"os"
	"testing"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// joined opens a sampler with a store, ready for tables.
func joined(t *testing.T, store *TableStore) *BPF {
	t.Helper()
	s, err := OpenBPF(Options{Targets: 1, Tables: store})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.OpenTables(); err != nil {
		t.Fatal(err)
	}
	return s
}

// madeTables are made up, of two segments, under the name of this program.
func madeTables(t *testing.T) (unwind.Key, []unwind.Table) {
	t.Helper()
	file, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	o, err := object.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	random := rand.New(rand.NewPCG(1, 2))
	tables := []unwind.Table{{Base: 0x1000}, {Base: 0x800000}}
	for i := range tables {
		u := &tables[i]
		at := uint32(0)
		for range 40_000 {
			u.Rows = append(u.Rows, unwind.Row{Addr: at, Rule: unwind.Rule(random.Uint32())})
			at += 1 + random.Uint32N(90)
		}
		u.Limit = u.Base + profile.ObjAddr(at)
	}
	return unwind.KeyOf(o, process.FileID{}), tables
}

func (s *BPF) seesTables(t *testing.T, ids []TableID, tables []unwind.Table) {
	t.Helper()
	for i := range tables {
		u := &tables[i]
		for a := u.Base; a < u.Limit; a += max(1, (u.Limit-u.Base)/100) {
			if got, want := ruleInKernel(t, s, ids[i], a), u.Rule(a); got != want {
				t.Fatalf("at %v: %v in the kernel, want %v", a, got, want)
			}
		}
	}
}

// Samplers share tables, also those that one of them had to make room for; what
// a sampler uses stays at its place while others begin anew.
func TestTablesAreShared(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	store := new(TableStore)
	defer store.Close()
	one, two := joined(t, store), joined(t, store)
	if one.tabled.maps != two.tabled.maps {
		t.Error("two samplers have maps of their own")
	}
	key, tables := madeTables(t)
	if _, ok, err := two.UseTables(key); ok || err != nil {
		t.Errorf("tables that nobody added are there: %v", err)
	}
	// More than there is room for, so that there are newer maps.
	filler := unwind.Table{Limit: profile.ObjAddr(4 * (spareRows + 40_000))}
	for i := range uint32(filler.Limit / 4) {
		filler.Rows = append(filler.Rows, unwind.Row{Addr: 4 * i, Rule: unwind.Rule(i)})
	}
	if _, err := one.addTable(&filler); err != nil {
		t.Fatal(err)
	}
	ids, err := one.AddTables(key, unwind.Drafts(tables))
	if err != nil {
		t.Fatal(err)
	}
	old := two.tabled.maps
	found, ok, err := two.UseTables(key)
	if err != nil || !ok || found[0] != ids[0] {
		t.Fatalf("found %v (%v), want %v", found, err, ids)
	}
	if two.tabled.maps == old || two.tabled.maps != one.tabled.maps {
		t.Error("the second sampler's walk does not see the newer maps")
	}
	one.seesTables(t, ids, tables)
	two.seesTables(t, ids, tables)
	again, err := two.AddTables(key, unwind.Drafts(tables))
	if err != nil || again[0] != ids[0] {
		t.Errorf("added again they are at %v (%v), want %v", again, err, ids)
	}
	if store.Tidy(0) {
		t.Error("tables in use are given up")
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	store.begin()
	three := joined(t, store)
	if _, ok, err := three.UseTables(key); ok || err != nil {
		t.Errorf("a store that began anew has old tables: %v", err)
	}
	two.seesTables(t, ids, tables)
}

// A session that begins when half of what can be addressed is taken has room of
// its own, and those that go on keep theirs.
func TestStoreBeginsAnewInTime(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	store := new(TableStore)
	defer store.Close()
	one := joined(t, store)
	key, tables := madeTables(t)
	ids, err := one.AddTables(key, unwind.Drafts(tables))
	if err != nil {
		t.Fatal(err)
	}
	two := joined(t, store)
	if one.tabled.set != two.tabled.set {
		t.Error("two samplers do not share tables")
	}
	if err := two.OpenTables(TableNeed{Rows: maxChunks / 2 * chunkRows}); err != nil {
		t.Fatal(err)
	}
	three := joined(t, store)
	if two.tabled.set != one.tabled.set || three.tabled.set == one.tabled.set {
		t.Error("the third sampler has tables that are more than half full")
	}
	if one.Current() || !three.Current() {
		t.Errorf("current: the first %v, the third %v", one.Current(), three.Current())
	}
	one.seesTables(t, ids, tables)
	two.seesTables(t, ids, tables)
}

// Tables of which only a part came to the kernel take no room.
func TestTablesThatDoNotArrive(t *testing.T) {
	s := open(t, 1)
	key, tables := madeTables(t)
	set := s.tabled.set
	chunks, blocks := new(tableSet).tables.need(unwind.Drafts(tables))
	if err := set.grow(chunks+2, blocks+2); err != nil {
		t.Fatal(err)
	}
	gone, err := set.maps.pages.Clone()
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	set.tables.pages = gone
	for range 3 {
		if _, err := s.AddTables(key, unwind.Drafts(tables)); err == nil {
			t.Fatal("there is no error when the map is gone")
		}
	}
	set.tables.pages = set.maps.pages
	ids, err := s.AddTables(key, unwind.Drafts(tables))
	if err != nil {
		t.Fatal(err)
	}
	if ids[0].page != 0 {
		t.Errorf("the first table is on page %d", ids[0].page)
	}
	s.seesTables(t, ids, tables)
}

// What nobody uses any more goes, unless it is little.
func TestStoreIsTidied(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	store := new(TableStore)
	defer store.Close()
	s := joined(t, store)
	key, tables := madeTables(t)
	if _, err := s.AddTables(key, unwind.Drafts(tables)); err != nil {
		t.Fatal(err)
	}
	set := store.set
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	room := set.usage(set.kept[key].left).room
	if did := store.Tidy(0); did != (room > idleBytes) {
		t.Errorf("began anew: %v, of %d bytes", did, room)
	}
	s = joined(t, store)
	if err := s.OpenTables(TableNeed{Rows: 2 * idleBytes / 8}); err != nil {
		t.Fatal(err)
	}
	set = store.set
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !store.Tidy(0) || store.set != nil || set.maps != nil {
		t.Error("maps that nobody uses are still there")
	}
}

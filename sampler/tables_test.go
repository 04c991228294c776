// SPDX-License-Identifier: Apache-2.0

package sampler

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"testing"

	"github.com/carverauto/serviceradar-profiler/bpf"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// open opens a sampler with the least room for tables.
func open(t *testing.T, targets int) *BPF {
	t.Helper()
	s, err := OpenBPF(Options{Targets: targets})
	if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
		t.Skip("needs root: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := s.OpenTables(); err != nil {
		t.Fatal(err)
	}
	return s
}

// addTable puts a table into the kernel that belongs to no object.
func (s *BPF) addTable(u *unwind.Table) (TableID, error) {
	set := s.tabled.set
	set.mu.Lock()
	ids, err := set.put([]unwind.Draft{u.Draft()})
	set.mu.Unlock()
	if err != nil {
		return TableID{}, err
	}
	if !s.tabled.maps.newestOf(set) {
		err = s.load()
	}
	return ids[0], err
}

// The pages of a table have the rule of each address, and begin with the one
// that is in force where they begin.
func TestPages(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for n := range 200 {
		u := unwind.Table{Base: 0x1000}
		at := random.Uint32N(3000) * uint32(n%2)
		for range random.IntN(300) {
			u.Rows = append(u.Rows, unwind.Row{Addr: at, Rule: unwind.Rule(random.Uint32())})
			at += 1 + random.Uint32N(1<<(1+n%13))
		}
		u.Limit = u.Base + profile.ObjAddr(at)
		draft, page := u.Draft(), uint64(0)
		err := new(tables).each(&draft, func(rows []unwind.Row) error {
			if len(rows) == 0 || uint64(rows[0].Addr) > page || len(rows) > 1 && uint64(rows[1].Addr) <= page || uint64(rows[len(rows)-1].Addr) >= page+pageSize {
				t.Fatalf("the page at %#x has the rows %v", page, rows)
			}
			for a := page; a < min(page+pageSize, uint64(at)); a++ {
				i := len(rows) - 1
				for uint64(rows[i].Addr) > a {
					i--
				}
				if want := u.Rule(u.Base + profile.ObjAddr(a)); rows[i].Rule != want {
					t.Fatalf("at %#x: %v, want %v", a, rows[i].Rule, want)
				}
			}
			page += pageSize
			return nil
		})
		if err != nil || page < uint64(at) || page >= uint64(at)+pageSize {
			t.Fatalf("%v: pages up to %#x of a table up to %#x", err, page, at)
		}
	}
}

// ruleInKernel finds a rule in the maps as the kernel side does (find_rule in
// bpf/unwind.h).
func ruleInKernel(t *testing.T, s *BPF, id TableID, a profile.ObjAddr) unwind.Rule {
	t.Helper()
	rel := uint32(a - id.Base)
	if rel/pageSize >= id.pages {
		return unwind.Rule(unwind.OpNone)
	}
	page := id.page + rel/pageSize
	var b bpf.SampleBlock
	if err := s.tabled.maps.pages.Lookup(page/blockPages, &b); err != nil {
		t.Fatal(err)
	}
	where := b.Page[page%blockPages]
	var c bpf.SampleChunk
	if err := s.tabled.maps.rows.Lookup(where>>18, &c); err != nil {
		t.Fatal(err)
	}
	rows := c.Rows[where>>9&511:][:where&511]
	i := sort.Search(len(rows), func(i int) bool { return rows[i].Addr > rel })
	return unwind.Rule(rows[max(i, 1)-1].Rule)
}

// Tables far beyond what the walk was loaded with find room, and those from
// before are where they were.
func TestTablesGrow(t *testing.T) {
	s := open(t, 1)
	rnd := rand.New(rand.NewPCG(1, 2))
	var tables []unwind.Table
	var ids []TableID
	for n := range 6 {
		u := unwind.Table{Base: profile.ObjAddr(0x1000 * n)}
		at := uint32(0)
		for i := range 20_000 * (n + 1) {
			u.Rows = append(u.Rows, unwind.Row{Addr: at, Rule: unwind.Rule(i%5000+1)<<12 | unwind.Rule(unwind.OpSP)})
			at += 1 + rnd.Uint32N(60)
		}
		u.Limit = u.Base + profile.ObjAddr(at)
		id, err := s.addTable(&u)
		if err != nil {
			t.Fatal(err)
		}
		tables, ids = append(tables, u), append(ids, id)
	}
	for i := range tables {
		u := &tables[i]
		for range 300 {
			a := u.Base + profile.ObjAddr(rnd.Uint64N(uint64(u.Limit-u.Base)))
			if got, want := ruleInKernel(t, s, ids[i], a), u.Rule(a); got != want {
				t.Fatalf("table %d at %v: %v in the kernel, want %v", i, a, got, want)
			}
		}
	}
}

// More than the page index can name is refused; what is there stays.
func TestTablesFull(t *testing.T) {
	s := open(t, 1)
	small := unwind.Table{Limit: 64, Rows: []unwind.Row{{Rule: unwind.Rule(unwind.OpRoot)}}}
	id, err := s.addTable(&small)
	if err != nil {
		t.Fatal(err)
	}
	huge := unwind.Table{Limit: 1 << 30}
	for i := range uint32(maxChunks * chunkRows) {
		huge.Rows = append(huge.Rows, unwind.Row{Addr: i * 4, Rule: unwind.Rule(i & 1)})
	}
	if _, err := s.addTable(&huge); !errors.Is(err, ErrNoRoom) {
		t.Fatalf("got %v, want ErrNoRoom", err)
	}
	if got := ruleInKernel(t, s, id, 32); got != unwind.Rule(unwind.OpRoot) {
		t.Errorf("got %v", got)
	}
}

// Children share their parent's description until they have another; none is
// ever lost, however many come and go.
func TestSpacesAreShared(t *testing.T) {
	s := open(t, 4)
	all := len(s.spaces.free)
	const parent = 1 << 23 // no such processes
	if err := s.AddTarget(parent); err != nil {
		t.Fatal(err)
	}
	ms := func() []Mapping { return []Mapping{{Start: 0x1000, Limit: 0x2000}} }
	if err := s.SetMappings(parent, ms()); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		pid := parent + 1 + i
		if err := s.AddChild(pid, parent); err != nil {
			t.Fatal(err)
		}
		if s.targets[pid] != s.targets[parent] {
			t.Fatal("a child has not its parent's mappings")
		}
		if i%2 == 0 {
			if err := s.SetMappings(pid, ms()); err != nil {
				t.Fatal(err)
			}
			if s.targets[pid] == s.targets[parent] {
				t.Fatal("a child that maps something else changes its parent's mappings")
			}
		}
		if i%3 == 0 {
			if err := s.SetMappings(parent, ms()); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.RemoveTarget(pid); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(s.spaces.free); got != all-1 {
		t.Errorf("%d spaces are free, want %d", got, all-1)
	}
	for i := range all {
		err := s.AddChild(parent+1+i, parent)
		if err == nil {
			err = s.SetMappings(parent+1+i, ms())
		}
		if want := i == all-1; errors.Is(err, ErrNoRoom) != want {
			t.Errorf("child %d of %d that differ: %v", i, all, err)
		}
	}
	if err := s.RemoveTarget(parent); err != nil {
		t.Fatal(err)
	}
}

// Too many mappings: all addresses stay covered, and of the tables those of the
// biggest stay.
func TestFit(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for _, tabled := range []float64{0, 0.1, 0.6, 1} {
		for _, n := range []int{1, 16, 17, 40, 1000} {
			var ms, all []Mapping
			at := profile.Addr(0x1000)
			for i := range n {
				m := Mapping{Start: at, Limit: at + 0x1000*profile.Addr(1+rnd.IntN(9))}
				if rnd.Float64() < tabled {
					m.Table = &TableID{page: uint32(i)}
				}
				at = m.Limit + 0x1000*profile.Addr(rnd.IntN(3))
				ms = append(ms, m)
			}
			all = append(all, ms...)
			got := fit(ms, 16)
			if len(got) > 16 {
				t.Fatalf("%d of %d mappings, want at most 16", len(got), n)
			}
			if n <= 16 && !slices.Equal(got, all) {
				t.Fatalf("%d mappings that fit were changed", n)
			}
			kept := 0
			for _, m := range all {
				i := slices.IndexFunc(got, func(g Mapping) bool { return g.Start <= m.Start && m.Limit <= g.Limit })
				if i < 0 {
					t.Fatalf("%v-%v is in no mapping any more", m.Start, m.Limit)
				}
				if got[i].Table != nil {
					kept++
					if got[i] != m {
						t.Fatalf("%+v got the table of %+v", m, got[i])
					}
				}
			}
			if tabled == 0.1 && n == 40 && kept == 0 {
				t.Error("no table was kept, though a few have room")
			}
		}
	}
}

// SPDX-License-Identifier: Apache-2.0

package symbol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// perfMapFile is a map on disk, as a process writes it.
type perfMapFile struct {
	*os.File
	reads int // bytes
}

func newPerfMapFile(t testing.TB, text string) *perfMapFile {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "perf-1.map"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	p := &perfMapFile{File: f}
	p.write(t, text)
	return p
}

func (f *perfMapFile) write(t testing.TB, text string) {
	t.Helper()
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

func (f *perfMapFile) ReadAt(b []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(b, off)
	f.reads += n
	return n, err
}

func (f *perfMapFile) size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (f *perfMapFile) open() *PerfMap { return NewPerfMap(f, f.size) }

// find asks a source for addresses, which are sorted.
func find(t testing.TB, s Source, addrs ...profile.ObjAddr) []string {
	t.Helper()
	names := make([]string, len(addrs))
	if err := s.Find(addrs, func(i int, sym Symbol) {
		names[i] = sym.Name
		if addrs[i] < sym.Start || addrs[i] >= sym.Limit {
			t.Errorf("%v: outside of %+v", addrs[i], sym)
		}
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

func findNames(t testing.TB, s Source, want map[profile.ObjAddr]string) {
	t.Helper()
	addrs := []profile.ObjAddr{}
	for a := range want {
		addrs = append(addrs, a)
	}
	slices.Sort(addrs)
	got := map[profile.ObjAddr]string{}
	for i, name := range find(t, s, addrs...) {
		got[addrs[i]] = name
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestPerfMap(t *testing.T) {
	f := newPerfMapFile(t, "1000 100 first\n"+
		"0x2000 0x10 written with 0x\n"+
		"2010 10   JS:*f /a b/c.js:1:2 \n"+
		"1080 100 over the end of the first\n"+
		"00000000000030A0 fF capitals and zeros\n"+
		"3200 0 nothing\n3200 -1 negative\n-3200 10 negative\n3200 10\n3200\n\n3200 10 \n3200  x\nnonsense\n"+
		"3200 10000000000000000 too long\n3200 g no number\n"+
		"fffffffffffffff0 ffffffffffffffff up to the end of all\n"+
		"4000 10 crlf\r\n"+
		"5000 10 "+strings.Repeat("long", maxName)+"\n"+
		"5100 10 "+strings.Repeat("longer than the buffer", chunkSize)+"\n"+
		"6000 10 the last\n7000 10 unfinish")
	findNames(t, f.open(), map[profile.ObjAddr]string{
		0xfff: "", 0x1000: "first", 0x107f: "first", 0x1080: "over the end of the first", 0x117f: "over the end of the first", 0x1180: "",
		0x2000: "written with 0x", 0x200f: "written with 0x", 0x2010: "JS:*f /a b/c.js:1:2 ", 0x2020: "",
		0x309f: "", 0x30a0: "capitals and zeros", 0x319e: "capitals and zeros", 0x319f: "", 0x3200: "", 0x4000: "crlf\r",
		0x5000: strings.Repeat("long", maxName/4), 0x5100: strings.Repeat("longer than the buffer", chunkSize)[:maxName],
		0x6000: "the last", 0x7000: "", 0xffffffffffffffef: "", 0xfffffffffffffff0: "up to the end of all", 0xfffffffffffffffe: "up to the end of all",
	})
}

// What is written later holds, whether it was there from the beginning or came
// while names were looked for, and an address that is new needs what was read
// before it.
func TestPerfMapGrows(t *testing.T) {
	f := newPerfMapFile(t, "1000 100 old\n2000 100 other\n3000 1")
	m := f.open()
	findNames(t, m, map[profile.ObjAddr]string{0x1000: "old", 0x3000: "", 0x4000: ""})
	f.write(t, "00 finished\n1000 10 new\n4000 10 late\n")
	findNames(t, m, map[profile.ObjAddr]string{0x1000: "new", 0x3000: "finished", 0x4000: "late"})
	findNames(t, m, map[profile.ObjAddr]string{0x1010: "old", 0x1000: "new", 0x2000: "other", 0x4000: "late"})

	f.reads = 0
	findNames(t, m, map[profile.ObjAddr]string{0x1000: "new"})
	if size, _ := f.size(); int64(f.reads) > size+100 {
		t.Errorf("%d bytes were read although nothing is new", f.reads)
	}
	// jcmd Compiler.perfmap writes the file anew, over the old one.
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	f.Seek(0, io.SeekStart)
	f.write(t, "1000 10 rewritten\n"+strings.Repeat("8000 10 filling up\n", 100)+"2000 10 again\n")
	findNames(t, m, map[profile.ObjAddr]string{0x1000: "rewritten", 0x1010: "", 0x2000: "again", 0x3000: "", 0x4000: ""})
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	findNames(t, m, map[profile.ObjAddr]string{0x1000: "", 0x2000: ""})
}

// Where a map only grows, only what is new is read of it.
func TestPerfMapReadsWhatIsNew(t *testing.T) {
	f := newPerfMapFile(t, strings.Repeat("8000 10 filling up\n", 200_000))
	m := f.open()
	findNames(t, m, map[profile.ObjAddr]string{0x8000: "filling up", 0x9000: ""})
	f.write(t, "9000 10 new\n")
	f.reads = 0
	findNames(t, m, map[profile.ObjAddr]string{0x8000: "filling up", 0x9000: "new"})
	if f.reads > chunkSize {
		t.Errorf("%d bytes were read for one new line", f.reads)
	}
}

// The same as the obvious way to do it: going through all lines for each
// address.
func TestPerfMapAgainstAll(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		start, size uint64
		name        string
	}
	for range 50 {
		f := newPerfMapFile(t, "")
		m := f.open()
		var all []entry
		for step := range 4 {
			var text strings.Builder
			for range r.IntN(300) {
				e := entry{r.Uint64N(5000), r.Uint64N(1 << r.Uint64N(12)), fmt.Sprint("f", len(all))}
				all = append(all, e)
				fmt.Fprintf(&text, "%x %x %s\n", e.start, e.size, e.name)
			}
			f.write(t, text.String())
			want := map[profile.ObjAddr]string{}
			for range 100 * (step + 1) {
				a := r.Uint64N(6000)
				want[profile.ObjAddr(a)] = ""
				for _, e := range slices.Backward(all) {
					if e.start <= a && a < e.start+e.size {
						want[profile.ObjAddr(a)] = e.name
						break
					}
				}
			}
			findNames(t, m, want)
		}
	}
}

// Whatever somebody writes: time by its size, memory by the number of
// addresses.
func TestHostilePerfMaps(t *testing.T) {
	const size = 64 << 20
	addrs := make([]profile.ObjAddr, 5000)
	for i := range addrs {
		addrs[i] = profile.ObjAddr(i * 16)
	}
	everything := []byte("0 ffffffffffffffff f\n")
	for name, c := range map[string]struct {
		line []byte
		want string
	}{
		"a line without end":               {[]byte("a"), ""},
		"zeros":                            {[]byte{0}, ""},
		"newlines":                         {[]byte{'\n'}, ""},
		"all covers everything":            {everything, "f"},
		"a number without end":             {[]byte("0"), ""},
		"a name without end, and no entry": {[]byte("0 10 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := repeated{c.line}
			n := int64(size - size%len(c.line))
			m := NewPerfMap(r, func() (int64, error) { return n, nil })
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			found := 0
			for range 2 {
				if err := m.Find(addrs, func(_ int, s Symbol) {
					if found++; c.want != "" && s.Name != c.want {
						t.Fatalf("found %q", s.Name)
					}
				}); err != nil {
					t.Fatal(err)
				}
			}
			runtime.ReadMemStats(&after)
			if c.want != "" && found != 2*len(addrs) {
				t.Errorf("found %d names, want %d", found, 2*len(addrs))
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 4<<20 {
				t.Errorf("%d bytes allocated for a file of %d", got, n)
			}
		})
	}
}

// repeated is a file of any size that is the same again and again.
type repeated struct{ unit []byte }

func (r repeated) ReadAt(b []byte, off int64) (int, error) {
	for i := range b {
		b[i] = r.unit[(off+int64(i))%int64(len(r.unit))]
	}
	return len(b), nil
}

// Of a map that is too big the end is read, because that is what is true now.
func TestGiantPerfMap(t *testing.T) {
	f := newPerfMapFile(t, "1000 10 beginning\n")
	if err := f.Truncate(maxPerfMap + 1000); err != nil { // a hole of zeros: one long line
		t.Fatal(err)
	}
	f.Seek(0, io.SeekEnd)
	f.write(t, "\n2000 10 end\n")
	findNames(t, f.open(), map[profile.ObjAddr]string{0x1000: "", 0x2000: "end"})
}

func TestPerfMapUnreadable(t *testing.T) {
	f := newPerfMapFile(t, "1000 10 f\n")
	m := f.open()
	f.Close()
	if err := m.Find([]profile.ObjAddr{0x1000}, func(int, Symbol) { t.Error("found a name") }); !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want that it is closed", err)
	}
}

// Code without an object: each process has names of its own for it, and memory
// with a name that holds no object is no object's.
func TestRunTimeCode(t *testing.T) {
	b := profile.NewBuilder()
	anonymous := profile.Mapping{Start: 0x1000, Limit: 0x2000, Kind: profile.MappingAnonymous}
	one, other, none := b.Mapping(anonymous), b.Mapping(anonymous), b.Mapping(anonymous)
	memfd := b.Mapping(profile.Mapping{Start: 0x3000, Limit: 0x4000, Path: "/memfd:doublemapper"})
	for _, m := range []profile.MappingID{one, other, none} {
		b.Address(0x1010, m, false)
		b.Address(0x1020, m, true) // returns to what comes after the function
	}
	b.Address(0x3010, memfd, false)
	b.Address(0x3fff, memfd, false)
	first := &RunTimeCode{Sources: []Source{newPerfMapFile(t, "1010 10 f\n3000 20 g\n").open()}, Err: ErrNotWritten}
	second := &RunTimeCode{Sources: []Source{newPerfMapFile(t, "").open(), newPerfMapFile(t, "1000 100 h\n").open()}, Err: ErrNotWritten}
	r := &Resolver{
		Open: func(profile.MappingID) (*object.File, error) {
			return object.New(strings.NewReader("nothing of the sort, but long enough to have a header of an ELF file"), 64)
		},
		RunTime: func(id profile.MappingID) *RunTimeCode {
			return map[profile.MappingID]*RunTimeCode{one: first, other: second, memfd: first}[id]
		},
	}
	p := b.Profile()
	problems := r.Resolve(p, nil)
	want := []string{"f", "f", "h", "h", "[anonymous]", "[anonymous]", "g", "[anonymous]"}
	if got := namesOf(p); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if m := p.Mapping(memfd); m.Kind != profile.MappingAnonymous {
		t.Errorf("%+v is taken for an object", m)
	}
	if len(problems) != 2 || problems[0].Addresses != 2 || !errors.Is(problems[0].Err, ErrAnonymous) ||
		problems[1].Addresses != 1 || !errors.Is(problems[1].Err, ErrNotWritten) {
		t.Errorf("problems %v", problems)
	}
}

func TestRemedies(t *testing.T) {
	b := profile.NewBuilder()
	b.Address(0x1010, b.Mapping(profile.Mapping{Start: 0x1000, Limit: 0x2000, Kind: profile.MappingAnonymous}), false)
	code := &RunTimeCode{Err: fmt.Errorf("why: %w", &Remedied{ErrAnonymous, "do this"})}
	problems := (&Resolver{RunTime: func(profile.MappingID) *RunTimeCode { return code }}).Resolve(b.Profile(), nil)
	if len(problems) != 1 || problems[0].Remedy != "do this" || !strings.HasSuffix(problems[0].String(), "; do this") {
		t.Errorf("problems %v", problems)
	}
}

func FuzzPerfMap(f *testing.F) {
	f.Add([]byte("1000 100 first\n1080 100 b c\n"), 5)
	f.Add([]byte("0x0 0xffffffffffffffff x\n\n0 1\n0 1 \n-1 -1 -\n"), 0)
	f.Add([]byte("1000 1"), 3)
	f.Add([]byte("2 1 0\n1010 100 00"), 6)
	addrs := []profile.ObjAddr{0, 1, 0x1000, 0x1080, 0x10ff, 0x1180, 1 << 40, ^profile.ObjAddr(0)}
	f.Fuzz(func(t *testing.T, b []byte, at int) {
		// In one go, or in two, the answers are the same.
		size := int64(len(b))
		m := NewPerfMap(bytes.NewReader(b), func() (int64, error) { return size, nil })
		whole := find(t, m, addrs...)
		size = int64(min(max(at, 0), len(b)))
		m = NewPerfMap(bytes.NewReader(b), func() (int64, error) { return size, nil })
		find(t, m, addrs[:4]...)
		size = int64(len(b))
		if d := cmp.Diff(whole, find(t, m, addrs...)); d != "" {
			t.Errorf("read in two parts: %s", d)
		}
	})
}

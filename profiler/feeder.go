// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// feeder gives the kernel the unwind tables of what the targets have mapped,
// beside the sampling, which never waits for it: a mapping whose table is not
// there yet is walked by frame pointer.
type feeder struct {
	c       *collector
	dirty   chan struct{} // mappings have changed
	stop    chan struct{}
	done    sync.WaitGroup
	tables  map[*object.File]fed
	warning string // of the first table that could not be had
}

// fed is what the kernel has of one object: a table for each executable segment.
type fed struct {
	tables []unwind.Table // ranges only; the rows are in the kernel
	ids    []sampler.TableID
}

// settle is how long the feeder waits for a burst of new mappings to end.
const settle = 2 * time.Millisecond

func newFeeder(c *collector) *feeder {
	return &feeder{c: c, dirty: make(chan struct{}, 1), stop: make(chan struct{}), tables: map[*object.File]fed{}}
}

// changed says that some target has other mappings now.
func (f *feeder) changed() {
	select {
	case f.dirty <- struct{}{}:
	default: // it is said already
	}
}

// run feeds what is there, then what changes.
func (f *feeder) run(s *sampler.Sampler) {
	f.done.Go(func() {
		if err := f.begin(s); err != nil {
			f.warning = fmt.Sprintf("user stacks are walked by frame pointer: %v", err)
			return
		}
		for {
			if err := f.feed(s); err != nil && f.warning == "" {
				f.warning = fmt.Sprintf("some code is walked by frame pointer: %v", err)
			}
			select {
			case <-f.stop:
				return
			case <-f.dirty:
				time.Sleep(settle)
			}
		}
	})
}

func (f *feeder) end() {
	close(f.stop)
	f.done.Wait()
}

// begin loads the walk, with room for the tables of all that is mapped now and
// some that may come.
func (f *feeder) begin(s *sampler.Sampler) error {
	rows, code := 0, 0
	for _, file := range f.files() {
		rows += unwind.Bound(file)
		for _, seg := range file.Segments() {
			if seg.Executable() {
				code += int(min(seg.MemSize, 1<<32))
			}
		}
	}
	const spareRows, spareCode = 50_000, 8 << 20 // a libc and a few more, by dlopen
	if err := s.OpenTables(rows+rows/8+spareRows, code+code/8+spareCode); err != nil {
		return err
	}
	f.c.mu.Lock()
	f.c.meta.UserStacks = sampler.WalkTables
	f.c.mu.Unlock()
	return nil
}

// files are the distinct objects mapped by the targets, those with the least
// work first, so that a giant one keeps nobody waiting but itself.
func (f *feeder) files() []*object.File {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	var files []*object.File
	for _, t := range f.c.targets {
		for m := range t.space.All() {
			if r := f.c.objects.get(t, &m.Mapping); r.object != nil && !slices.Contains(files, r.object) {
				files = append(files, r.object)
			}
		}
	}
	slices.SortStableFunc(files, func(a, b *object.File) int { return cmp.Compare(unwind.Bound(a), unwind.Bound(b)) })
	return files
}

// feed builds what tables are missing, telling the kernel after each.
func (f *feeder) feed(s *sampler.Sampler) error {
	var first error
	for _, file := range f.files() {
		if _, ok := f.tables[file]; ok {
			continue
		}
		select {
		case <-f.stop:
			return nil
		default:
		}
		if err := f.add(s, file); err != nil && first == nil {
			first = err
		}
		f.outdate()
		if err := f.tell(s); err != nil && first == nil {
			first = err
		}
	}
	if err := f.tell(s); err != nil && first == nil {
		first = err
	}
	return first
}

// outdate makes tell describe all targets again, because there is a new table.
func (f *feeder) outdate() {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	for _, t := range f.c.targets {
		t.told = false
	}
}

// add builds an object's tables and puts them into the kernel. An object
// without call frame information has none, which is no error.
func (f *feeder) add(s *sampler.Sampler, file *object.File) error {
	f.tables[file] = fed{}
	tables, _, err := unwind.Build(file)
	if err != nil {
		return err
	}
	var got fed
	for i := range tables {
		id, err := s.AddTable(&tables[i])
		if err != nil {
			return err
		}
		got.ids = append(got.ids, id)
		got.tables = append(got.tables, unwind.Table{Base: tables[i].Base, Limit: tables[i].Limit})
	}
	f.tables[file] = got
	return nil
}

// tell describes the mappings of the targets that changed.
func (f *feeder) tell(s *sampler.Sampler) error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	var first error
	for pid, t := range f.c.targets {
		if !t.running || t.told {
			continue
		}
		t.told = true
		var ms []sampler.Mapping
		for m := range t.space.All() {
			ms = append(ms, f.mapping(t, &m.Mapping))
		}
		if err := s.SetMappings(pid, ms); err != nil && first == nil {
			first = err
		}
	}
	return first
}

func (f *feeder) mapping(t *target, m *process.Mapping) sampler.Mapping {
	out := sampler.Mapping{Start: m.Start, Limit: m.Limit}
	file := f.c.objects.get(t, m).object
	if file == nil {
		return out
	}
	obj, ok := file.ObjAddr(&m.Mapping, m.Start)
	if !ok {
		return out
	}
	got := f.tables[file]
	for i := range got.tables {
		// A mapping begins on a page boundary, maybe before its segment.
		if obj < got.tables[i].Limit && got.tables[i].Base < obj+profile.ObjAddr(m.Limit-m.Start) {
			out.Bias = m.Start - profile.Addr(obj)
			out.Table = &got.ids[i]
		}
	}
	return out
}

// room is how many targets may have their mappings in the kernel at once.
func (c *collector) room() int {
	if c.spec.Children {
		return len(c.targets) + 64
	}
	return len(c.targets)
}

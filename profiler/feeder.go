// SPDX-License-Identifier: Apache-2.0

package profiler

import (
	"cmp"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/process"
	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/sampler"
	"github.com/carverauto/serviceradar-profiler/unwind"
)

// feeder gives the kernel the unwind tables of what the targets have mapped,
// beside the sampling, which never waits for it: a mapping whose table is not
// there yet is walked by frame pointer.
//
// Two goroutines share the work. The one that hears notices tells the kernel
// at once what a target has mapped, with the tables that are there already;
// a process that lives for milliseconds has no time for more. The feeder's
// own builds tables that are missing, and then tells of the targets that they
// concern, and of no others.
type feeder struct {
	c       *collector
	wake    chan struct{} // there are objects to be fed
	stop    chan struct{}
	done    sync.WaitGroup
	sampler sampler.Tables
	cache   *unwind.Cache
	told    func() // after there came tables
	warning string // of the first table that could not be had
	large   bool   // tables were made that took some megabytes

	walks bool // guarded by collector.mu: the walk is loaded, the kernel can be told
}

func newFeeder(c *collector, r *Recorder) *feeder {
	return &feeder{c: c, cache: r.tables, told: r.spare.another, wake: make(chan struct{}, 1), stop: make(chan struct{})}
}

// changed says that there may be objects to be fed.
func (f *feeder) changed() {
	select {
	case f.wake <- struct{}{}:
	default: // it is said already
	}
}

// run feeds what is there, then what comes.
func (f *feeder) run(s sampler.Tables) {
	f.sampler = s
	f.done.Go(func() {
		if err := f.begin(); err != nil {
			f.warning = fmt.Sprintf("user stacks are walked by frame pointer: %v", err)
			return
		}
		for {
			if err := f.feed(); err != nil && f.warning == "" {
				f.warning = fmt.Sprintf("some code is walked by frame pointer: %v", err)
			}
			f.told() // the spare may lack room for them
			if f.large {
				f.large = false
				debug.FreeOSMemory() // of what they were made from
			}
			select {
			case <-f.stop:
				return
			case <-f.wake:
			}
		}
	})
}

func (f *feeder) end() {
	close(f.stop)
	f.done.Wait()
}

// begin loads the walk, with room for the tables of all that is mapped now and
// some that may come. What the kernel has tables of, from other sessions, is
// walked by them at once.
func (f *feeder) begin() error {
	f.c.mu.Lock()
	todo := f.c.objects.unfed
	f.c.objects.unfed = nil
	f.c.mu.Unlock()
	var needs []sampler.TableNeed
	var fed [][]sampler.TableID
	var unfed, kept []*opened
	for _, o := range todo {
		file, err := o.get()
		if err != nil {
			unfed = append(unfed, o)
			continue
		}
		key := unwind.KeyOf(file, o.id)
		ids, ok, err := f.sampler.UseTables(key)
		if err != nil {
			return err
		}
		if ok {
			fed, kept = append(fed, ids), append(kept, o)
			continue
		}
		unfed = append(unfed, o)
		// Of the rows there are half as many as a rule; for more there is
		// made more room later.
		needs = append(needs, sampler.TableNeed{Key: key, Rows: unwind.Bound(file) / 2, Code: codeOf(file)})
	}
	err := f.sampler.OpenTables(needs...)
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	f.c.objects.unfed = append(f.c.objects.unfed, unfed...)
	if err != nil {
		return err
	}
	for i, o := range kept {
		o.fed, o.looked = fed[i], true
	}
	f.c.meta.UserStacks = sampler.WalkTables
	f.walks = true
	return f.tell()
}

// codeOf is how many bytes of code an object has.
func codeOf(file *object.File) (code int) {
	for _, seg := range file.Segments() {
		if seg.Executable() {
			code += int(min(seg.MemSize, 1<<32))
		}
	}
	return code
}

// feed builds the tables that are missing, those with the least work first, so
// that a giant one keeps nobody waiting but itself.
func (f *feeder) feed() error {
	var todo []*opened
	var first error
	for {
		f.c.mu.Lock()
		todo = append(todo, f.c.objects.unfed...)
		f.c.objects.unfed = nil
		f.c.mu.Unlock()
		todo = slices.DeleteFunc(todo, f.unreadable)
		if len(todo) == 0 {
			return first
		}
		slices.SortStableFunc(todo, func(a, b *opened) int { return cmp.Compare(unwind.Bound(a.object), unwind.Bound(b.object)) })
		select {
		case <-f.stop:
			return first
		default:
		}
		if err := f.add(todo[0]); err != nil && first == nil {
			first = err
		}
		todo = todo[1:]
	}
}

// unreadable says whether an object cannot be read, so never has a table.
func (f *feeder) unreadable(o *opened) bool {
	if _, err := o.get(); err == nil {
		return false
	}
	f.c.mu.Lock()
	o.looked = true
	f.c.mu.Unlock()
	return true
}

// add puts an object's tables into the kernel and tells of the targets that
// have it mapped. An object without call frame information has none, which is
// no error.
func (f *feeder) add(o *opened) error {
	key := unwind.KeyOf(o.object, o.id)
	fed, ok, err := f.sampler.UseTables(key)
	if !ok {
		fed, err = f.build(o.object, key)
	}
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	o.fed, o.looked = fed, true
	for _, t := range f.c.targets {
		if t.maps(o) {
			t.told = false
		}
	}
	return cmp.Or(err, f.tell())
}

// largeTable is about a megabyte of rows, for which twice as much is needed.
const largeTable = 1 << 18

func (f *feeder) build(file *object.File, key unwind.Key) ([]sampler.TableID, error) {
	tables, err := f.cache.Tables(file, key)
	if err != nil {
		return nil, err
	}
	f.large = f.large || unwind.Bound(file) >= largeTable
	return f.sampler.AddTables(key, tables)
}

// tell describes the mappings of the targets that changed. collector.mu is held.
func (f *feeder) tell() error {
	if !f.walks {
		return nil // once it is loaded all are told
	}
	var first error
	for pid, t := range f.c.targets {
		if !t.running || t.told {
			continue
		}
		t.told = true
		ms := make([]sampler.Mapping, 0, t.space.Len())
		for m := range t.space.All() {
			ms = append(ms, describeMapping(&m.Mapping, m.Of.object))
		}
		if err := f.sampler.SetMappings(pid, ms); err != nil && first == nil {
			first = err
		}
	}
	return first
}

// describeMapping says what the kernel needs to know of a mapping.
func describeMapping(m *process.Mapping, o *opened) sampler.Mapping {
	out := sampler.Mapping{Start: m.Start, Limit: m.Limit, Pending: o != nil && !o.looked}
	if o == nil || len(o.fed) == 0 {
		return out
	}
	// Not the ObjAddr of its start, which may be the segment before's: linkers
	// other than GNU's (lld, so Rust's) give each segment a bias of its own.
	bias, ok := o.object.Bias(&m.Mapping)
	if !ok {
		return out
	}
	obj := profile.ObjAddr(uint64(m.Start) - bias)
	for i := range o.fed {
		t := &o.fed[i]
		// A mapping begins on a page boundary, maybe before its segment.
		if obj < t.Limit && t.Base < obj+profile.ObjAddr(m.Limit-m.Start) {
			out.Bias = m.Start - profile.Addr(obj)
			out.Table = t
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

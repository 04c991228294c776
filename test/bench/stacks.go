// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
)

// Frequencies of the comparison: perf copies 8 KB of stack a sample, and at 499
// Hz it would be what the target mostly waits for.
const (
	ourFrequency  = 499
	perfFrequency = 99
)

// wholeStacks compares the stacks of real programs under real load with those
// of perf record --call-graph dwarf, taken at the same time of the same process.
func (b *bench) wholeStacks() error {
	if !b.tools["perf"] {
		return errors.New("there is nothing to compare with: perf is not installed")
	}
	out := table{title: "Whole stacks: real programs", columns: []string{"program", "samples", "complete, by the walk", "at a root, by the last frame", "perf: samples", "at a root", "hottest functions alike", "chance alone", "after chance", "the others ended"}}
	for _, p := range b.realPrograms() {
		if len(b.programs) > 0 && !slices.Contains(b.programs, p.name) {
			continue
		}
		tg, err := p.start()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		c, err := b.compareStacks(tg)
		tg.stop()
		if err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
		out.row(c.cells(p.name)...)
		if b.dump {
			c.dump(os.Stderr)
		}
	}
	out.note("srprof at %d Hz and perf record --call-graph dwarf at %d Hz, both for %s on the same processes at the same time. "+
		"Frame pointer only, and most of no table: samples of the first moments, before the tables were made. "+
		"At a root: the last frame lies in code whose own call frame information says that it has no caller (_start, clone, clone3), judged by address and the same for both; perf may have 1,024 frames. "+
		"Functions: the sum of the smaller of both shares, by leaf; code without a name counts by its page of 4 KB. "+
		"Chance alone: what two draws of these sizes from one distribution have in common, the mean of %d.",
		ourFrequency, perfFrequency, b.lasts, draws)
	out.print()
	return nil
}

// realTarget is one or more processes to compare on, and their end.
type realTarget struct {
	pids []int
	stop func()
}

// comparison is what one program gave.
type comparison struct {
	images                    images
	ours                      []stack
	perfs                     []stack
	complete                  float64            // share by the walk's own account
	one, other                map[string]float64 // samples by function: ours, perf's
	overlap, chance, leftover float64
	ends                      map[string]uint64
}

func (b *bench) compareStacks(tg *realTarget) (*comparison, error) {
	time.Sleep(b.warm) // until it does what it will do
	perf, err := b.begin(b.perfDwarf()...)
	if err != nil {
		return nil, err
	}
	time.Sleep(settle)
	ours, err := b.begin(b.record(tg.pids, ourFrequency, b.lasts, "stacks.pb.gz")...)
	if err != nil {
		return nil, err
	}
	if err := ours.wait(); err != nil {
		return nil, err
	}
	c := &comparison{}
	// What is mapped now; both tools saw these processes all the time.
	if c.images, err = readImages(tg.pids); err != nil {
		return nil, err
	}
	perf.interrupt()
	m, err := b.metadata()
	if err != nil {
		return nil, err
	}
	c.account(m)
	if c.ours, err = readPprof(b.file("stacks.pb.gz")); err != nil {
		return nil, err
	}
	if c.perfs, err = b.readPerf(tg.pids, c.images); err != nil {
		return nil, err
	}
	if len(c.ours) == 0 || len(c.perfs) == 0 {
		return nil, fmt.Errorf("no samples: %d of srprof's stacks, %d of perf's", len(c.ours), len(c.perfs))
	}
	c.one, c.other = c.images.functions(c.ours, c.perfs)
	c.overlap, c.chance = overlap(c.one, c.other), chance(c.one, c.other)
	c.leftover = 1 - max(0, c.chance-c.overlap)
	return c, nil
}

// account takes the walk's own word for how stacks ended.
func (c *comparison) account(m *profile.Metadata) {
	c.ends = m.Ends
	var all uint64
	for _, n := range m.Ends {
		all += n
	}
	c.complete = float64(m.Ends[profile.EndRoot.String()]) / float64(all)
}

// atRoot counts the samples with a user part, and those of them whose last
// frame is a root.
func (c *comparison) atRoot(stacks []stack) (user, root float64) {
	for i := range stacks {
		s := &stacks[i]
		last, ok := s.last()
		if !ok {
			continue
		}
		user += s.count
		if c.images.isRoot(s.pid, last) {
			root += s.count
		}
	}
	return user, root
}

func (c *comparison) cells(name string) []string {
	percent := func(v float64) string { return number(100*v, 2, " %") }
	user, root := c.atRoot(c.ours)
	perfUser, perfRoot := c.atRoot(c.perfs)
	return []string{
		name, number(user, 0, ""), percent(c.complete), percent(root / user), number(perfUser, 0, ""), percent(perfRoot / perfUser),
		number(100*c.overlap, 1, " %"), number(100*c.chance, 1, " %"), number(100*c.leftover, 1, " %"),
		c.others(),
	}
}

// others says how the incomplete stacks ended, by the walk's own account.
func (c *comparison) others() string {
	var all []string
	for _, end := range slices.Sorted(maps.Keys(c.ends)) {
		if end != profile.EndRoot.String() {
			all = append(all, fmt.Sprintf("%s %d", end, c.ends[end]))
		}
	}
	if len(all) == 0 {
		return missing
	}
	return strings.Join(all, ", ")
}

// dump writes where the stacks that did not reach their root ended, and which
// functions the tools disagree on most.
func (c *comparison) dump(w io.Writer) {
	fmt.Fprintf(w, "srprof's ends: %v\n", c.ends)
	c.dumpSide(w, "srprof", c.ours)
	c.dumpSide(w, "perf", c.perfs)
	differ := map[string]float64{}
	for _, m := range []map[string]float64{c.one, c.other} {
		for k := range m {
			differ[k] = c.one[k]/sum(c.one) - c.other[k]/sum(c.other)
		}
	}
	for _, k := range largest(differ, 10) {
		fmt.Fprintf(w, "%+.2f %% of srprof's (%.0f) beside perf's (%.0f): %s\n", 100*differ[k], c.one[k], c.other[k], k)
	}
}

func (c *comparison) dumpSide(w io.Writer, name string, stacks []stack) {
	const places, frames = 12, 40
	sums, example := map[string]float64{}, map[string]*stack{}
	for i := range stacks {
		s := &stacks[i]
		if last, ok := s.last(); ok && !c.images.isRoot(s.pid, last) {
			at := c.images.name(s.pid, last)
			sums[at] += s.count
			example[at] = s
		}
	}
	for _, at := range largest(sums, places) {
		s := example[at]
		fmt.Fprintf(w, "%s: %.0f end at %s, such as (%d)", name, sums[at], at, len(s.addresses))
		for _, a := range s.addresses[:min(len(s.addresses), frames)] {
			fmt.Fprintf(w, " %s", c.images.name(s.pid, a))
		}
		fmt.Fprintln(w)
	}
}

// largest returns the keys of the n values that are farthest from 0.
func largest(m map[string]float64, n int) []string {
	keys := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(math.Abs(m[b]), math.Abs(m[a])), cmp.Compare(a, b))
	})
	return keys[:min(len(keys), n)]
}

// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"cmp"
	"fmt"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// visit is what was seen of one variant of the zoo.
type visit struct {
	name    string
	samples uint64 // with a user stack
	late    uint64 // of those, of what was not known yet (programs.Variant.Late)
	equal   uint64 // to one that the source states
	ends    map[string]uint64
	full    []uint64          // so, for each stated stack down to its last frame
	other   map[string]uint64 // stacks that are equal to none
}

// before counts the samples taken before there were tables.
func (v *visit) before() uint64 { return v.ends[profile.EndFallback.String()] }

// share of equal stacks, once what runs is known. Samples from before there were
// tables are taken for such as are not equal: which they are is not written
// down; targets begin their work when there should be tables, so there are few
// or none. Late ones are those that do not reach the root, as far as their walk
// did not either.
func (v *visit) share() float64 {
	var short uint64
	for end, n := range v.ends {
		if end != profile.EndRoot.String() {
			short += n
		}
	}
	apart := max(min(v.late, short), v.before())
	return min(1, float64(v.equal)/float64(max(1, v.samples-min(apart, v.samples))))
}

func percent(part, all uint64) string {
	return fmt.Sprintf("%.2f %%", 100*float64(part)/float64(max(1, all)))
}

// TestZoo compares whole stacks, from the root to the leaf, of programs whose
// stacks are known. Each waits until sampling has begun and its tables can be
// in the kernel; what they load, fork and execute afterwards does not wait. The
// table has both figures: the share of all samples that is equal, and that of
// the samples taken once what ran was known, which is what is required.
//
//	go test -v -run TestZoo ./test/e2e     prints the table of docs/benchmarks.md
func TestZoo(t *testing.T) {
	var visits []*visit
	for i := range programs.Zoo {
		v := &programs.Zoo[i]
		t.Run(v.Name, func(t *testing.T) { visits = append(visits, visitOne(t, v)) })
	}
	t.Log("\n" + zooTable(visits))
}

// zooTable is Markdown.
func zooTable(visits []*visit) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 1, ' ', 0)
	fmt.Fprintln(w, "| program\t| samples\t| equal\t| equal, once known\t| whole\t| the rest ended |")
	fmt.Fprintln(w, "|---\t|---:\t|---:\t|---:\t|---:\t|--- |")
	for _, v := range visits {
		var rest []string
		var walked uint64
		for _, end := range slices.Sorted(maps.Keys(v.ends)) {
			walked += v.ends[end]
			if end != profile.EndRoot.String() {
				rest = append(rest, fmt.Sprintf("%s %d", end, v.ends[end]))
			}
		}
		fmt.Fprintf(w, "| %s\t| %d\t| %s\t| %.2f %%\t| %s\t| %s |\n", v.name, v.samples, percent(v.equal, v.samples), 100*v.share(),
			percent(v.ends[profile.EndRoot.String()], walked), strings.Join(rest, ", "))
	}
	_ = w.Flush() // into memory
	return b.String()
}

// visitOne records a variant until it is clear whether enough of its stacks
// are equal: a short recording has few samples, of which chance may spoil some.
// All recordings count.
func visitOne(t *testing.T, v *programs.Variant) *visit {
	program, err := programs.Read(v.Source)
	if err != nil {
		t.Fatal(err)
	}
	if v.Package != "" {
		need(t, v.Compiler, v.Package)
	} else {
		need(t, program.Compiler(), program.Compiler())
	}
	stacks, err := v.Stacks()
	if err != nil {
		t.Fatal(err)
	}
	path, err := v.Build(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	got := &visit{name: v.Name, ends: map[string]uint64{}, full: make([]uint64, len(stacks)), other: map[string]uint64{}}
	for _, round := range rounds {
		got.add(v, stacks, recordZoo(t, v, path, round.begins, round.duration))
		if got.share() >= v.Enough() && got.samples >= 200 && 100*got.before() <= got.samples && len(got.missing(stacks)) == 0 {
			break
		}
	}
	t.Logf("%d samples, %.2f %% equal, ends %v\n%s", got.samples, 100*got.share(), got.ends, got.unequal(5))
	if got.share() < v.Enough() || got.samples == 0 {
		t.Errorf("%.2f %% of %d stacks are equal to a stated one, want %.0f %%", 100*got.share(), got.samples, 100*v.Enough())
	}
	for _, s := range got.missing(stacks) {
		t.Errorf("no stack is %s", s)
	}
	return got
}

// missing are the stated stacks that no sample has down to the last frame.
// Without them shares would say little.
func (v *visit) missing(stacks []programs.StackPattern) (none []*programs.StackPattern) {
	for i, n := range v.full {
		if n == 0 && !stacks[i].Seldom {
			none = append(none, &stacks[i])
		}
	}
	return none
}

// rounds say how long a target waits for the tables, which on a busy machine may
// take longer, and how long it works then.
var rounds = []struct{ begins, duration time.Duration }{
	{400 * time.Millisecond, time.Second},
	{time.Second, 2 * time.Second},
	{2 * time.Second, 4 * time.Second},
}

func recordZoo(t *testing.T, v *programs.Variant, path string, begins, duration time.Duration) *recording {
	t.Helper()
	c := exec.Command(path, v.Args...)
	c.Dir = filepath.Dir(path)
	p, err := programs.Launch(c, "ready")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Stop()
	args := []string{"--pid", strconv.Itoa(p.PID), "--frequency", often, "--duration", (begins + duration).String()}
	if v.Children {
		args = append(args, "--children")
	}
	return recordWhile(t, after(t, begins, p.Tell), args...).succeeded(t)
}

// add takes in a recording.
func (v *visit) add(variant *programs.Variant, stacks []programs.StackPattern, r *recording) {
	for end, n := range r.meta.Ends {
		v.ends[end] += n
	}
	for _, l := range r.lines {
		stack := programs.UserStack(l.Frames)
		if len(stack) == 0 {
			continue
		}
		v.samples += l.Count
		equal, begins := false, false
		for i := range stacks {
			s := &stacks[i]
			equal, begins = equal || s.Equal(stack), begins || s.Begins(stack)
			if s.Full(stack) {
				v.full[i] += l.Count
			}
		}
		if equal {
			v.equal += l.Count
			continue
		}
		v.other[strings.Join(stack, ";")] += l.Count
		if variant.Late && !begins {
			v.late += l.Count
		}
	}
}

// unequal shows the most frequent stacks that are equal to none.
func (v *visit) unequal(n int) string {
	var b strings.Builder
	stacks := slices.SortedFunc(maps.Keys(v.other), func(a, b string) int {
		return cmp.Or(cmp.Compare(v.other[b], v.other[a]), cmp.Compare(a, b))
	})
	for _, s := range stacks[:min(n, len(stacks))] {
		fmt.Fprintf(&b, "%7d %s\n", v.other[s], s)
	}
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/carverauto/serviceradar-profiler/profile"
	"github.com/carverauto/serviceradar-profiler/profiler"
	"github.com/carverauto/serviceradar-profiler/session"
	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// target is a program with a known stack, and what a recording of it must show.
type target struct {
	name     string
	command  []string
	children bool // the program itself sleeps
	// chain is the user stack from the root on, a pattern for each frame: see
	// like.
	chain  []string
	kernel bool // nearly all samples are taken in kernel mode
	// odd is the share of the stacks that may be something else.
	odd float64
	// early is the share of stacks that may be walked before the tables are
	// in. A child's are in once we have heard of its birth.
	early float64
}

func targets() []target {
	const start, anything = "_start;__libc_start_main*;__libc_start_call_main;main", "..."
	c := func(chain string) []string { return strings.Split(chain, ";") }
	deep := func(n int) []string {
		return append(append(c(start), slices.Repeat([]string{"descend"}, n+1)...), "hot_a")
	}
	return []target{
		{name: "45 frames", command: []string{"/bin/depth", "45"}, chain: deep(45), odd: 0.01, early: 0.1},
		{name: "250 frames", command: []string{"/bin/depth", "250"}, chain: deep(250), odd: 0.01, early: 0.1},
		{name: "system calls", command: []string{"/bin/syscalls"}, kernel: true,
			chain: c(start + ";run;sys_read"), odd: 0.01, early: 0.1},
		{name: "threads", command: []string{"/bin/threads", "8"},
			chain: c("*clone*;start_thread;worker;run;hot_*"), odd: 0.01, early: 0.1},
		{name: "goroutines", command: []string{"/bin/goroutines"}, // some of the time goes into changing goroutines
			chain: c("runtime.goexit;main.work;main.run;main.*"), odd: 0.1, early: 0.1},
		{name: "children", command: []string{"/bin/forks"}, children: true, // some goes into being born
			chain: c(start + ";" + anything), odd: 0.3, early: 0.5},
	}
}

// frequency is so low that an emulated machine keeps up with it.
const frequency = 199

// enough samples to speak of one in a hundred.
const enough = 300

// check records until there are enough samples: how long that takes depends on
// the machine that emulates this one.
func (t *target) check() (string, error) {
	p, err := programs.Launch(exec.Command(t.command[0], t.command[1:]...), "ready")
	if err != nil {
		return "", err
	}
	defer p.Stop()
	for d := 3 * time.Second; ; d *= 2 {
		got, err := profiler.Record(context.Background(), session.Spec{PIDs: []int{p.PID}, Children: t.children, Duration: d, Frequency: frequency}, nil)
		if err != nil && !errors.Is(err, session.ErrNoSamples) {
			return "", err
		}
		s := summarize(got, t)
		if s.stacks >= enough || d > time.Minute {
			return s.String(), s.judge(t, got)
		}
	}
}

// summary is a profile in the figures that are judged, all in samples.
type summary struct {
	all, lost uint64
	walked    uint64 // user stacks, without those before the walk by tables took over
	early     uint64 // of these, before the tables were in
	stacks    uint64 // the others
	complete  uint64 // that reached the root
	right     uint64 // that are the expected one
	kernel    uint64 // with a kernel part
	wrong     map[string]uint64
	meta      *profile.Metadata
}

func summarize(p *profile.Profile, t *target) *summary {
	m := &p.Meta
	s := &summary{all: m.Counts.Samples, lost: m.Counts.Lost, complete: m.Ends[profile.EndRoot.String()], wrong: map[string]uint64{}, meta: m}
	for _, n := range m.Ends {
		s.walked += n
	}
	s.walked -= m.Ends[profile.EndFallback.String()]
	s.early = m.Ends[profile.EndNoTable.String()]
	if t.children { // what another process had there
		s.early += m.Ends[profile.EndUnreadable.String()] + m.Ends[profile.EndBadAddress.String()]
	}
	s.stacks = s.walked - s.early
	for i := range p.Samples {
		sample := &p.Samples[i]
		user, kernel := split(p, sample)
		if kernel > 0 {
			s.kernel += sample.Count
		}
		if len(user) == 0 {
			continue
		}
		if like(user, t.chain) {
			s.right += sample.Count
		} else {
			s.wrong[short(user)] += sample.Count
		}
	}
	return s
}

// split returns the names of the user part, root first, and how many frames
// the kernel part has.
func split(p *profile.Profile, s *profile.Sample) (user []string, kernel int) {
	for a, f := range p.Frames(s) {
		if m := p.Mapping(a.Mapping); m != nil && m.Kind == profile.MappingKernel {
			kernel++
			continue
		}
		user = append(user, f.Name)
	}
	slices.Reverse(user)
	return user, kernel
}

// like reports whether a stack is the expected one. Its leaf may be missing,
// while its caller goes from one call to the next. After "..." nothing matters.
func like(stack, chain []string) bool {
	if last := len(chain) - 1; chain[last] == "..." {
		chain = chain[:last]
		stack = stack[:min(len(chain), len(stack))]
	} else if len(stack) == last {
		chain = chain[:last]
	}
	return slices.EqualFunc(stack, chain, match)
}

// match compares a name with a pattern that may begin or end in '*'.
func match(name, pattern string) bool {
	rest, anyStart := strings.CutPrefix(pattern, "*")
	rest, anyEnd := strings.CutSuffix(rest, "*")
	switch {
	case anyStart && anyEnd:
		return strings.Contains(name, rest)
	case anyStart:
		return strings.HasSuffix(name, rest)
	case anyEnd:
		return strings.HasPrefix(name, rest)
	}
	return name == rest
}

// judge says what is not as it must be.
func (s *summary) judge(t *target, p *profile.Profile) error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	least := func(what string, n uint64) {
		if float64(n) < (1-t.odd)*float64(s.stacks) {
			complain("%d of %d stacks %s, want %.0f %%", n, s.stacks, what, 100*(1-t.odd))
		}
	}
	if s.stacks < enough {
		complain("only %d stacks", s.stacks)
	}
	least("are complete", s.complete)
	least("are the expected one", s.right)
	if float64(s.early) > t.early*float64(s.walked) {
		complain("%d of %d stacks were walked before the tables were in, or there is none, want at most %.0f %%", s.early, s.walked, 100*t.early)
	}
	if t.kernel && s.kernel*10 < s.all*9 {
		complain("%d of %d samples are of kernel mode", s.kernel, s.all)
	}
	if s.lost*100 > s.all {
		complain("%d samples were lost, %d kept", s.lost, s.all)
	}
	if t.children && p.Meta.Threads < 3 {
		complain("%d threads, want those of several children", p.Meta.Threads)
	}
	return errors.Join(errs...)
}

func (s *summary) mostWrong(n int) []string {
	stacks := slices.SortedFunc(maps.Keys(s.wrong), func(a, b string) int { return int(s.wrong[b]) - int(s.wrong[a]) })
	return stacks[:min(n, len(stacks))]
}

func (s *summary) String() string {
	m := s.meta
	text := fmt.Sprintf("%d samples in %v of %v CPU time, %d lost, %d threads, user stacks by %s, ends %v; %d of %d stacks complete, %d as expected, %d of kernel mode",
		s.all, m.Duration().Round(time.Millisecond), time.Duration(m.CPUTimeNs).Round(time.Millisecond), s.lost, m.Threads, m.UserStacks, m.Ends, s.complete, s.stacks, s.right, s.kernel)
	for _, stack := range s.mostWrong(5) {
		text += fmt.Sprintf("\n%d × %s", s.wrong[stack], stack)
	}
	for _, w := range m.Warnings {
		text += "\nwarning: " + w
	}
	return text
}

// short spells a stack with repeated frames once.
func short(stack []string) string {
	var b strings.Builder
	for i := 0; i < len(stack); {
		n := 1
		for i+n < len(stack) && stack[i+n] == stack[i] {
			n++
		}
		if i > 0 {
			b.WriteByte(';')
		}
		b.WriteString(stack[i])
		if n > 1 {
			fmt.Fprintf(&b, "(×%d)", n)
		}
		i += n
	}
	return b.String()
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

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
	// wait says that the program stands still until the unwind tables are in,
	// so that every stack must be right. The others work from the beginning.
	wait   bool
	framed bool // has frame pointers: its stacks are right without tables too
	// odd is the share of the stacks that may be something else than chain.
	odd float64
}

func targets() []target {
	const start = "_start;__libc_start_main*;__libc_start_call_main;main"
	thread := map[string]string{"amd64": "__clone3", "arm64": "thread_start"}[runtime.GOARCH]
	c := func(chain string) []string { return strings.Split(chain, ";") }
	deep := func(n int) []string {
		return append(append(c(start), slices.Repeat([]string{"descend"}, n+1)...), "hot_a")
	}
	all := []target{
		{name: "45 frames", command: []string{"/bin/depth", "45"}, chain: deep(45), wait: true, odd: 0.01},
		{name: "250 frames", command: []string{"/bin/depth", "250"}, chain: deep(250), wait: true, odd: 0.01},
		{name: "system calls", command: []string{"/bin/syscalls"}, chain: c(start + ";run;sys_read"), kernel: true, wait: true, odd: 0.01},
		{name: "threads", command: []string{"/bin/threads", "8"}, chain: c(thread + ";start_thread;worker;run;hot_*"), wait: true, odd: 0.01},
		// Some of the time goes into changing goroutines.
		{name: "goroutines", command: []string{"/bin/goroutines"}, chain: c("runtime.goexit;main.work;main.run;main.*"), framed: true, odd: 0.2},
		// Some goes into being born, in libc's own time.
		{name: "children", command: []string{"/bin/forks"}, children: true, chain: c(start + ";..."), odd: 0.1},
	}
	if runtime.GOARCH == "arm64" {
		all = append(all, target{name: "signed return addresses", command: []string{"/bin/depth-variant", "45"}, chain: deep(45), wait: true, odd: 0.01})
	}
	return all
}

const (
	frequency = 499
	enough    = 300 // samples, to speak of one in a hundred
	// early is the share of stacks that may be walked before the tables are in
	// where that cannot be avoided: those of children.
	early = 0.3
)

// check records until there are enough samples, and, where the program waits
// for them, until the tables are in before it goes on: how long that takes
// depends on the machine that emulates this one.
func (t *target) check() (string, error) {
	c := exec.Command(t.command[0], t.command[1:]...)
	c.Env = append(os.Environ(), "GOMAXPROCS=1") // an emulated machine with all CPUs busy takes very long for the rest
	p, err := programs.Launch(c, "ready")
	if err != nil {
		return "", err
	}
	defer p.Stop()
	for d := 3 * time.Second; ; d *= 2 {
		began := time.Now()
		got, err := t.record(p, d)
		if err != nil && !errors.Is(err, session.ErrNoSamples) {
			return "", err
		}
		s := summarize(got, t)
		if s.stacks >= enough && !(t.wait && s.late()) || d > time.Minute {
			start := got.Meta.Start
			took := fmt.Sprintf("%v to load, %v to finish\n", start.Sub(began).Round(time.Millisecond),
				time.Since(start.Add(got.Meta.Duration())).Round(time.Millisecond))
			return s.String() + "\n" + took, s.judge(t, got)
		}
	}
}

func (t *target) record(p *programs.Process, d time.Duration) (*profile.Profile, error) {
	if t.wait {
		if err := unix.Kill(p.PID, unix.SIGSTOP); err != nil {
			return nil, fmt.Errorf("stop the program: %w", err)
		}
		goOn := time.AfterFunc(d/2, func() { _ = unix.Kill(p.PID, unix.SIGCONT) }) // without it there are no samples
		defer goOn.Stop()
	}
	return profiler.Record(context.Background(), session.Spec{PIDs: []int{p.PID}, Children: t.children, Duration: d, Frequency: frequency}, nil)
}

// summary is a profile in the figures that are judged, all in samples.
type summary struct {
	all, lost uint64
	fallback  uint64 // user stacks from before the walk by tables took over
	without   uint64 // walked without the tables that it needs, which were not in yet
	stacks    uint64 // the other user stacks
	complete  uint64 // that reached the root
	right     uint64 // that are the expected one
	kernel    uint64 // with a kernel part
	wrong     map[string]uint64
	truncated map[string]uint64
	meta      *profile.Metadata
}

// late says that too many stacks are from before the tables were in. Some are
// left to the kernel's walk for another reason: an interrupt's own stack does
// not lead to the thread's registers until it is known where its stack lies.
func (s *summary) late() bool { return (s.fallback+s.without)*20 > s.stacks }

func summarize(p *profile.Profile, t *target) *summary {
	m := &p.Meta
	s := &summary{all: m.Counts.Samples, lost: m.Counts.Lost, complete: m.Ends[profile.EndRoot.String()], wrong: map[string]uint64{}, truncated: map[string]uint64{}, meta: m}
	for end, n := range m.Ends {
		switch {
		case end == profile.EndFallback.String():
			s.fallback += n
		case end == profile.EndNoTable.String(),
			// In a child the frame pointer may be that of another program.
			t.children && (end == profile.EndUnreadable.String() || end == profile.EndBadAddress.String()):
			s.without += n
		default:
			s.stacks += n
		}
	}
	for i := range p.Samples {
		sample := &p.Samples[i]
		user, kernel := split(p, sample)
		if kernel > 0 {
			s.kernel += sample.Count
		}
		if len(user) == 0 {
			continue
		}
		if sample.Truncated {
			s.truncated[short(user)] += sample.Count
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
	least := func(what string, n, of uint64, odd float64) {
		if float64(n) < (1-odd)*float64(of) {
			complain("%d of %d stacks %s, want %.0f %%", n, of, what, 100*(1-odd))
		}
	}
	if s.stacks < enough {
		complain("only %d stacks", s.stacks)
	}
	least("are complete", s.complete, s.stacks, 0.01)
	all := s.stacks
	if t.framed {
		all += s.fallback + s.without
	}
	least("are the expected one", s.right, all, t.odd)
	if t.wait && s.late() || float64(s.without) > early*float64(s.stacks) {
		complain("%d stacks from before the walk by tables, %d walked without tables, %d with", s.fallback, s.without, s.stacks)
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

// most are the n stacks that were seen most often.
func most(counts map[string]uint64, n int) []string {
	stacks := slices.SortedFunc(maps.Keys(counts), func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	return stacks[:min(n, len(stacks))]
}

func (s *summary) String() string {
	m := s.meta
	text := fmt.Sprintf("%d samples in %v of %v CPU time, %d lost, %d threads, user stacks by %s, ends %v; %d of %d stacks complete, %d as expected, %d of kernel mode",
		s.all, m.Duration().Round(time.Millisecond), time.Duration(m.CPUTimeNs).Round(time.Millisecond), s.lost, m.Threads, m.UserStacks, m.Ends, s.complete, s.stacks, s.right, s.kernel)
	for _, stack := range most(s.wrong, 5) {
		text += fmt.Sprintf("\n%d × %s", s.wrong[stack], stack)
	}
	for _, stack := range most(s.truncated, 5) {
		text += fmt.Sprintf("\ntruncated: %d × %s", s.truncated[stack], stack)
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

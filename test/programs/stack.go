// SPDX-License-Identifier: Apache-2.0

package programs

import (
	"fmt"
	"strconv"
	"strings"
)

// StackPattern is a whole user stack that a program must show, from the
// thread's entry to the leaf:
//
//	stack: (start);main|run;sort;(libc){1,20};compare;spin
//
// A sample may be taken between two calls, so a stack that ends early, in one
// of the frames behind the bar, is equal to it too. That hides no error of a
// walk: the leaf is where the thread was, whoever walks, and all the frames
// above it must be there.
type StackPattern struct {
	text  string
	parts []part
	must  int // as many parts must be there

	Seldom bool // not every recording has it
}

// part is a frame, or the same one several times in a row.
type part struct {
	names       []string // any of them; '*' at the end stands for the rest
	least, most int
}

// groups are frames that differ with the C library: how it was linked, and
// which names are left in it.
var groups = map[string][]string{
	"(main)":   {"[libc.so.6]", "__libc_start_call_main"},
	"(clone)":  {"[libc.so.6]", "clone", "clone3", "__clone", "__clone3"},
	"(thread)": {"[libc.so.6]", "start_thread"},
	"(musl)":   {"[libc.so]", "libc_start_main_stage2"},
	"(libc)": {"[libc.so.6]", "[libc.so]", "qsort*", "msort_with_tmp", "sift", "trinkle",
		"mem*", "strlen", "malloc", "free", "mmap*", "munmap", "_*"},
	// What a handler returns to. As a return address it looks like the end of
	// the function before, which in a static program is of nobody.
	"(restore)": {"[libc.so.6]", "[signals]", "__restore_rt"},
	"(sleep)":   {"[libc.so.6]", "nanosleep", "clock_nanosleep", "_*"},
	"(raise)":   {"[libc.so.6]", "raise", "gsignal", "pthread_kill*", "getpid", "pthread_self", "_*"},
	"(wait)":    {"[libc.so.6]", "sem_wait*", "sem_post*", "do_futex*", "futex*", "atomic*", "*pthread_*", "_*"},
	// With libc6-dbg the functions of ld.so have names, and inlined ones show. A
	// leading underscore is reserved for the implementation of C.
	"(loader)": {"[ld-linux-*", "_*", "dl_*", "do_lookup_x", "check_match", "str*", "mem*", "elf_*", "rtld_*", "init_*", "handle_*",
		"intel_*", "update_*", "get_*", "call_init", "mmap*", "munmap", "mprotect", "open*", "read", "close*", "brk"},
	"(loading)": {"[ld-linux-*", "[libc.so.6]", "_*", "dl*", "malloc", "calloc", "free", "do_lookup_x", "check_match", "str*", "mem*", "elf_*", "rtld_*",
		"call_init", "add_*", "lose", "mmap*", "munmap", "mprotect", "open*", "read", "close*", "fstat*", "sysmalloc"},
	"(fork)":    {"[libc.so.6]", "[ld-linux-*", "_*", "do_lookup_x", "check_match", "strcmp", "fork", "arch_fork", "elf_*", "wait", "wait4"},
	"(rust)":    {"std::*", "core::*", "alloc::*", "<*"},
	"(runtime)": {"[libstdc++.so.6*", "__cxa_*", "__gxx_*", "_Unwind_*", "free", "std::*"},
	"...":       {"*"},
}

// start is what calls main in a program with glibc.
const start = "_start;__libc_start_main*;(main)"

// parseStack understands frames separated by semicolons, the root first, and
// one bar instead of a semicolon. (start) is what calls main. A frame is a name, the beginning of one and
// '*', or a group; {n} and {m,n} behind it say how often it is there, and "..."
// is any frames, or none.
func parseStack(text, start string) (StackPattern, error) {
	text = strings.Replace(text, "(start)", start, 1)
	must, may, ok := strings.Cut(text, "|")
	if !ok {
		return StackPattern{}, fmt.Errorf("stack %q has no bar", text)
	}
	s := StackPattern{text: text, must: strings.Count(must, ";") + 1}
	for frame := range strings.SplitSeq(must+";"+may, ";") {
		p, err := parsePart(frame)
		if err != nil {
			return StackPattern{}, fmt.Errorf("stack %q: %w", text, err)
		}
		s.parts = append(s.parts, p)
	}
	return s, nil
}

func parsePart(frame string) (part, error) {
	p := part{least: 1, most: 1}
	name, times, ok := strings.Cut(frame, "{")
	if digits := strings.TrimSuffix(times, "}"); ok && digits != times && strings.Trim(digits, "0123456789,") == "" {
		least, most, ranged := strings.Cut(digits, ",")
		if !ranged {
			most = least
		}
		var err1, err2 error
		p.least, err1 = strconv.Atoi(least)
		p.most, err2 = strconv.Atoi(most)
		if err1 != nil || err2 != nil || p.least > p.most {
			return p, fmt.Errorf("frame %q", frame)
		}
		frame = name
	}
	if frame == "..." {
		p.least, p.most = 0, 1<<20
	}
	if p.names = groups[frame]; p.names == nil {
		p.names = []string{frame}
	}
	return p, nil
}

func (s *StackPattern) String() string { return s.text }

// Equal reports whether a user stack, root first, is the one stated.
func (s *StackPattern) Equal(stack []string) bool { return equal(s.parts, s.must, stack) }

// Begins reports whether a user stack, right or wrong, begins where this one does.
func (s *StackPattern) Begins(stack []string) bool { return s.parts[0].is(stack[0]) }

// Full reports whether it is so down to the last frame stated.
func (s *StackPattern) Full(stack []string) bool { return equal(s.parts, len(s.parts), stack) }

func equal(parts []part, must int, stack []string) bool {
	if len(stack) == 0 {
		return must <= 0
	}
	if len(parts) == 0 {
		return false
	}
	p, n := &parts[0], 0
	for n < p.most && n < len(stack) && p.is(stack[n]) {
		n++
	}
	// It ends here, maybe on the way down.
	if n == len(stack) && must <= 1 && (n >= p.least || must <= 0) {
		return true
	}
	for ; n >= p.least; n-- {
		if equal(parts[1:], must-1, stack[n:]) {
			return true
		}
	}
	return false
}

func (p *part) is(frame string) bool {
	for _, name := range p.names {
		if start, rest := strings.CutSuffix(name, "*"); frame == name || rest && strings.HasPrefix(frame, start) {
			return true
		}
	}
	return false
}

// UserStack is a folded line's stack without the thread's name and what it did
// in the kernel; nil if the thread has no user part, as while an exec goes on.
func UserStack(frames []string) []string {
	frames = frames[1:]
	for len(frames) > 0 && strings.HasSuffix(frames[len(frames)-1], "_[k]") {
		frames = frames[:len(frames)-1]
	}
	return frames
}

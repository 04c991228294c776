// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package unwind

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/carverauto/serviceradar-profiler/object"
	"github.com/carverauto/serviceradar-profiler/profile"
)

// program has functions in a known chain, with frames of all kinds: variables,
// alloca (which needs BP), a realigned stack, a callback from libc, a signal
// handler on a stack of its own.
const program = `
#include <alloca.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define KEEP __attribute__((noinline, noclone))
volatile int sink, stopped;
static void use(void *p, int n) { memset(p, n, 8); sink += *(char *)p; }
KEEP void leaf(int n) { stopped = 1; putchar('.'); fflush(stdout); while (stopped) sink += n; sink++; }
KEEP void handler(int n) { leaf(n); sink++; }
KEEP void raiser(int n) { sink++; kill(getpid(), SIGUSR1); sink += n; }
KEEP void big(int n) { char b[5000]; use(b, n); raiser(n); use(b, n); }
KEEP void aligned(int n) { char b[64] __attribute__((aligned(128))); use(b, n); big(n); use(b, n); }
KEEP void variable(int n) { char *p = alloca(100 + n); use(p, n); aligned(n); use(p, n); }
KEEP int compare(const void *a, const void *b) { variable(*(int *)a); sink++; return *(int *)a - *(int *)b; }
KEEP void sorter(int n) { int v[2] = {n, 1}; qsort(v, 2, sizeof *v, compare); sink += v[0]; }
KEEP void deep(int n) { if (n == 0) sorter(n); else deep(n - 1); sink++; }
int main(void) {
	static char other[65536];
	stack_t s = {.ss_sp = other, .ss_size = sizeof other};
	struct sigaction a = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
	sigaltstack(&s, 0);
	sigaction(SIGUSR1, &a, 0);
	deep(40);
	return 0;
}`

// chain is what the walk must find, leaf first; * stands for frames of libc.
const chain = "leaf handler * raiser big aligned variable compare * sorter deep×41 main *"

func TestProcess(t *testing.T) {
	for _, flags := range []string{
		"-O2 -fomit-frame-pointer", "-O3 -fomit-frame-pointer -fno-optimize-sibling-calls", "-O0", "-O2 -fno-omit-frame-pointer",
		"-O2 -static", "-O2 -static-pie", "-O2 -fcf-protection", "-O2 -fno-asynchronous-unwind-tables -fno-unwind-tables -fno-exceptions -g -Wl,-z,now",
	} {
		t.Run(flags, func(t *testing.T) { walkProcess(t, flags) })
	}
}

func walkProcess(t *testing.T, flags string) {
	got := walkStopped(t, exec.Command(compile(t, program, flags)), chain)
	if got = strings.TrimPrefix(got, "* "); got != chain { // still in fflush, maybe
		t.Errorf("\ngot  %s\nwant %s", got, chain)
	}
}

// goProgram keeps its main goroutine on the main thread, which is the one that
// is stopped.
const goProgram = `package main
import ("os"; "runtime")
var sink int
func init() { runtime.LockOSThread() }
//go:noinline
func leaf(n int) { os.Stdout.WriteString("."); for { sink += n } }
//go:noinline
func deep(n int) int { if n == 0 { leaf(n) } else { deep(n - 1) }; return sink }
func main() { sink = deep(40) }
`

func TestGoProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	dir := t.TempDir()
	source, path := filepath.Join(dir, "p.go"), filepath.Join(dir, "p")
	if err := os.WriteFile(source, []byte(goProgram), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", path, source).CombinedOutput(); err != nil {
		missing(t, fmt.Errorf("%w: %s", err, out))
	}
	const want = "main.leaf main.deep×41 main.main runtime.main runtime.goexit.abi0"
	cmd := exec.Command(path)
	cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1") // or the scheduler's own stack may be on
	got := walkStopped(t, cmd, want)
	if got = strings.TrimPrefix(got, "* "); got != want { // still in WriteString, maybe
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
}

// walkStopped starts a program, stops it once it has written something, and
// returns the functions of its main thread's stack, which must be whole. Those
// of known are named.
func walkStopped(t *testing.T, cmd *exec.Cmd, known string) string {
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	runtime.LockOSThread() // ptrace is between threads
	defer runtime.UnlockOSThread()
	pid := cmd.Process.Pid
	if err := syscall.PtraceAttach(pid); err != nil {
		t.Fatal(err)
	}
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	defer syscall.PtraceDetach(pid)
	p := trace(t, pid)
	walk := p.walk()
	if walk.End != EndRoot || walk.Guessed > 0 {
		t.Errorf("%v, %d guessed, %v", walk.End, walk.Guessed, walk.Frames)
	}
	return strings.Join(squeeze(p.names(walk, known)), " ")
}

// squeeze joins frames of others to one *, and repeated ones.
func squeeze(names []string) []string {
	var all []string
	for i := 0; i < len(names); {
		n := 1
		for i+n < len(names) && names[i+n] == names[i] {
			n++
		}
		name := names[i]
		if n > 1 && name != "*" {
			name = fmt.Sprintf("%s×%d", name, n)
		}
		all = append(all, name)
		i += n
	}
	return all
}

// loaded is one executable mapping.
type loaded struct {
	profile.Mapping
	object *object.File
	tables []Table
	names  map[string][2]profile.ObjAddr
}

// traced is a stopped process.
type traced struct {
	t        *testing.T
	pid      int
	mem      *os.File
	mappings []loaded
}

func trace(t *testing.T, pid int) *traced {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mem.Close() })
	return &traced{t, pid, mem, load(t, pid)}
}

func (p *traced) find(a profile.Addr) (*loaded, profile.ObjAddr) {
	for i := range p.mappings {
		if m := &p.mappings[i]; m.Contains(a) {
			if o, ok := m.object.ObjAddr(&m.Mapping, a); ok {
				return m, o
			}
		}
	}
	return nil, 0
}

func (p *traced) registers() Registers {
	var r syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(p.pid, &r); err != nil {
		p.t.Fatal(err)
	}
	return Registers{
		PC: profile.Addr(r.Rip), SP: profile.Addr(r.Rsp), BP: profile.Addr(r.Rbp),
		General: [16]uint64{r.Rax, r.Rdx, r.Rcx, r.Rbx, r.Rsi, r.Rdi, r.Rbp, r.Rsp, r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15},
	}
}

func (p *traced) walk() Walk {
	w := Walker{Machine: elf.EM_X86_64, Depth: 200}
	w.Word = func(a profile.Addr) (uint64, bool) {
		var b [8]byte
		_, err := p.mem.ReadAt(b[:], int64(a))
		return binary.LittleEndian.Uint64(b[:]), err == nil
	}
	w.Rule = func(a profile.Addr) (Rule, bool) {
		m, o := p.find(a)
		if m == nil {
			return 0, false
		}
		for i := range m.tables {
			if r := m.tables[i].Rule(o); r.Op() != OpNone {
				return r, true
			}
		}
		return 0, true
	}
	return w.Walk(p.registers())
}

// names returns the functions of a walk; * where they are not known ones.
func (p *traced) names(walk Walk, known string) []string {
	var names []string
	known = " " + strings.ReplaceAll(known, "×", " ") + " "
	for i, a := range walk.Frames {
		at := profile.Address{Addr: a, Return: walk.Returns[i]}
		name := "*"
		if m, o := p.find(at.Lookup()); m != nil {
			for n, r := range m.names {
				if o >= r[0] && o < r[1] && strings.Contains(known, " "+n+" ") {
					name = n
				}
			}
		}
		names = append(names, name)
	}
	return names
}

// load reads the executable mappings of a process and makes their tables.
func load(t *testing.T, pid int) []loaded {
	f, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []loaded
	for s := bufio.NewScanner(f); s.Scan(); {
		var m loaded
		var perms, dev string
		var inode int
		fmt.Sscanf(s.Text(), "%x-%x %s %x %s %d %s", &m.Start, &m.Limit, &perms, &m.Offset, &dev, &inode, &m.Path)
		switch {
		case m.Path == "[vdso]":
			m.object = vdso(t, pid, &m.Mapping)
		case strings.Contains(perms, "x") && strings.HasPrefix(m.Path, "/"):
			m.object = open(t, m.Path)
		default:
			continue
		}
		var err error
		if m.tables, _, err = Build(m.object); err != nil {
			t.Fatal(err)
		}
		m.names = map[string][2]profile.ObjAddr{}
		e, err := elf.NewFile(m.object)
		if err != nil {
			t.Fatal(err)
		}
		symbols, _ := e.Symbols() // libraries have none
		for _, s := range symbols {
			if elf.ST_TYPE(s.Info) == elf.STT_FUNC {
				m.names[s.Name] = [2]profile.ObjAddr{profile.ObjAddr(s.Value), profile.ObjAddr(s.Value + s.Size)}
			}
		}
		all = append(all, m)
	}
	return all
}

func vdso(t *testing.T, pid int, m *profile.Mapping) *object.File {
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	image := make([]byte, m.Limit-m.Start)
	if _, err := mem.ReadAt(image, int64(m.Start)); err != nil {
		t.Fatal(err)
	}
	o, err := object.New(bytes.NewReader(image), int64(len(image)))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

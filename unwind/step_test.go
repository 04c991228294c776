// SPDX-License-Identifier: Apache-2.0

//go:build amd64

package unwind

import (
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// stepped calls functions of libc through lazy stubs, and handles a signal.
const stepped = `
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
volatile int sink;
static void handler(int n) { sink += n; }
static int compare(const void *a, const void *b) { return *(int *)a - *(int *)b; }
int main(void) {
	int v[] = {5, 3, 9, 1};
	char b[100];
	signal(SIGUSR1, handler);
	raise(SIGUSR1);
	qsort(v, 4, sizeof *v, compare);
	snprintf(b, sizeof b, "%d %f %s", v[0], v[1] * 1.5, getenv("PATH"));
	sink += strlen(b) + strtol("42", 0, 10) + time(0);
	free(malloc(100 + sink % 7));
	return 0;
}`

// A program is run instruction by instruction: wherever it is, its stack
// reaches the root. So do prologues, epilogues, stubs, and the dynamic linker.
func TestEveryInstruction(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	for _, flags := range []string{"-O2 -Wl,-z,lazy", "-O2 -static"} {
		t.Run(flags, func(t *testing.T) { step(t, compile(t, stepped, flags)) })
	}
}

func step(t *testing.T, path string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command(path)
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	defer cmd.Wait()
	defer cmd.Process.Kill()
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil {
		t.Fatal(err)
	}
	p := trace(t, pid)
	walks, bad, guessed, lazy, frames, signal := 0, 0, 0, 0, 0, 0
	for i := 0; i < 400_000; i++ {
		if err := syscall.PtraceSingleStep(pid); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Wait4(pid, &status, 0, nil); err != nil || status.Exited() {
			break
		}
		if s := status.StopSignal(); s == syscall.SIGUSR1 { // hand it on
			signal++
			if _, _, errno := syscall.Syscall6(syscall.SYS_PTRACE, syscall.PTRACE_SINGLESTEP, uintptr(pid), 0, uintptr(s), 0, 0); errno != 0 {
				t.Fatal(errno)
			}
			syscall.Wait4(pid, &status, 0, nil)
		}
		pc := p.registers().PC
		m, _ := p.find(pc)
		if m == nil { // mapped meanwhile
			p.mappings = load(t, pid)
			m, _ = p.find(pc)
		}
		if m != nil && strings.Contains(m.Path, "/ld-") && i%31 != 0 { // most of the time it relocates
			continue
		}
		k := p.walk()
		walks, frames = walks+1, frames+len(k.Frames)
		if k.Guessed > 0 { // the few functions without description: ld.so's _start, _init, crtbegin.o
			guessed++
		} else if last, _ := p.find(k.Frames[len(k.Frames)-1]); k.End != EndRoot && len(k.Frames) == 2 && last != nil && strings.Contains(last.Path, "/ld-") {
			// _dl_runtime_resolve keeps the old SP in rbx, and the function that
			// it calls has not saved that yet.
			lazy++
		} else if k.End != EndRoot {
			if bad++; bad <= 10 {
				name := "?"
				if m != nil {
					name = m.Path
				}
				t.Errorf("step %d at %v in %s: %v, %d guessed, %v", i, pc, name, k.End, k.Guessed, k.Frames)
			}
		}
	}
	t.Logf("%d walks of %d frames, %d bad, %d guessed, %d in lazy binding, %d signals", walks, frames, bad, guessed, lazy, signal)
	if guessed*20 > walks {
		t.Errorf("%d of %d guessed", guessed, walks)
	}
	if lazy*1000 > walks {
		t.Errorf("%d of %d lost in lazy binding", lazy, walks)
	}
	if walks == 0 || signal == 0 {
		t.Error("did not run")
	}
}

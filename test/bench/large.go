// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"

	"github.com/carverauto/serviceradar-profiler/test/programs"
)

// largeSource is a program of 100 MB: 300,000 functions of 250 bytes, each with
// a name and call frame information, of which one runs.
const largeSource = `
#include <stdio.h>
asm(".text\n.macro function\n"
    ".globl f\\@\n.type f\\@, @function\nf\\@:\n.cfi_startproc\n"
    "push %rbx\n.cfi_def_cfa_offset 16\n.cfi_offset 3, -16\n"
    ".fill 246, 1, 0x90\n"
    "pop %rbx\n.cfi_def_cfa_offset 8\nret\n.cfi_endproc\n.size f\\@, .-f\\@\n.endm\n"
    ".rept 300000\nfunction\n.endr\n");
void f150000(void);
int main(void) { puts("ready"); fflush(stdout); for (;;) f150000(); }
`

// large starts it.
func (b *bench) large() (*target, error) {
	source, path := b.file("large.c"), b.file("large")
	if _, err := os.Stat(path); err != nil {
		if err := os.WriteFile(source, []byte(largeSource), 0o644); err != nil {
			return nil, err
		}
		if out, err := exec.CommandContext(b.ctx, "gcc", "-O2", "-o", path, source).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("gcc: %w\n%s", err, out)
		}
	}
	p, err := programs.Launch(exec.CommandContext(b.ctx, path), "ready")
	if err != nil {
		return nil, err
	}
	return &target{"100 MB executable", p.PID, p.Stop}, nil
}

// SPDX-License-Identifier: Apache-2.0

// Package bpf is the kernel side: the C sources, the objects compiled from
// them (committed, so that building needs Go alone) and the Go bindings of
// their types and maps. It knows nothing of how they are used; that is
// package sampler.
//
// The headers build on one another: kernel.h (what the kernel offers), abi.h
// (what both sides share), maps.h, stack.h (reading the thread's stack),
// rules_*.h (the rules of an architecture, applied), unwind.h (the walk); task.h
// and regs_*.h (where a thread's registers are); then sample.bpf.c.
package bpf

// clang's version is part of the output; Debian 12 has this one. __TARGET_ARCH
// is set by bpf2go. The second build is the one for kernels from Linux 4.9 on
// (kernel.h); its types are the first one's.
//go:generate go tool bpf2go -go-package bpf -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -type config -type filter -type cpu -type sample_key -type stack_ref -type region -type row -type chunk -type block -type space -type mapping -cflags "-O2 -mcpu=v1 -Wall -Wextra -Werror -Wno-unused-variable -Wno-unused-function -Wno-missing-field-initializers" Sample sample.bpf.c
//go:generate go tool bpf2go -go-package bpf -cc clang-14 -strip llvm-strip-14 -target amd64,arm64 -no-global-types -cflags "-O2 -mcpu=v1 -DKERNEL_4_9 -Wall -Wextra -Werror -Wno-unused-variable -Wno-unused-function -Wno-missing-field-initializers" Sample49 sample.bpf.c

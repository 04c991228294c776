/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the kernel side and the Go side share: written once, here. Go gets the
 * types and constants generated (go generate ./bpf).
 *
 * Samples are counted, not shipped: a stack's addresses are stored once, in
 * the region of the CPU that saw it first, found by a hash of the addresses;
 * equal stacks of a thread only add to a count. There are two of everything
 * (buffers): the program fills the one that the epoch's lowest bit names,
 * while the Go side empties the other.
 */
#ifndef SRPROF_ABI_H
#define SRPROF_ABI_H

#include "kernel.h"

/* Frames of one part (kernel or user) of a stack. The kernel's own limit,
 * sysctl perf_event_max_stack, is 127 and is what get_stack keeps to. */
#define PART_FRAMES 127

/* Addresses in one CPU's region: at 64 samples between two drains even stacks
 * that are all new and all of full depth (2 x 127) fit. A power of two, so
 * that a mask proves the bound to the verifier. 128 KiB a CPU and buffer. */
#define REGION_FRAMES 16384
/* Room behind the last start, so that a full stack always fits. */
#define REGION_SLACK 256

enum buffers { BUFFERS = 2 };

/* Written by the Go side only. */
struct config {
	u32 epoch; /* counts up; epoch % BUFFERS is the buffer being filled */
	u32 pad;
};
_Static_assert(sizeof(struct config) == 8, "abi");

/* One a CPU, written by the kernel side only. */
struct cpu {
	/* entered != left: the program is running on this CPU. After a change
	 * of epoch the drain waits until it has left once. */
	u64 entered;
	u64 left;
	u64 samples;     /* of targets, whatever became of them */
	u64 lost_stacks; /* no room for the addresses of a new stack */
	u64 lost_counts; /* no room for a new count */
	u64 first_ns;    /* when the first sample came, CLOCK_MONOTONIC */
	u32 epoch;       /* that cursor belongs to */
	u32 cursor;      /* first free address of the region */
};
_Static_assert(sizeof(struct cpu) == 56, "abi");

struct sample_key {
	u64 stack; /* hash of the addresses */
	u32 pid;
	u32 tid;
	u8 comm[16];
};
_Static_assert(sizeof(struct sample_key) == 32, "abi");

/* Where a stack's addresses lie: kernel part first, leaf first. */
struct stack_ref {
	u32 start;
	u16 cpu;
	u8 kernel_frames;
	u8 user_frames;
};
_Static_assert(sizeof(struct stack_ref) == 8, "abi");

struct region {
	u64 addr[REGION_FRAMES + REGION_SLACK];
};
_Static_assert(sizeof(struct region) == 8 * (16384 + 256), "abi");

#endif

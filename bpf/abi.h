/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the kernel side and the Go side share: written once, here. Go gets the
 * types generated (go generate ./bpf); a test compares the constants.
 *
 * Samples are counted, not shipped: a stack's addresses are stored once, in
 * the region of the CPU that saw it first, found by a hash of the addresses;
 * equal stacks of a thread only add to a count. There are two of everything
 * (buffers): the program fills the one that the epoch's lowest bit names,
 * while the Go side empties the other.
 *
 * User stacks are walked by unwind tables: for any address of a mapped object,
 * a rule that says where the caller's frame is. Tables are arrays of large
 * elements, because filling a map element by element costs a system call each.
 */
#ifndef SRPROF_ABI_H
#define SRPROF_ABI_H

#include "kernel.h"

/* Frames of the kernel part of a stack. The kernel's own limit, sysctl
 * perf_event_max_stack, is 127 and is what get_stack keeps to. */
#define KERNEL_FRAMES 127

/* Frames that one run of the walk takes before it calls itself. More make the
 * program outgrow the instruction cache (40 frames: 8 % slower). */
#define WALK_FRAMES 16
/* The kernel ends a chain of tail calls after 33 (32 before Linux 5.16), the
 * first one into the walk included. */
#define WALK_RUNS 32
#define USER_FRAMES (WALK_RUNS * WALK_FRAMES)

/* Addresses in one CPU's region (for how long that does: LookInterval of
 * package sampler). A power of two, so that a mask proves the bound to the
 * verifier. 128 KiB a CPU and buffer. */
#define REGION_FRAMES 16384
/* Room behind the last start, so that a full stack always fits; and behind
 * that, for the kernel to write a part of the most frames. */
#define REGION_SLACK 1024

enum buffers { BUFFERS = 2 };

/* How a user stack ended (profile.End is its twin). */
enum stack_end {
	END_NONE = 0,        /* no user part: a kernel thread, or no registers */
	END_ROOT = 1,        /* the thread's entry */
	END_TRUNCATED = 2,   /* too deep */
	END_NO_TABLE = 3,    /* frame pointers led nowhere in code without a table */
	END_UNREADABLE = 4,  /* stack memory that is not there (never touched, swapped out) */
	END_BAD_STACK = 5,   /* the caller's frame would lie below its callee's */
	END_BAD_ADDRESS = 6, /* a return address outside all executable mappings */
	END_INVALID = 7,     /* a rule that cannot be expressed */
	END_FALLBACK = 8,    /* walked by frame pointer, before the tables were there */
};

/* Written by the Go side only. */
struct config {
	u32 epoch; /* counts up; epoch % BUFFERS is the buffer being filled */
	u32 pad;
};
_Static_assert(sizeof(struct config) == 8, "abi");

/* A bit for each process to sample, at its PID modulo their number: most ticks
 * meet other processes, and this says so with one load from memory that stays
 * in the CPU's cache; a hash map takes three that do not. */
#define FILTER_BITS 4096
struct filter {
	u64 word[FILTER_BITS / 64];
};
_Static_assert(sizeof(struct filter) == 512, "abi");

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
	u64 searches;    /* rules that were not in the cache */
	u64 lost_parts;  /* parts of stacks that a stack trace map had no room for (KERNEL_4_9) */
	u32 epoch;       /* that cursor belongs to */
	u32 cursor;      /* first free address of the region */
};
_Static_assert(sizeof(struct cpu) == 72, "abi");

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
	u8 end; /* enum stack_end */
	u16 user_frames;
	u16 pad;
	/* Bit i: user frame i was interrupted, not calling, so its address is no
	 * return address. Frame 0 always is; further ones lie below signal
	 * handlers. Only the first 32 frames have a bit. */
	u32 interrupted;
};
_Static_assert(sizeof(struct stack_ref) == 16, "abi");

/* KERNEL_4_9 only: a part that the kernel walked is one word in the region, an
 * id of a stack trace map; with this bit, of the second map, where go what
 * found its place in the first one taken. */
#define OVERFLOW_ID (1 << 16)
/* Elements of the two maps, powers of two: at most 128 KiB of them are written
 * between two drains. */
#define STACK_IDS 2048
#define OVERFLOW_IDS 512

struct region {
	u64 addr[REGION_FRAMES + REGION_SLACK + KERNEL_FRAMES + 1];
};
_Static_assert(sizeof(struct region) == 8 * (16384 + 1024 + 128), "abi");

/*
 * Rules, in 32 bits. unwind.Rule is their twin in Go.
 *
 * amd64: op:4, bp:8, off:20 (signed). Unless an op says otherwise
 *
 *   RA = *(CFA - 8)        the caller goes on there
 *   SP = CFA
 *   BP = BP                if bp == 0
 *   BP = *(CFA - 8*bp)     if bp is 1..254
 *   BP = *(BP)             if bp == 255
 *
 * arm64: op:4, fp:8, ra:8, off:12 (signed), unit U = 16. BP is x29, LR x30:
 *
 *   RA = LR                if ra == 0, in the leaf only
 *   RA = *(CFA - 8*ra)     else
 *   SP = CFA
 *   BP = BP                if fp == 0
 *   BP = *(CFA - 8*fp)     else
 */
enum rule_op {
	RULE_NONE = 0,             /* no table here: as RULE_FRAME_POINTER, and marked */
	RULE_SP = 1,               /* CFA = SP + U*off; U is 8, on arm64 16 */
	RULE_BP = 2,               /* CFA = BP + U*off */
	RULE_FRAME_POINTER = 3,    /* CFA = BP + 16, BP = *(BP), RA = *(BP + 8) */
	RULE_ROOT = 4,             /* there is no caller */
	RULE_PLT = 5,              /* CFA = SP + 8 + ((PC & 15) >= 11 ? 8 : 0) (amd64, as are 7 to 10 and 12) */
	RULE_SIGNAL = 6,           /* PC, SP, BP (and LR) from the rt_sigframe at SP */
	RULE_DEREF_BP = 7,         /* CFA = *(BP + 8*off) */
	RULE_DEREF_SP = 8,         /* CFA = *(SP + 8*off) + 8*bp, BP = BP */
	RULE_REGISTER = 9,         /* CFA = R[off & 15] + 8*(off >> 4), leaf and its caller */
	RULE_RETURN_REGISTER = 10, /* RA = R[off & 15], CFA = SP + 8*(off >> 4), leaf only */
	RULE_INVALID = 11,         /* there is a rule, but it cannot be expressed */
	RULE_DEREF_SP_SAVED = 12,  /* CFA = *(SP + 8*(off >> 7)) + 8*(off & 127) */
	RULE_RECORD_SP = 13,       /* CFA = SP + 16*off, BP = *(CFA - 16*rec), RA = *(CFA - 16*rec + 8), */
	RULE_RECORD_BP = 14,       /* CFA = BP + 16*off, and the same; rec is fp and ra as one number (arm64) */
	RULE_NO_CODE = 15,         /* never in a table: the address is in no mapping */
};

/* From addr on (relative to its table's base), this rule. */
struct row {
	u32 addr;
	u32 rule;
};
_Static_assert(sizeof(struct row) == 8, "abi");

/* Rows in one element of the rows map: 4 KiB. */
#define CHUNK_ROWS 512
struct chunk {
	struct row rows[CHUNK_ROWS];
};
_Static_assert(sizeof(struct chunk) == 4096, "abi");

/* Code is looked up by page first, 1 KiB each; a page's rows lie in one chunk,
 * the row that is in force at its start included. So the search is short. A
 * page's word is chunk:14 first:9 count:9. */
#define PAGE_SHIFT 10
#define PAGES_IN_BLOCK 1024
struct block {
	u32 page[PAGES_IN_BLOCK];
};
_Static_assert(sizeof(struct block) == 4096, "abi");

/* An executable mapping of a target. */
struct mapping {
	u64 start;
	u64 limit;
	u64 bias;  /* address - bias = address relative to the table's base */
	u32 page;  /* first page of the table in the page index */
	u32 pages; /* of the table; 0: there is no table */
};
_Static_assert(sizeof(struct mapping) == 32, "abi");

/* The executable mappings of one target, sorted. Twice the 256 that a large
 * server has; what is beyond is walked by frame pointer. A power of two. */
#define SPACE_MAPPINGS 512
struct space {
	u64 generation; /* changes with every change; 0: not fed yet */
	u32 count;
	u32 pending; /* mappings whose tables are still to come */
	struct mapping mappings[SPACE_MAPPINGS];
};
_Static_assert(sizeof(struct space) == 16 + 32 * 512, "abi");

/* A running program visits the same addresses over and over, so most rules
 * are found here: direct mapped, a part for each CPU. A power of two. */
#define CACHE_BITS 12
#define CACHE_ENTRIES (1 << CACHE_BITS)
struct cached {
	u64 pc; /* as looked up */
	u32 rule;
	u32 generation; /* of the space, its low bits */
};
_Static_assert(sizeof(struct cached) == 16, "abi");
/* Of one CPU. */
struct cache {
	struct cached entry[CACHE_ENTRIES];
};
_Static_assert(sizeof(struct cache) == 16 * 4096, "abi");

/* Where a signal's frame keeps the interrupted registers, from the stack
 * pointer at the return from the handler. */
#if defined(__TARGET_ARCH_arm64)
/* siginfo, then struct ucontext; x0 at 312 (asm/sigcontext.h). */
#define SIGNAL_BP (312 + 29 * 8)
#define SIGNAL_LR (312 + 30 * 8)
#define SIGNAL_SP (312 + 31 * 8)
#define SIGNAL_PC (312 + 32 * 8)
#else
/* The handler's ret has popped its address; struct ucontext, general registers
 * at 40 (asm/sigcontext.h). */
#define SIGNAL_BP 120
#define SIGNAL_SP 160
#define SIGNAL_PC 168
#endif

/* User memory is read in windows: 8 bytes cost nearly as much as 512. */
#define WINDOW_BYTES 1024
/* No address of a user's: the start of a window that holds nothing. */
#define NOWHERE (1ULL << 63)

/* A walk in progress. It lives in a map, because it goes on from program to
 * program, and because the verifier forgets what it knows about values that
 * pass through memory, which keeps it from following every path apart. */
struct walk {
	u64 pc;
	u64 sp;
	u64 bp;
	u64 hash;
	u64 pid_tgid;
	u64 lr;       /* arm64: the return address, if lr_known */
	u64 regs[16]; /* amd64: of the leaf, by DWARF number */
	u64 window_start;
	u64 window_last; /* where in it the last word is */
	u64 window[WINDOW_BYTES / 8];
	u32 frames; /* user frames so far */
	u32 kernel_frames;
	u32 space;
	u32 generation;
	u32 end;
	u32 buffer;
	u32 region;
	u32 interrupted;
	u32 no_table; /* frames found by frame pointer in code without a table */
	u32 returned; /* pc is a return address */
	u32 lr_known; /* in the leaf, and where a signal interrupted */
	u32 pending;  /* tables are still to come */
	u32 start;    /* of the stack, in the region */
	u32 runs;     /* of the walk's program */
};
_Static_assert(sizeof(struct walk) == 8 * 6 + 128 + 16 + WINDOW_BYTES + 14 * 4, "abi");

#endif

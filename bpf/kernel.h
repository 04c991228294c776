/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What the kernel offers a BPF program, as far as ours use it: declared here,
 * so that building needs clang alone and no kernel headers of any version.
 * Numbers are the kernel's ABI (include/uapi/linux/bpf.h) and never change;
 * behind each helper stands the kernel that brought it.
 */
#ifndef SRPROF_KERNEL_H
#define SRPROF_KERNEL_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int s32;
typedef long long s64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
/* Keeps the compiler from turning arithmetic into a branch. */
#define OPAQUE(x) asm volatile("" : "+r"(x))

/* Of two fields one, by value: of an expression with ?: the compiler makes a
 * choice between addresses, and keeps those on the stack, where Linux 4.9
 * forgets what lies beyond a pointer's start. */
INLINE u64 either(int first, u64 a, u64 b)
{
	OPAQUE(a);
	OPAQUE(b);
	return first ? a : b;
}

/*
 * Everything is compiled twice. KERNEL_4_9 is the build that keeps to what
 * Linux 4.9 loads: at most 4,096 instructions, no loops, the memory that
 * helpers read and write on the BPF stack only. The other build is for Linux
 * 5.4 and newer and faster. What differs is marked by this macro, and is kept
 * in as few places as possible (stack.h, kernel_walk in sample.bpf.c).
 */
#ifdef KERNEL_4_9
#define FOR_4_9 1
#else
#define FOR_4_9 0
#endif

/* Whether a lookup found nothing. If it did not, p is made anew of what was
 * compared: the first releases of Linux 4.9 learn from the comparison for the
 * one register only, and for no copy of it on the stack. */
#define MISSING(p) (!(p) || ({ OPAQUE(p); 0; }))

/* Where many paths meet: makes the registers' values the same on all of them,
 * so that the verifier goes on once and not once for each. What is needed
 * later goes to the stack, where Linux 4.9 tells pointers and numbers apart
 * and no more. */
#if FOR_4_9
#define PATHS_MEET()                                                          \
	asm volatile("r0 = 0; r1 = 0; r2 = 0; r3 = 0; r4 = 0; r5 = 0; "       \
		     "r6 = 0; r7 = 0; r8 = 0; r9 = 0;" ::: "r0", "r1", "r2",  \
		     "r3", "r4", "r5", "r6", "r7", "r8", "r9", "memory")
#else
#define PATHS_MEET() (void)0
#endif

/* A map definition that the loader reads from BTF. */
#define UINT(name, value) int(*name)[value]
#define TYPE(name, type) type *name

enum {
	MAP_HASH = 1,
	MAP_ARRAY = 2,
	MAP_PROG_ARRAY = 3,
	MAP_PERCPU_ARRAY = 6,
	MAP_STACK_TRACE = 7,
};

enum {
	UPDATE_NOEXIST = 1,     /* BPF_NOEXIST */
	STACK_USER = 1ULL << 8, /* BPF_F_USER_STACK */
};

#define ERR_EXIST (-17)

#ifndef SRPROF_HOST /* tests compile the walk for the host and bring their own */
static void *(*map_lookup)(const void *map, const void *key) = (void *)1;                              /* 3.19 */
static long (*map_update)(const void *map, const void *key, const void *value, u64 flags) = (void *)2; /* 3.19 */
static long (*probe_read)(void *to, u32 size, const void *from) = (void *)4;                           /* 4.1 */
static u64 (*ktime_get_ns)(void) = (void *)5;                                                          /* 4.1 */
static u32 (*get_smp_processor_id)(void) = (void *)8;                                                  /* 4.1 */
static long (*tail_call)(void *ctx, const void *programs, u32 index) = (void *)12;                     /* 4.2 */
static u64 (*get_current_pid_tgid)(void) = (void *)14;                                                 /* 4.2 */
static long (*get_current_comm)(void *buf, u32 size) = (void *)16;                                     /* 4.2 */
static long (*get_stackid)(void *ctx, const void *map, u64 flags) = (void *)27;                         /* 4.6 */
static u64 (*get_current_task)(void) = (void *)35;                                                     /* 4.8 */
static long (*get_stack)(void *ctx, void *buf, u32 size, u64 flags) = (void *)67;                      /* 4.18 */
#endif

#endif

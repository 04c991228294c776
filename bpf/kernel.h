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

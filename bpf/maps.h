/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The maps. Sizes that depend on the machine (CPUs) are set by the Go side
 * before loading. Hashes are preallocated: before Linux 6.1 a perf event's
 * program may use no others.
 */
#ifndef SRPROF_MAPS_H
#define SRPROF_MAPS_H

#include "abi.h"

struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct config);
} current_config SEC(".maps");

/* Thread groups to sample; the value means nothing. */
struct {
	UINT(type, MAP_HASH);
	UINT(max_entries, 4096);
	TYPE(key, u32);
	TYPE(value, u32);
} targets SEC(".maps");

struct {
	UINT(type, MAP_PERCPU_ARRAY);
	UINT(max_entries, 1);
	TYPE(key, u32);
	TYPE(value, struct cpu);
} cpus SEC(".maps");

#define COUNTS(name)                        \
	struct {                            \
		UINT(type, MAP_HASH);       \
		UINT(max_entries, 2048);    \
		TYPE(key, struct sample_key); \
		TYPE(value, u64);           \
	} name SEC(".maps")

#define STACKS(name)                       \
	struct {                           \
		UINT(type, MAP_HASH);      \
		UINT(max_entries, 2048);   \
		TYPE(key, u64);            \
		TYPE(value, struct stack_ref); \
	} name SEC(".maps")

COUNTS(counts_0);
COUNTS(counts_1);
STACKS(stacks_0);
STACKS(stacks_1);

/* Element cpu * BUFFERS + buffer. */
struct {
	UINT(type, MAP_ARRAY);
	UINT(max_entries, 2);
	TYPE(key, u32);
	TYPE(value, struct region);
} regions SEC(".maps");

#endif

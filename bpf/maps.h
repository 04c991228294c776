/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The maps. Sizes that depend on the machine (CPUs) or the targets (tables)
 * are set by the Go side before loading. Hashes are preallocated: before Linux
 * 6.1 a perf event's program may use no others.
 */
#ifndef SRPROF_MAPS_H
#define SRPROF_MAPS_H

#include "abi.h"

#define ARRAY_OF(name, map_type, entries, value_type) \
	struct {                                      \
		UINT(type, map_type);                 \
		UINT(max_entries, entries);           \
		TYPE(key, u32);                       \
		TYPE(value, value_type);              \
	} name SEC(".maps")

#define HASH_OF(name, entries, key_type, value_type) \
	struct {                                     \
		UINT(type, MAP_HASH);                \
		UINT(max_entries, entries);          \
		TYPE(key, key_type);                 \
		TYPE(value, value_type);             \
	} name SEC(".maps")

/* Stack traces by id. */
#define STACKS_OF(name, entries)                         \
	struct {                                         \
		UINT(type, MAP_STACK_TRACE);             \
		UINT(max_entries, entries);              \
		UINT(key_size, sizeof(u32));             \
		UINT(value_size, KERNEL_FRAMES * sizeof(u64)); \
	} name SEC(".maps")

ARRAY_OF(current_config, MAP_ARRAY, 1, struct config);

ARRAY_OF(target_filter, MAP_ARRAY, 1, struct filter);

/* Thread groups to sample, and which element of spaces has their mappings. */
HASH_OF(targets, 4096, u32, u32);

ARRAY_OF(cpus, MAP_PERCPU_ARRAY, 1, struct cpu);
ARRAY_OF(walks, MAP_PERCPU_ARRAY, 1, struct walk);

HASH_OF(counts_0, 2048, struct sample_key, u64);
HASH_OF(counts_1, 2048, struct sample_key, u64);
HASH_OF(stacks_0, 2048, u64, struct stack_ref);
HASH_OF(stacks_1, 2048, u64, struct stack_ref);

/* Element cpu * BUFFERS + buffer. */
ARRAY_OF(regions, MAP_ARRAY, 2, struct region);

/* The unwind tables: rows in chunks, and where each page's rows lie. */
ARRAY_OF(rows, MAP_ARRAY, 1, struct chunk);
ARRAY_OF(pages, MAP_ARRAY, 1, struct block);
ARRAY_OF(spaces, MAP_ARRAY, 1, struct space);

/* Element cpu: an address's place in it is a hash of the address. */
ARRAY_OF(caches, MAP_ARRAY, 1, struct cache);

/* Where task_struct.stack lies, once it was found out. */
ARRAY_OF(task_stack, MAP_ARRAY, 1, u32);

#if FOR_4_9
/* What the kernel walks cannot be had but from such maps before Linux 4.18. */
STACKS_OF(stack_ids_0, STACK_IDS);
STACKS_OF(stack_ids_1, STACK_IDS);
STACKS_OF(overflow_ids_0, OVERFLOW_IDS);
STACKS_OF(overflow_ids_1, OVERFLOW_IDS);
#endif

/* The walk, once it is loaded. Until then the kernel walks user stacks. */
ARRAY_OF(programs, MAP_PROG_ARRAY, 1, u32);

#endif

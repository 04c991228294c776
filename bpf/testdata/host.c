// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * The walk, compiled for the host: reads tables and stacks from stdin, walks
 * each stack as the kernel would, and writes what it found to stdout. So the
 * very code that runs in the kernel is tested on any stack, of any
 * architecture. sampler/host_test.go knows the format of both.
 */
#define SRPROF_HOST
#include "../kernel.h"

static void *map_lookup(const void *map, const void *key);
static long probe_read(void *to, u32 size, const void *from);
static u32 get_smp_processor_id(void) { return 0; }

#include "../unwind.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
	u64 chunks, blocks, stacks;
} header;
static struct chunk *chunk;
static struct block *block;
static struct space space;
static struct cache one_cache;
static struct region one_region;
static struct walk one_walk;

/* A stack: the leaf's registers, then so many bytes of memory from start on. */
static struct {
	u64 pc, sp, bp, lr, regs[16], start, size;
} given;
static u8 *memory;

static void *map_lookup(const void *map, const void *key)
{
	u32 i = *(const u32 *)key;
	if (map == &rows)
		return i < header.chunks ? &chunk[i] : 0;
	if (map == &pages)
		return i < header.blocks ? &block[i] : 0;
	if (map == &spaces)
		return i == 0 ? &space : 0;
	if (map == &caches)
		return i == 0 ? &one_cache : 0;
	if (map == &regions)
		return i == 0 ? &one_region : 0;
	if (map == &walks)
		return i == 0 ? &one_walk : 0;
	abort();
}

static long probe_read(void *to, u32 size, const void *from)
{
	u64 at = (u64)from - given.start;
	if (at >= given.size || given.size - at < size) {
		memset(to, 0, size); /* as the kernel does */
		return -14;
	}
	memcpy(to, memory + at, size);
	return 0;
}

static void get(void *to, size_t size)
{
	if (size && fread(to, size, 1, stdin) != 1) {
		fprintf(stderr, "the input ends early\n");
		exit(1);
	}
}

static void put(const void *from, size_t size)
{
	if (size && fwrite(from, size, 1, stdout) != 1)
		exit(1);
}

/* One sample: as often as the kernel allows tail calls. */
static void sample(struct cpu *cpu, struct walk *w)
{
	memset(w, 0, sizeof(*w));
	w->pc = given.pc, w->sp = given.sp, w->bp = given.bp, w->lr = given.lr;
	memcpy(w->regs, given.regs, sizeof(w->regs));
#if defined(__TARGET_ARCH_arm64)
	w->lr_known = 1;
#endif
	w->generation = space.generation;
	w->end = END_TRUNCATED;
	w->interrupted = 1;
	w->window_start = NOWHERE;
	for (int i = 0; i < 32; i++)
		if (walk_on(cpu, w) == STEP_DONE)
			return;
}

int main(void)
{
	get(&header, sizeof(header));
	chunk = calloc(header.chunks + 1, sizeof(*chunk));
	block = calloc(header.blocks + 1, sizeof(*block));
	get(chunk, header.chunks * sizeof(*chunk));
	get(block, header.blocks * sizeof(*block));
	get(&space, sizeof(space));
	for (u64 i = 0; i < header.stacks; i++) {
		struct cpu cpu = {0};
		struct walk *w = &one_walk;
		get(&given, sizeof(given));
		memory = malloc(given.size + 1);
		get(memory, given.size);
		/* Until all rules are cached, as they soon are; but for those that
		 * have the same place in the cache. */
		for (int round = 0; round < 16; round++)
			sample(&cpu, w);
		u32 found[] = {w->end, w->frames, w->interrupted, w->no_table};
		put(found, sizeof(found));
		put(one_region.addr, w->frames * sizeof(u64));
		free(memory);
	}
	return 0;
}

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The walk: from a thread's registers to the addresses of its user stack, by
 * unwind tables.
 *
 * A frame goes like this: the address's rule is looked up in the cache; the
 * rule is an equation (abi.h) that yields the caller's address, stack pointer
 * and frame pointer, with one or two words read from the stack. Frames whose
 * rule is cached and plain are taken WALK_FRAMES in a row, unrolled. What is
 * not comes to the end of the program, once: there a rule is searched for, and
 * the rare kinds of rules are applied. Then the program calls itself.
 *
 * The price: an address that is not cached costs a tail call of the 32 there
 * are. Programs visit the same addresses over and over, so that is rare after
 * the first samples.
 *
 * Everything lives in struct walk, in a map. Searches do not branch, so that
 * the verifier follows one path and not 2^18.
 */
#ifndef SRPROF_UNWIND_H
#define SRPROF_UNWIND_H

#if defined(__TARGET_ARCH_x86)
#include "rules_amd64.h"
#else
#include "rules_arm64.h"
#endif

#define GOLDEN 0x9e3779b97f4a7c15ULL

/* Mixes in one word: multiply and fold, so that every input bit reaches the
 * low bits that select a bucket. Two different stacks of one drain share a
 * hash with a chance of about n^2 / 2^65: never, for n in the thousands. */
INLINE u64 mix(u64 h, u64 word)
{
	h = (h ^ word) * GOLDEN;
	return h ^ (h >> 29);
}

/* The address by which the rule is found: a return address may be the first
 * of another function (profile.Address.Lookup is its twin). */
INLINE u64 lookup_pc(const struct walk *w) { return w->returned ? w->pc - 1 : w->pc; }

INLINE struct cached *cache_slot(struct cache *c, u64 pc)
{
	u64 at = (pc * GOLDEN) >> (64 - CACHE_BITS);
	OPAQUE(at); /* as in next_addr; and a shift is no bound to Linux 4.9 */
	return &c->entry[at & (CACHE_ENTRIES - 1)];
}

/* Where the stack goes on in the region. The verifier of most kernels forgets
 * what it knows of a value when it goes through memory, so the bounds are made
 * here, where they count; and the compiler, which knows better, is kept from
 * leaving them out. */
INLINE u64 *next_addr(struct walk *w, struct region *r)
{
	u64 start = w->start, more = w->kernel_frames + w->frames;
	OPAQUE(start);
	OPAQUE(more);
	return &r->addr[(start & (REGION_FRAMES - 1)) + (more & (REGION_SLACK - 1))];
}

/* Stores the current address at the end of the stack. */
INLINE int push(struct walk *w, struct region *r)
{
	r = fresh_region(w, r);
	if (MISSING(r) || w->frames >= USER_FRAMES)
		return -1;
	*next_addr(w, r) = w->pc;
	w->hash = mix(w->hash, w->pc);
	w->frames++;
	return 0;
}

/* One frame, if its rule is cached and plain. */
INLINE int step_fast(struct walk *w, struct region *r, struct cache *cache)
{
	OPAQUE(w);
	if (push(w, r))
		return ended(w, END_TRUNCATED);
	cache = fresh_cache(w, cache);
	if (MISSING(cache))
		return ended(w, END_TRUNCATED);
	u64 pc = lookup_pc(w);
	struct cached *c = cache_slot(cache, pc);
	if (UNLIKELY(c->pc != pc || c->generation != w->generation))
		return STEP_SLOW;
	return apply_plain(w, c->rule);
}

/* ~0 if a <= b, else 0, without a branch. Both are below 2^63. */
INLINE u64 at_most(u64 a, u64 b)
{
	u64 difference = a - b - 1;
	OPAQUE(difference); /* or the compiler makes a branch of what it knows to be small */
	return (u64)((s64)difference >> 63);
}

/* The mapping that pc lies in, by binary search: a copy, because a pointer
 * into the middle of a map's value does not survive a helper's call before
 * Linux 4.11. Without code (limit 0) if there is none. */
INLINE struct mapping find_mapping(const struct space *s, u64 pc)
{
	u64 at = 0;
#pragma unroll
	for (u64 half = SPACE_MAPPINGS / 2; half; half /= 2) {
		u64 next = (at + half) & (SPACE_MAPPINGS - 1);
		at += half & at_most(next + 1, s->count) & at_most(s->mappings[next].start, pc);
		OPAQUE(at);
		at &= SPACE_MAPPINGS - 1;
	}
	return s->mappings[at];
}

/* The rule for rel, an address relative to its table's base, on page of the
 * page index. */
INLINE u32 find_rule(u64 page, u64 rel)
{
	u32 index = page / PAGES_IN_BLOCK;
	struct block *b = map_lookup(&pages, &index);
	if (MISSING(b))
		return RULE_NONE;
	u32 where = b->page[page % PAGES_IN_BLOCK];
	index = where >> 18;
	u64 at = (where >> 9) & 511, limit = at + (where & 511);
	struct chunk *c = map_lookup(&rows, &index);
	if (MISSING(c) || !(where & 511))
		return RULE_NONE;
#pragma unroll
	for (u64 half = CHUNK_ROWS / 2; half; half /= 2) {
		u64 next = (at + half) & (CHUNK_ROWS - 1);
		/* at + half may run out of the chunk; then it is beyond limit too. */
		at += half & at_most(at + half + 1, limit) & at_most(c->rows[next].addr, rel);
	}
	return c->rows[at & (CHUNK_ROWS - 1)].rule;
}

/* The rule for pc. */
INLINE u32 search(const struct walk *w, u64 pc)
{
	u32 number = w->space;
	struct space *s = map_lookup(&spaces, &number);
	if (MISSING(s) || !s->generation)
		return RULE_NONE;
	struct mapping m = find_mapping(s, pc);
	if (pc < m.start || pc >= m.limit)
		return RULE_NO_CODE;
	u64 rel = pc - m.bias, page = rel >> PAGE_SHIFT;
	return page < m.pages ? find_rule(m.page + page, rel) : RULE_NONE;
}

/* One frame the slow way: searches for the rule, and keeps it. */
INLINE int step_slow(struct cpu *cpu, struct walk *w, struct cache *cache)
{
	OPAQUE(w);
	cache = fresh_cache(w, cache);
	if (MISSING(cache))
		return ended(w, END_TRUNCATED);
	u64 pc = lookup_pc(w);
	struct cached *c = cache_slot(cache, pc);
	u32 rule = c->rule;
	if (c->pc != pc || c->generation != w->generation) {
		rule = plain(search(w, pc));
		cache = fresh_cache(w, cache);
		if (MISSING(cache))
			return ended(w, END_TRUNCATED);
		c = cache_slot(cache, pc); /* not kept across the search: Linux 4.9 cannot spill it */
		c->pc = pc;
		c->rule = rule;
		c->generation = w->generation;
		cpu->searches++;
	}
	return apply(w, rule);
}

/* One program's share of the walk. It ends, or the program must run again. */
INLINE int walk_on(struct cpu *cpu, struct walk *w)
{
	u32 region = w->region, number = get_smp_processor_id();
	struct region *r = map_lookup(&regions, &region);
	struct cache *cache = map_lookup(&caches, &number);
	if (MISSING(r) || MISSING(cache))
		return ended(w, END_TRUNCATED);
	int step = STEP_ON;
#pragma unroll
	for (int i = 0; i < WALK_FRAMES; i++) {
		step = step_fast(w, r, cache);
		if (step != STEP_ON)
			break;
	}
	return step == STEP_SLOW ? step_slow(cpu, w, cache) : step;
}

#endif

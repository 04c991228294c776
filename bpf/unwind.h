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

#include "maps.h"

/* What a step says. */
enum step {
	STEP_ON,   /* one frame further */
	STEP_SLOW, /* its rule is not cached, or not plain */
	STEP_DONE, /* w->end says how it ended */
};

#define GOLDEN 0x9e3779b97f4a7c15ULL

/* Mixes in one word: multiply and fold, so that every input bit reaches the
 * low bits that select a bucket. Two different stacks of one drain share a
 * hash with a chance of about n^2 / 2^65: never, for n in the thousands. */
INLINE u64 mix(u64 h, u64 word)
{
	h = (h ^ word) * GOLDEN;
	return h ^ (h >> 29);
}

INLINE int ended(struct walk *w, u32 end)
{
	w->end = end;
	return STEP_DONE;
}

/* Reads one word of the stack, out of the window if it is there. */
INLINE int read_stack(struct walk *w, u64 addr, u64 *word)
{
	u64 at = addr - w->window_start;
	if (at <= WINDOW_BYTES - 8) {
		*word = w->window[(at >> 3) & (WINDOW_BYTES / 8 - 1)];
		return 0;
	}
	if (LIKELY(!probe_read(w->window, WINDOW_BYTES, (void *)addr))) {
		w->window_start = addr;
		*word = w->window[0];
		return 0;
	}
	/* Less than a window of stack is left above, or none. What the window
	 * held is gone. */
	w->window_start = NOWHERE;
	if (probe_read(&w->word, 8, (void *)addr))
		return -1;
	*word = w->word;
	return 0;
}

/* The address by which the rule is found: a return address may be the first
 * of another function (profile.Address.Lookup is its twin). */
INLINE u64 lookup_pc(const struct walk *w) { return w->returned ? w->pc - 1 : w->pc; }

INLINE struct cached *cache_slot(u64 pc)
{
	u32 index = get_smp_processor_id() * CACHE_ENTRIES + (u32)((pc * GOLDEN) >> (64 - CACHE_BITS));
	return map_lookup(&cache, &index);
}

/* Stores the current address at the end of the stack. */
INLINE int push(struct walk *w)
{
	struct region *r = map_lookup(&regions, &w->region);
	if (!r || w->frames >= USER_FRAMES)
		return -1;
	u32 at = w->kernel_frames + w->frames;
	r->addr[(w->start & (REGION_FRAMES - 1)) + (at & (REGION_SLACK - 1))] = w->pc;
	w->hash = mix(w->hash, w->pc);
	w->frames++;
	return 0;
}

/* Goes to the caller's frame: RA, CFA and BP are known. */
INLINE int to_caller(struct walk *w, u64 ra, u64 cfa, u64 bp)
{
	if (ra == 0)
		return ended(w, END_ROOT);
	if (cfa <= w->sp)
		return ended(w, w->no_table ? END_NO_TABLE : END_BAD_STACK);
	w->pc = ra;
	w->sp = cfa;
	w->bp = bp;
	w->returned = 1;
	return STEP_ON;
}

/* Applies CFA = cfa with the rule's bp: the part that most rules share. */
INLINE int apply_cfa(struct walk *w, u64 cfa, u32 bp_rule)
{
	u64 bp = w->bp, ra;
	/* BP first: it lies lower, so one window serves both. */
	if (bp_rule) {
		u64 at = bp_rule == 255 ? w->bp : cfa - 8 * bp_rule;
		if (read_stack(w, at, &bp))
			return ended(w, END_UNREADABLE);
	}
	if (read_stack(w, cfa - 8, &ra))
		return ended(w, END_UNREADABLE);
	return to_caller(w, ra, cfa, bp);
}

/* One frame by a cached, plain rule. */
INLINE int step_fast(struct walk *w)
{
	if (push(w))
		return ended(w, END_TRUNCATED);
	u64 pc = lookup_pc(w);
	struct cached *c = cache_slot(pc);
	if (UNLIKELY(!c || c->pc != pc || c->generation != w->generation))
		return STEP_SLOW;
	u32 rule = c->rule, op = rule & 15;
	w->rule = rule;
	u64 base = op == RULE_SP ? w->sp : w->bp;
	/* A frame pointer of zero may be the root. */
	if (UNLIKELY(op > RULE_FRAME_POINTER || !base))
		return STEP_SLOW;
	if (op == RULE_NONE)
		w->no_table++;
	return apply_cfa(w, base + (s64)((s32)rule >> 12) * 8, (rule >> 4) & 255);
}

/* ~0 if a <= b, else 0, without a branch. Both are below 2^63. */
INLINE u64 at_most(u64 a, u64 b)
{
	u64 mask = (u64)((s64)(a - b - 1) >> 63);
	OPAQUE(mask);
	return mask;
}

/* The mapping that pc lies in, by binary search. */
INLINE struct mapping *find_mapping(struct space *s, u64 pc)
{
	u64 at = 0;
#pragma unroll
	for (u64 half = SPACE_MAPPINGS / 2; half; half /= 2) {
		u64 next = (at + half) & (SPACE_MAPPINGS - 1);
		at += half & at_most(next + 1, s->count) & at_most(s->mappings[next].start, pc);
		at &= SPACE_MAPPINGS - 1;
	}
	struct mapping *m = &s->mappings[at];
	return m->start <= pc && pc < m->limit ? m : 0;
}

/* The rule for an address relative to its table's base. */
INLINE u32 find_rule(const struct mapping *m, u64 rel)
{
	u64 page = rel >> PAGE_SHIFT;
	if (page >= m->pages)
		return RULE_NONE;
	page += m->page;
	u32 index = page / PAGES_IN_BLOCK;
	struct block *b = map_lookup(&pages, &index);
	if (!b)
		return RULE_NONE;
	u32 where = b->page[page % PAGES_IN_BLOCK];
	index = where >> 18;
	u64 at = (where >> 9) & 511, limit = at + (where & 511);
	struct chunk *c = map_lookup(&rows, &index);
	if (!c || !(where & 511))
		return RULE_NONE;
#pragma unroll
	for (u64 half = CHUNK_ROWS / 2; half; half /= 2) {
		u64 next = (at + half) & (CHUNK_ROWS - 1);
		/* at + half may run out of the chunk; then it is beyond limit too. */
		at += half & at_most(at + half + 1, limit) & at_most(c->rows[next].addr, rel);
	}
	return c->rows[at & (CHUNK_ROWS - 1)].rule;
}

/* RULE_NONE and RULE_FRAME_POINTER are CFA = BP + 16, BP = *(CFA - 16): said
 * so, a frame by them is a plain one, with no case of its own. */
INLINE u32 plain(u32 rule)
{
	u32 op = rule & 15;
	return op == RULE_NONE || op == RULE_FRAME_POINTER ? op | 2 << 4 | 2 << 12 : rule;
}

/* The rule for pc. */
INLINE u32 search(struct walk *w, u64 pc)
{
	struct space *s = map_lookup(&spaces, &w->space);
	if (!s || !s->generation)
		return RULE_NONE;
	struct mapping *m = find_mapping(s, pc);
	if (!m)
		return RULE_NO_CODE;
	return m->pages ? find_rule(m, pc - m->bias) : RULE_NONE;
}

/* By frame pointer: CFA = BP + 16, BP = *(BP). A frame pointer of zero marks
 * a thread's entry. */
INLINE int apply_frame_pointer(struct walk *w)
{
	if (w->bp == 0)
		return ended(w, END_ROOT);
	if (w->bp < w->sp)
		return ended(w, w->no_table ? END_NO_TABLE : END_BAD_STACK);
	return apply_cfa(w, w->bp + 16, 2);
}

INLINE int apply_signal(struct walk *w)
{
	u64 pc, bp, to;
	if (read_stack(w, w->sp + SIGNAL_BP, &bp) || read_stack(w, w->sp + SIGNAL_SP, &to) ||
	    read_stack(w, w->sp + SIGNAL_PC, &pc))
		return ended(w, END_UNREADABLE);
	w->pc = pc, w->sp = to, w->bp = bp; /* to may lie lower: an alternate stack */
	w->returned = 0;
	if (w->frames < 32)
		w->interrupted |= 1U << w->frames;
	return STEP_ON;
}

/* Rules with a register are good in the leaf only: of callers we know PC, SP
 * and BP alone. */
INLINE int apply_register(struct walk *w, u32 op, s64 off)
{
	if (w->frames != 1)
		return ended(w, END_INVALID);
	u64 r = w->regs[off & 15];
	s64 add = (off >> 4) * 8;
	if (op == RULE_RETURN_REGISTER)
		return to_caller(w, r, w->sp + add, w->bp);
	return apply_cfa(w, r + add, (w->rule >> 4) & 255);
}

/* One frame by any rule. */
INLINE int apply(struct walk *w)
{
	u32 rule = w->rule, op = rule & 15, bp = (rule >> 4) & 255;
	s64 off = (s32)rule >> 12;
	u64 cfa;
	switch (op) {
	case RULE_NONE:
		w->no_table++;
		return apply_frame_pointer(w);
	case RULE_FRAME_POINTER:
		return apply_frame_pointer(w);
	case RULE_SP:
		return apply_cfa(w, w->sp + off * 8, bp);
	case RULE_BP:
		return apply_cfa(w, w->bp + off * 8, bp);
	case RULE_ROOT:
		return ended(w, END_ROOT);
	case RULE_PLT:
		return apply_cfa(w, w->sp + 8 + ((w->pc & 15) >= 11 ? 8 : 0), 0);
	case RULE_SIGNAL:
		return apply_signal(w);
	case RULE_DEREF_BP:
		if (read_stack(w, w->bp + off * 8, &cfa))
			return ended(w, END_UNREADABLE);
		return apply_cfa(w, cfa, bp);
	case RULE_DEREF_SP:
		if (read_stack(w, w->sp + off * 8, &cfa))
			return ended(w, END_UNREADABLE);
		return apply_cfa(w, cfa + 8 * bp, 0);
	case RULE_DEREF_SP_SAVED:
		if (read_stack(w, w->sp + (off >> 7) * 8, &cfa))
			return ended(w, END_UNREADABLE);
		return apply_cfa(w, cfa + 8 * (off & 127), bp);
	case RULE_REGISTER:
	case RULE_RETURN_REGISTER:
		return apply_register(w, op, off);
	case RULE_NO_CODE:
		return ended(w, w->no_table ? END_NO_TABLE : END_BAD_ADDRESS);
	}
	return ended(w, END_INVALID);
}

/* One frame the slow way: searches for the rule, and keeps it. */
INLINE int step_slow(struct cpu *cpu, struct walk *w)
{
	u64 pc = lookup_pc(w);
	struct cached *c = cache_slot(pc);
	if (!c)
		return ended(w, END_TRUNCATED);
	if (c->pc != pc || c->generation != w->generation) {
		u32 rule = plain(search(w, pc));
		w->rule = rule;
		c->pc = pc;
		c->rule = rule;
		c->generation = w->generation;
		cpu->searches++;
	}
	return apply(w);
}

/* One program's share of the walk. It ends, or the program must run again. */
INLINE int walk_on(struct cpu *cpu, struct walk *w)
{
	int step = STEP_ON;
#pragma unroll
	for (int i = 0; i < WALK_FRAMES; i++) {
		step = step_fast(w);
		if (step != STEP_ON)
			break;
	}
	return step == STEP_SLOW ? step_slow(cpu, w) : step;
}

#endif

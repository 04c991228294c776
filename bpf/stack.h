/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What all rules are made of: reading words of the thread's stack, and going
 * to the caller's frame.
 */
#ifndef SRPROF_STACK_H
#define SRPROF_STACK_H

#include "maps.h"

/* What a step says. */
enum step {
	STEP_ON,   /* one frame further */
	STEP_SLOW, /* its rule is not cached, or not plain */
	STEP_DONE, /* w->end says how it ended */
};

INLINE int ended(struct walk *w, u32 end)
{
	w->end = end;
	return STEP_DONE;
}

/* Where frame pointers were followed in code that may keep none, anything that
 * does not go on is that code's fault. */
INLINE int astray(struct walk *w, u32 end) { return ended(w, w->no_table ? END_NO_TABLE : end); }

/* w, r and cache for where the offset is more than a constant. On Linux 4.9
 * they come from their maps again: there a pointer that was on the stack
 * meanwhile is good for constant offsets only, and the compiler cannot be told
 * to keep one in a register. */
INLINE const struct walk *fresh_walk(const struct walk *w)
{
#if FOR_4_9
	u32 zero = 0;
	w = map_lookup(&walks, &zero);
#endif
	return w;
}

INLINE struct region *fresh_region(const struct walk *w, struct region *r)
{
	(void)w;
#if FOR_4_9
	u32 number = w->region;
	r = map_lookup(&regions, &number);
#endif
	return r;
}

INLINE struct cache *fresh_cache(const struct walk *w, struct cache *cache)
{
	(void)w;
#if FOR_4_9
	u32 number = w->region / BUFFERS;
	cache = map_lookup(&caches, &number);
#endif
	return cache;
}

/* Reads one word of the stack, out of the window if it is there. */
INLINE int read_stack(struct walk *w, u64 addr, u64 *word)
{
	u64 value;
	(void)w;
#if !FOR_4_9
	u64 at = addr - w->window_start;
	if (at <= w->window_last) {
		*word = w->window[(at >> 3) & (WINDOW_BYTES / 8 - 1)];
		return 0;
	}
	/* A short stack needs no more than half a window; who comes this far needs
	 * more. */
	u32 size = WINDOW_BYTES / 2 + ((w->frames & 0xfff0) ? WINDOW_BYTES / 2 : 0);
	if (LIKELY(!probe_read(w->window, size, (void *)addr))) {
		w->window_start = addr;
		w->window_last = size - 8;
		*word = w->window[0];
		return 0;
	}
	/* Less than a window of stack is left above, or none. What the window
	 * held is gone. */
	w->window_start = NOWHERE;
#endif
	if (probe_read(&value, 8, (void *)addr))
		return -1;
	*word = value;
	return 0;
}

/* The least CFA that a rule may yield: stacks grow downwards, so the caller's
 * frame lies above; a frame of nothing is good in a leaf alone whose return
 * address is in a register. Code that is known to keep frame pointers is
 * trusted: Go switches stacks under them. */
INLINE u64 least_cfa(const struct walk *w, u32 rule)
{
	return (rule & 15) == RULE_FRAME_POINTER ? 0 : w->sp + !w->lr_known;
}

/* Goes to the caller's frame: RA, CFA and BP are known. */
INLINE int to_caller(struct walk *w, u64 ra, u64 cfa, u64 bp, u64 least)
{
	if (ra == 0)
		return ended(w, END_ROOT);
	if (cfa < least)
		return astray(w, END_BAD_STACK);
	w->pc = ra;
	w->sp = cfa;
	w->bp = bp;
	w->returned = 1;
	w->lr_known = 0;
	return STEP_ON;
}

/* Goes on where a signal interrupted; sp may lie lower, on another stack. */
INLINE int to_interrupted(struct walk *w, u64 pc, u64 sp, u64 bp)
{
	w->pc = pc, w->sp = sp, w->bp = bp;
	w->returned = 0;
	if (w->frames < 32)
		w->interrupted |= 1U << w->frames;
	return STEP_ON;
}

#endif

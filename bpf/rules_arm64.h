/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The rules of arm64, applied. abi.h has their equations. */
#ifndef SRPROF_RULES_H
#define SRPROF_RULES_H

#include "stack.h"

/* Return addresses may be signed (pointer authentication): the signature sits
 * above the address, which has 48 bits. With 52 (CONFIG_ARM64_VA_BITS_52) the
 * kernel still maps below 2^48 unless a program asks for more. */
#define ADDRESS(word) ((word) & ((1ULL << 48) - 1))

/* RULE_NONE and RULE_FRAME_POINTER are CFA = BP + 16, BP = *(CFA - 16),
 * RA = *(CFA - 8): said so, a frame by them is a plain one. */
INLINE u32 plain(u32 rule)
{
	u32 op = rule & 15;
	return op == RULE_NONE || op == RULE_FRAME_POINTER ? op | 2 << 4 | 1 << 12 | 1 << 20 : rule;
}

/* RA = *(CFA - ra), BP = *(CFA - fp) unless fp is zero. */
INLINE int apply_cfa(struct walk *w, u64 cfa, u32 fp, u32 ra, u64 least)
{
	u64 bp = w->bp, to;
	if (fp && read_stack(w, cfa - fp, &bp))
		return astray(w, END_UNREADABLE);
	if (read_stack(w, cfa - ra, &to))
		return astray(w, END_UNREADABLE);
	return to_caller(w, ADDRESS(to), cfa, bp, least);
}

/* One frame, if its rule is a plain one. */
INLINE int apply_plain(struct walk *w, u32 rule)
{
	u32 op = rule & 15, ra = (rule >> 12) & 255;
	u64 base = either(op == RULE_SP, w->sp, w->bp);
	/* A frame pointer of zero may be the root; RA may be in LR. */
	if (UNLIKELY(op > RULE_FRAME_POINTER || !base || !ra))
		return STEP_SLOW;
	if (op == RULE_NONE)
		w->no_table++;
	return apply_cfa(w, base + (s64)((s32)rule >> 20) * 16, ((rule >> 4) & 255) * 8, ra * 8, least_cfa(w, rule));
}

/* By frame pointer: zero marks the root. */
INLINE int apply_frame_pointer(struct walk *w, u32 rule)
{
	/* In code of which nothing is known, only where frame pointers led. */
	if (w->bp == 0)
		return ended(w, (rule & 15) == RULE_NONE && w->no_table < 2 ? END_NO_TABLE : END_ROOT);
	return apply_cfa(w, w->bp + 16, 16, 8, least_cfa(w, rule));
}

/* RA = LR: the leaf has not saved it. */
INLINE int apply_link_register(struct walk *w, u64 cfa, u32 fp)
{
	u64 bp = w->bp;
	if (!w->lr_known)
		return ended(w, END_INVALID);
	if (fp && read_stack(w, cfa - fp, &bp))
		return astray(w, END_UNREADABLE);
	return to_caller(w, ADDRESS(w->lr), cfa, bp, w->sp);
}

INLINE int apply_signal(struct walk *w)
{
	u64 pc, bp, sp, lr;
	if (read_stack(w, w->sp + SIGNAL_BP, &bp) || read_stack(w, w->sp + SIGNAL_LR, &lr) ||
	    read_stack(w, w->sp + SIGNAL_SP, &sp) || read_stack(w, w->sp + SIGNAL_PC, &pc))
		return astray(w, END_UNREADABLE);
	w->lr = lr;
	w->lr_known = 1;
	return to_interrupted(w, ADDRESS(pc), sp, bp);
}

/* One frame by any rule. */
INLINE int apply(struct walk *w, u32 rule)
{
	u32 op = rule & 15, fp = ((rule >> 4) & 255) * 8, ra = ((rule >> 12) & 255) * 8;
	u64 cfa = either(op == RULE_BP || op == RULE_RECORD_BP, w->bp, w->sp) + (s64)((s32)rule >> 20) * 16;
	switch (op) {
	case RULE_NONE:
		w->no_table++;
		return apply_frame_pointer(w, rule);
	case RULE_FRAME_POINTER:
		return apply_frame_pointer(w, rule);
	case RULE_SP:
	case RULE_BP:
		if (!ra)
			return apply_link_register(w, cfa, fp);
		break;
	case RULE_RECORD_SP:
	case RULE_RECORD_BP:
		fp = ((rule >> 4) & 0xffff) * 16;
		ra = fp - 8;
		break;
	case RULE_ROOT:
		return ended(w, END_ROOT);
	case RULE_SIGNAL:
		return apply_signal(w);
	case RULE_NO_CODE:
		return astray(w, END_BAD_ADDRESS);
	default:
		return ended(w, END_INVALID);
	}
	return apply_cfa(w, cfa, fp, ra, least_cfa(w, rule));
}

#endif

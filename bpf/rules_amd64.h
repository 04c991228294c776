/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The rules of amd64, applied. abi.h has their equations. */
#ifndef SRPROF_RULES_H
#define SRPROF_RULES_H

#include "stack.h"

#define LIKELY_FRAME 65536 /* bytes */

/* RULE_NONE and RULE_FRAME_POINTER are CFA = BP + 16, BP = *(CFA - 16): said
 * so, a frame by them is a plain one, with no case of its own. */
INLINE u32 plain(u32 rule)
{
	u32 op = rule & 15;
	return op == RULE_NONE || op == RULE_FRAME_POINTER ? op | 2 << 4 | 2 << 12 : rule;
}

/* Applies CFA = cfa with the rule's bp: the part that most rules share. */
INLINE int apply_cfa(struct walk *w, u64 cfa, u32 bp_rule, u64 least)
{
	u64 bp = w->bp, ra;
	/* BP first: it lies lower, so one window serves both. */
	if (bp_rule) {
		u64 at = bp_rule == 255 ? w->bp : cfa - 8 * bp_rule;
		if (read_stack(w, at, &bp))
			return astray(w, END_UNREADABLE);
	}
	if (read_stack(w, cfa - 8, &ra))
		return astray(w, END_UNREADABLE);
	return to_caller(w, ra, cfa, bp, least);
}

/* One frame, if its rule is a plain one. */
INLINE int apply_plain(struct walk *w, u32 rule)
{
	u32 op = rule & 15;
	u64 base = either(op == RULE_SP, w->sp, w->bp);
	/* A frame pointer of zero may be the root. */
	if (UNLIKELY(op > RULE_FRAME_POINTER || !base))
		return STEP_SLOW;
	if (op == RULE_NONE)
		w->no_table++;
	return apply_cfa(w, base + (s64)((s32)rule >> 12) * 8, (rule >> 4) & 255, least_cfa(w, rule));
}

/* By frame pointer: CFA = BP + 16, BP = *(BP). A frame pointer of zero marks
 * the root. */
INLINE int apply_frame_pointer(struct walk *w, u32 rule)
{
	/* In code of which nothing is known, only where frame pointers led. */
	if (w->bp == 0)
		return ended(w, (rule & 15) == RULE_NONE && w->no_table < 2 ? END_NO_TABLE : END_ROOT);
	return apply_cfa(w, w->bp + 16, 2, least_cfa(w, rule));
}

INLINE int apply_signal(struct walk *w)
{
	u64 pc, bp, sp;
	if (read_stack(w, w->sp + SIGNAL_BP, &bp) || read_stack(w, w->sp + SIGNAL_SP, &sp) ||
	    read_stack(w, w->sp + SIGNAL_PC, &pc))
		return astray(w, END_UNREADABLE);
	return to_interrupted(w, pc, sp, bp);
}

/* Rules with a register: only the leaf's are known. Its caller may still have
 * the same, where the leaf is a subroutine that keeps to other registers, as in
 * OpenSSL's assembly; believed if the CFA that comes of it is a likely one. */
INLINE int apply_register(struct walk *w, u32 rule)
{
	s64 off = (s32)rule >> 12;
	const struct walk *leaf = fresh_walk(w);
	if (MISSING(leaf))
		return ended(w, END_INVALID);
	u64 r = leaf->regs[off & 15];
	s64 add = (off >> 4) * 8;
	if ((rule & 15) == RULE_RETURN_REGISTER) {
		if (w->frames > 1)
			return ended(w, END_INVALID);
		return to_caller(w, r, w->sp + add, w->bp, w->sp);
	}
	u64 size = r + add - w->sp;
	if (w->frames > 1 && (w->frames > 2 || size > LIKELY_FRAME || size % 8))
		return ended(w, END_INVALID);
	return apply_cfa(w, r + add, (rule >> 4) & 255, w->sp + 1);
}

/* One frame by any rule. Those with a CFA of their own way find it here, then
 * go on as all: what is inlined once need not be verified six times. */
INLINE int apply(struct walk *w, u32 rule)
{
	u32 op = rule & 15, bp = (rule >> 4) & 255;
	s64 off = (s32)rule >> 12;
	u64 cfa, at;
	switch (op) {
	case RULE_NONE:
		w->no_table++;
		return apply_frame_pointer(w, rule);
	case RULE_FRAME_POINTER:
		return apply_frame_pointer(w, rule);
	case RULE_SP:
		cfa = w->sp + off * 8;
		break;
	case RULE_BP:
		cfa = w->bp + off * 8;
		break;
	case RULE_ROOT:
		return ended(w, END_ROOT);
	case RULE_PLT:
		cfa = w->sp + 8 + ((w->pc & 15) >= 11 ? 8 : 0);
		break;
	case RULE_SIGNAL:
		return apply_signal(w);
	case RULE_DEREF_BP:
	case RULE_DEREF_SP:
	case RULE_DEREF_SP_SAVED:
		at = op == RULE_DEREF_BP ? w->bp + off * 8 : op == RULE_DEREF_SP ? w->sp + off * 8 : w->sp + (off >> 7) * 8;
		if (read_stack(w, at, &cfa))
			return astray(w, END_UNREADABLE);
		if (op == RULE_DEREF_SP)
			cfa += 8 * bp, bp = 0;
		if (op == RULE_DEREF_SP_SAVED)
			cfa += 8 * (off & 127);
		break;
	case RULE_REGISTER:
	case RULE_RETURN_REGISTER:
		return apply_register(w, rule);
	case RULE_NO_CODE:
		return astray(w, END_BAD_ADDRESS);
	default:
		return ended(w, END_INVALID);
	}
	return apply_cfa(w, cfa, bp, w->sp + 1);
}

#endif

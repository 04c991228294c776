/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The registers of an interrupted thread: arm64. */
#ifndef SRPROF_REGS_H
#define SRPROF_REGS_H

#include "task.h"

/* struct user_pt_regs, as the program's context and struct pt_regs begin. */
struct regs {
	u64 x[31];
	u64 sp, pc, pstate;
};
_Static_assert(sizeof(struct regs) == 272, "abi");

/* PSTATE's lowest bits are the exception level, and bit 4 says 32-bit. */
INLINE int is_user(const struct regs *r) { return (r->pstate & 15) == 0; }
INLINE int is_user64(u64 pstate) { return (pstate & 31) == 0 && pstate >> 32 == 0; }

#define KEEP_REGS(w, r)                                                           \
	do {                                                                      \
		(w)->pc = (r)->pc, (w)->sp = (r)->sp, (w)->bp = (r)->x[29];       \
		(w)->lr = (r)->x[30], (w)->lr_known = 1;                          \
	} while (0)

/* Where x29 to pstate lie in what the kernel saved. */
struct saved {
	u64 bp, lr, sp, pc, pstate;
};
#define SAVED_AT (29 * 8)

/* Reads what the kernel saved at its entry. struct pt_regs ends where the
 * stack ends and grew over the years (304 bytes in Linux 4.9, 320 from 4.14,
 * 336 from 5.3, 352 by some distributions): the right size is the one where
 * PSTATE looks like a user's. Largest first: with one too large PSTATE is the
 * user's SP, which has more than 32 bits. */
INLINE int saved_registers(struct walk *w, u64 top)
{
	struct saved r;
#pragma unroll
	for (u32 size = 352; size >= 304; size -= 16) {
		if (probe_read(&r, sizeof(r), (void *)(top - size + SAVED_AT)))
			return 0;
		if (is_user64(r.pstate) && r.sp >> 32 && r.sp % 16 == 0 && r.pc % 4 == 0) {
			w->pc = r.pc, w->sp = r.sp, w->bp = r.bp;
			w->lr = r.lr, w->lr_known = 1;
			return 1;
		}
	}
	return 0;
}

/* The user's registers when the sample was taken. */
INLINE int user_registers(struct regs *ctx, struct walk *w)
{
	if (is_user(ctx)) {
		if (!is_user64(ctx->pstate)) /* a 32-bit task */
			return 0;
		KEEP_REGS(w, ctx);
		return 1;
	}
	u64 top = task_stack_top(ctx->sp);
	return top && saved_registers(w, top);
}

#endif

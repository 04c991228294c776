/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The registers of an interrupted thread: arm64. */
#ifndef SRPROF_REGS_H
#define SRPROF_REGS_H

#include "unwind.h"

/* struct user_pt_regs, as the program's context begins. */
struct regs {
	u64 x[31];
	u64 sp, pc, pstate;
};
_Static_assert(sizeof(struct regs) == 272, "abi");

INLINE int is_user(const struct regs *r) { return (r->pstate & 0x1f) == 0; } /* EL0, 64-bit */

/* Until rules of arm64 are walked, the kernel's walk does it. */
INLINE int user_registers(struct regs *ctx, struct walk *w)
{
	(void)ctx, (void)w;
	return 0;
}

#endif

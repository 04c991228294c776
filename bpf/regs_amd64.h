/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The registers of an interrupted thread: amd64. */
#ifndef SRPROF_REGS_H
#define SRPROF_REGS_H

#include "task.h"

/* struct pt_regs, as the kernel saves it and the program's context begins. */
struct regs {
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	u64 orig_ax, ip, cs, flags, sp, ss;
};
_Static_assert(sizeof(struct regs) == 168, "abi");

#define USER_CS 0x33
#define USER_SS 0x2b

/* The code segment's lowest bits are the privilege level. */
INLINE int is_user(const struct regs *r) { return (r->cs & 3) == 3; }

/* FRED kernels keep more in the upper bits of both. 32-bit tasks have others. */
INLINE int is_user64(u64 cs, u64 ss) { return (cs & 0xffff) == USER_CS && (ss & 0xffff) == USER_SS; }

/* By DWARF number: System V ABI for AMD64, figure 3.36. */
#define KEEP_REGS(w, r)                                                                    \
	do {                                                                               \
		(w)->pc = (r)->ip, (w)->sp = (r)->sp, (w)->bp = (r)->bp;                   \
		(w)->regs[0] = (r)->ax, (w)->regs[1] = (r)->dx, (w)->regs[2] = (r)->cx;    \
		(w)->regs[3] = (r)->bx, (w)->regs[4] = (r)->si, (w)->regs[5] = (r)->di;    \
		(w)->regs[6] = (r)->bp, (w)->regs[7] = (r)->sp, (w)->regs[8] = (r)->r8;    \
		(w)->regs[9] = (r)->r9, (w)->regs[10] = (r)->r10, (w)->regs[11] = (r)->r11; \
		(w)->regs[12] = (r)->r12, (w)->regs[13] = (r)->r13;                        \
		(w)->regs[14] = (r)->r14, (w)->regs[15] = (r)->r15;                        \
		(w)->lr_known = 0;                                                         \
	} while (0)

/* Reads what the kernel saved at its entry, below top. */
INLINE int saved_registers(struct walk *w, u64 top)
{
	struct regs r;
	if (probe_read(&r, sizeof(r), (void *)(top - sizeof(r))) || !is_user64(r.cs, r.ss)) {
		/* FRED kernels (CONFIG_X86_FRED) keep 16 bytes on top. */
		top -= 16;
		if (probe_read(&r, sizeof(r), (void *)(top - sizeof(r))) || !is_user64(r.cs, r.ss))
			return 0;
	}
	KEEP_REGS(w, &r);
	return 1;
}

/* The user's registers when the sample was taken. */
INLINE int user_registers(struct regs *ctx, struct walk *w)
{
	if (is_user(ctx)) {
		if (!is_user64(ctx->cs, ctx->ss)) /* a 32-bit task */
			return 0;
		KEEP_REGS(w, ctx);
		return 1;
	}
	u64 top = task_stack_top(ctx->sp);
	return top && saved_registers(w, top);
}

#endif

/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Walking the user's stack. This is the seam: whatever walks, it writes the
 * addresses leaf first to addr, which has room for PART_FRAMES, and returns
 * how many. Now the kernel's own frame-pointer walk does it, which sees only
 * fragments of code built without frame pointers.
 */
#ifndef SRPROF_UNWIND_H
#define SRPROF_UNWIND_H

#include "abi.h"

INLINE u32 frames_of(long bytes)
{
	if (bytes <= 0) /* no such part: a kernel thread, or not in the kernel */
		return 0;
	u32 n = (u32)bytes / sizeof(u64);
	return n > PART_FRAMES ? PART_FRAMES : n;
}

INLINE u32 walk_kernel(void *ctx, u64 *addr)
{
	return frames_of(get_stack(ctx, addr, PART_FRAMES * sizeof(u64), 0));
}

INLINE u32 walk_user(void *ctx, u64 *addr)
{
	return frames_of(get_stack(ctx, addr, PART_FRAMES * sizeof(u64), STACK_USER));
}

#endif

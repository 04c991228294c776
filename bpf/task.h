/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Where the kernel stack of the current task is, without BTF (which old
 * kernels lack, and reading it costs 17 ms at every start): the offset of
 * task_struct.stack is found out by the program itself.
 */
#ifndef SRPROF_TASK_H
#define SRPROF_TASK_H

#include "maps.h"

#define STACK_BYTES 16384 /* THREAD_SIZE, without KASAN and with pages of 4 KiB */
#define TASK_WORDS 32     /* of task_struct, among which .stack is: at 24 or 32 in all kernels seen */

/* The word of task_struct that holds the start of the stack we are on is
 * .stack. Only so if we are on the task's own stack and not on one for
 * interrupts, so nothing else is ever equal. Any task will do, the idle one
 * too: who is to be sampled may never be met on its own stack. sp is the
 * kernel's stack pointer. */
INLINE void learn_task_stack(u64 sp)
{
	u32 zero = 0;
	u32 *offset = map_lookup(&task_stack, &zero);
	if (MISSING(offset) || *offset)
		return;
	u64 task = get_current_task(), stack = sp & ~(u64)(STACK_BYTES - 1), word;
#pragma unroll
	for (u32 i = 1; i < TASK_WORDS; i++)
		if (!probe_read(&word, 8, (void *)(task + i * 8)) && word == stack)
			*offset = i * 8;
}

/* The end of the current task's kernel stack, where the kernel saved the
 * user's registers at its entry; sp is the kernel's stack pointer, on whatever
 * stack. 0 if it cannot be had. */
INLINE u64 task_stack_top(u64 sp)
{
	u32 zero = 0;
	u32 *offset = map_lookup(&task_stack, &zero);
	u64 stack = sp & ~(u64)(STACK_BYTES - 1);
	if (MISSING(offset))
		return 0;
	if (*offset && probe_read(&stack, 8, (void *)(get_current_task() + *offset)))
		return 0;
	return stack + STACK_BYTES;
}

#endif

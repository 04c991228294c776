//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * One sample: runs in the timer interrupt of each CPU, `frequency` times a
 * second. It walks both parts of the interrupted thread's stack straight into
 * the free end of this CPU's region, hashes what it wrote, and only if that
 * stack is new moves the end forward. So a known stack costs no copy, and the
 * region needs no clean-up.
 */
#include "unwind.h"
#include "maps.h"

char license_text[] SEC("license") = "GPL";

struct stack {
	u64 hash;
	struct stack_ref ref;
};

/* Mixes in one word: multiply and fold, so that every input bit reaches the
 * low bits that select a bucket. Two different stacks of one drain share a
 * hash with a chance of about n^2 / 2^65: never, for n in the thousands. */
INLINE u64 mix(u64 h, u64 word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15ULL;
	return h ^ (h >> 29);
}

/* Walks the current stack to start in region r. */
INLINE void walk(void *ctx, struct region *r, u32 start, struct stack *s)
{
	u32 k = walk_kernel(ctx, &r->addr[start & (REGION_FRAMES - 1)]);
	u32 at = (start & (REGION_FRAMES - 1)) + (k & 127);
	u32 u = walk_user(ctx, &r->addr[at]);

	u64 h = mix(k, u);
	for (u32 i = 0; i < 2 * PART_FRAMES; i++) {
		if (i >= k + u)
			break;
		h = mix(h, r->addr[(start & (REGION_FRAMES - 1)) + i]);
	}
	s->hash = h;
	s->ref.start = start;
	s->ref.kernel_frames = k;
	s->ref.user_frames = u;
}

/* Counts a stack, storing it when it is new. Order matters to the drain: a
 * count that it sees has its stack stored already. */
INLINE void count(void *counts, void *stacks, struct cpu *cpu, struct stack *s, u64 pid_tgid)
{
	struct sample_key key = {.stack = s->hash, .pid = pid_tgid >> 32, .tid = (u32)pid_tgid};
	get_current_comm(key.comm, sizeof(key.comm));
	u64 *n = map_lookup(counts, &key);
	if (n) {
		__sync_fetch_and_add(n, 1);
		return;
	}
	if (!map_lookup(stacks, &s->hash)) {
		long err = map_update(stacks, &s->hash, &s->ref, UPDATE_NOEXIST);
		if (!err)
			cpu->cursor += s->ref.kernel_frames + s->ref.user_frames;
		else if (err != ERR_EXIST) { /* EEXIST: another CPU was first, with the same stack */
			cpu->lost_stacks++;
			return;
		}
	}
	/* Only this thread counts under this key, and it runs here: no race. */
	u64 one = 1;
	if (map_update(counts, &key, &one, UPDATE_NOEXIST))
		cpu->lost_counts++;
}

INLINE void sample_into(void *ctx, struct cpu *cpu, u32 buffer, u64 pid_tgid)
{
	u32 id = get_smp_processor_id();
	u32 index = id * BUFFERS + buffer;
	struct region *r = map_lookup(&regions, &index);
	if (!r || cpu->cursor > REGION_FRAMES - 2 * PART_FRAMES) {
		cpu->lost_stacks++;
		return;
	}
	struct stack s = {.ref = {.cpu = id}};
	walk(ctx, r, cpu->cursor, &s);
	if (buffer)
		count(&counts_1, &stacks_1, cpu, &s, pid_tgid);
	else
		count(&counts_0, &stacks_0, cpu, &s, pid_tgid);
}

SEC("perf_event")
int sample(void *ctx)
{
	u64 pid_tgid = get_current_pid_tgid();
	u32 pid = pid_tgid >> 32, zero = 0;
	if (!map_lookup(&targets, &pid))
		return 0;
	struct config *cfg = map_lookup(&current_config, &zero);
	struct cpu *cpu = map_lookup(&cpus, &zero);
	if (!cfg || !cpu)
		return 0;

	*(volatile u64 *)&cpu->entered += 1;
	u32 epoch = *(volatile u32 *)&cfg->epoch;
	if (cpu->epoch != epoch) {
		cpu->epoch = epoch;
		cpu->cursor = 0;
	}
	if (!cpu->samples++)
		cpu->first_ns = ktime_get_ns();
	sample_into(ctx, cpu, epoch % BUFFERS, pid_tgid);
	*(volatile u64 *)&cpu->left += 1;
	return 0;
}

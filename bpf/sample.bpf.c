//go:build ignore

// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * One sample: runs in the timer interrupt of each CPU, `frequency` times a
 * second. It walks both parts of the interrupted thread's stack straight into
 * the free end of this CPU's region, hashing what it writes, and only if that
 * stack is new moves the end forward. So a known stack costs no copy, and the
 * region needs no clean-up.
 *
 * There are two programs. `sample` is small and loads at once; it finds the
 * registers and the kernel part, and hands over to `walk` when that is there.
 * Until then the kernel's frame-pointer walk stands in.
 */
#if defined(__TARGET_ARCH_x86)
#include "regs_amd64.h"
#else
#include "regs_arm64.h"
#endif
#include "unwind.h"

char license_text[] SEC("license") = "GPL";

/* Counts a stack, storing it when it is new. Order matters to the drain: a
 * count that it sees has its stack stored already. */
INLINE void count_into(void *counts, void *stacks, struct cpu *cpu, struct walk *w)
{
	struct sample_key key = {.stack = w->hash, .pid = w->pid_tgid >> 32, .tid = (u32)w->pid_tgid};
	get_current_comm(key.comm, sizeof(key.comm));
	u64 *n = map_lookup(counts, &key);
	if (!MISSING(n)) {
		__sync_fetch_and_add(n, 1);
		return;
	}
	if (!map_lookup(stacks, &key.stack)) {
		struct stack_ref ref = {
			.start = w->start, .cpu = get_smp_processor_id(), .kernel_frames = w->kernel_frames,
			.user_frames = w->frames, .end = w->end, .interrupted = w->interrupted,
		};
		long err = map_update(stacks, &key.stack, &ref, UPDATE_NOEXIST);
		if (!err)
			cpu->cursor += w->kernel_frames + w->frames;
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

INLINE void leave(struct cpu *cpu) { *(volatile u64 *)&cpu->left += 1; }

/* The end of every sample. */
INLINE void finish(struct cpu *cpu, struct walk *w)
{
	/* Through code whose table is not here yet. Even a root was reached by
	 * luck: frames may be missing. */
	if (w->no_table && w->pending && w->end != END_TRUNCATED)
		w->end = END_FALLBACK;
	/* The same addresses with another meaning are another stack. */
	w->hash = mix(w->hash, (u64)w->interrupted << 32 | w->kernel_frames << 8 | w->end);
	if (w->buffer)
		count_into(&counts_1, &stacks_1, cpu, w);
	else
		count_into(&counts_0, &stacks_0, cpu, w);
	leave(cpu);
}

#if FOR_4_9
/* The kernel's own walk of one part, as one word: its id in a stack trace map.
 * Different stacks may want the same place in it; the second one goes to the
 * overflow. What finds both taken is lost, which is counted. */
INLINE void kernel_walk(void *ctx, struct region *r, u64 flags, struct walk *w, struct cpu *cpu, u32 *frames)
{
	long id = w->buffer ? get_stackid(ctx, &stack_ids_1, flags) : get_stackid(ctx, &stack_ids_0, flags);
	u64 word = id;
	if (id == ERR_EXIST) {
		id = w->buffer ? get_stackid(ctx, &overflow_ids_1, flags) : get_stackid(ctx, &overflow_ids_0, flags);
		word = id | OVERFLOW_ID;
	}
	if (id < 0) {
		if (id == ERR_EXIST)
			cpu->lost_parts++;
		return;
	}
	r = fresh_region(w, r);
	if (MISSING(r))
		return;
	*next_addr(w, r) = word;
	w->hash = mix(w->hash, word);
	*frames = 1;
}
#else
/* The kernel's own walk of one part, to the end of the stack in the region. */
INLINE void kernel_walk(void *ctx, struct region *r, u64 flags, struct walk *w, struct cpu *cpu, u32 *frames)
{
	(void)cpu;
	u64 *to = next_addr(w, r);
	long bytes = get_stack(ctx, to, KERNEL_FRAMES * sizeof(u64), flags);
	if (bytes <= 0) /* no such part: a kernel thread */
		return;
	u32 n = (u32)bytes / sizeof(u64);
	u64 h = w->hash;
	/* Before the loop: each way out of it knows something else of n, and the
	 * verifier would follow what comes after once for each. */
	*frames = n > KERNEL_FRAMES ? KERNEL_FRAMES : n;
	for (u32 i = 0; i < KERNEL_FRAMES; i++) {
		if (i >= n)
			break;
		h = mix(h, to[i]);
	}
	w->hash = h;
}
#endif

INLINE void begin(struct walk *w, u64 pid_tgid, u32 space, u32 buffer, u32 start)
{
	struct space *s = map_lookup(&spaces, &space);
	w->pid_tgid = pid_tgid;
	w->hash = 0;
	w->frames = 0;
	w->kernel_frames = 0;
	w->space = space;
	w->generation = 0;
	w->pending = 1;
	if (!MISSING(s)) {
		w->generation = (u32)s->generation;
		w->pending = !s->generation || s->pending;
	}
	w->end = END_TRUNCATED; /* unless the walk says otherwise */
	w->buffer = buffer;
	w->region = get_smp_processor_id() * BUFFERS + buffer;
	w->start = start;
	w->interrupted = 1;
	w->no_table = 0;
	w->runs = 0;
	w->returned = 0;
	w->lr_known = 0;
	w->window_start = NOWHERE;
}

/* One sample, up to where the user part begins. can_read says whether other
 * memory than maps may be read (a kernel locked down for confidentiality lets
 * no program); a constant, so that what cannot be is not in the program. */
INLINE int take(struct regs *ctx, int can_read)
{
	u64 pid_tgid = get_current_pid_tgid();
	u32 pid = pid_tgid >> 32, zero = 0;
	if (can_read && !is_user(ctx))
		learn_task_stack(ctx->sp);
	struct filter *f = map_lookup(&target_filter, &zero);
	if (MISSING(f) || !(f->word[(pid / 64) & (FILTER_BITS / 64 - 1)] >> (pid & 63) & 1))
		return 0;
	u32 *space = map_lookup(&targets, &pid);
	if (MISSING(space))
		return 0;
	struct config *cfg = map_lookup(&current_config, &zero);
	struct cpu *cpu = map_lookup(&cpus, &zero);
	struct walk *w = map_lookup(&walks, &zero);
	if (MISSING(cfg) || MISSING(cpu) || MISSING(w))
		return 0;

	*(volatile u64 *)&cpu->entered += 1;
	u32 epoch = *(volatile u32 *)&cfg->epoch;
	if (cpu->epoch != epoch) {
		cpu->epoch = epoch;
		cpu->cursor = 0;
	}
	if (!cpu->samples++)
		cpu->first_ns = ktime_get_ns();
	u32 start = cpu->cursor;
	begin(w, pid_tgid, *space, epoch % BUFFERS, start);
	u32 number = w->region;
	struct region *r = map_lookup(&regions, &number);
	if (MISSING(r) || start >= REGION_FRAMES) {
		cpu->lost_stacks++;
		leave(cpu);
		return 0;
	}
	if (!is_user(ctx))
		kernel_walk(ctx, r, 0, w, cpu, &w->kernel_frames);
	if (can_read && user_registers(ctx, w))
		tail_call(ctx, &programs, 0);
	/* There are no registers to walk from, or there is no walk yet. */
	kernel_walk(ctx, r, STACK_USER, w, cpu, &w->frames);
	w->end = w->frames ? END_FALLBACK : END_NONE;
	finish(cpu, w);
	return 0;
}

SEC("perf_event")
int sample(struct regs *ctx) { return take(ctx, 1); }

/* Where user stacks cannot be walked but by the kernel. */
SEC("perf_event")
int sample_locked(struct regs *ctx) { return take(ctx, 0); }

SEC("perf_event")
int walk(struct regs *ctx)
{
	u32 zero = 0;
	struct walk *w = map_lookup(&walks, &zero);
	struct cpu *cpu = map_lookup(&cpus, &zero);
	if (MISSING(w) || MISSING(cpu))
		return 0;
	w->runs++;
	int step = walk_on(cpu, w);
	PATHS_MEET();
	if (step != STEP_DONE) {
		tail_call(ctx, &programs, 0);
		/* The kernel allows no more tail calls: then it is truncated, which is
		 * what end says from the beginning. Or this program is just being put
		 * in its place, and the way to itself is not there yet. */
		if (w->runs < WALK_RUNS)
			w->end = END_FALLBACK;
	}
	finish(cpu, w);
	return 0;
}

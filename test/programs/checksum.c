//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Computes a checksum of as many rounds of work as argument 1 says, once a byte
// comes on standard input, in two threads: with integers, with floating-point
// and vector registers, in memory, below many frames, and through the kernel.
// Whatever disturbs a register, a byte or a result shows in the sum. It prints
// the sum, and the CPU time and the time that it took in nanoseconds.
//
// build: -O3 -pthread -ffp-contract=off
// expect: round_of_work 100

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

enum { SIZE = 64 << 10 };

struct worker {
	uint64_t sum;
	long rounds;
	int pipe[2];
	uint8_t from[SIZE], to[SIZE];
	float vector[4096];
};

static uint64_t mix(uint64_t sum, uint64_t x)
{
	return (sum ^ x) * 6364136223846793005u + 1442695040888963407u;
}

static NOINLINE uint64_t integers(uint64_t x)
{
	for (int i = 0; i < 100000; i++)
		x = mix(x, x >> 29);
	return x;
}

// The order of operations is fixed, and so is each rounding.
static NOINLINE uint64_t floats(struct worker *w, uint64_t seed)
{
	double a = (double)(seed >> 12) / (double)(1ull << 52), b = 1;
	uint64_t bits, sum = 0;

	for (int i = 1; i < 20000; i++) {
		b = b * 0.999 + a / i;
		a = a * (1 - a) * 3.99 + 1e-12 * b;
	}
	for (int i = 0; i < 4096; i++)
		w->vector[i] = w->vector[i] * 0.5f + (float)a;
	memcpy(&bits, &b, sizeof bits);
	for (int i = 0; i < 4096; i += 2) {
		uint64_t two;

		memcpy(&two, &w->vector[i], sizeof two);
		sum = mix(sum, two);
	}
	return sum ^ bits;
}

static NOINLINE uint64_t memory(struct worker *w, uint64_t seed)
{
	uint64_t sum = 0, x = seed;

	for (int i = 0; i < SIZE; i++)
		w->from[i] = (uint8_t)((x = mix(x, i)) >> 56);
	memmove(w->to, w->from + seed % 64, SIZE - 64);
	for (int i = 0; i < SIZE; i += 8) {
		uint64_t word;

		memcpy(&word, w->to + i, sizeof word);
		sum = mix(sum, word);
	}
	return sum;
}

static NOINLINE uint64_t kernel(struct worker *w)
{
	uint64_t sum = 0;

	for (int i = 0; i < 100; i++) {
		uint8_t got[512];

		if (write(w->pipe[1], w->to + i, sizeof got) != sizeof got || read(w->pipe[0], got, sizeof got) != sizeof got)
			exit(3);
		sum = mix(sum, got[i] | (uint64_t)got[511 - i] << 8);
	}
	return sum;
}

static NOINLINE uint64_t deep(uint64_t x, int frames)
{
	volatile uint64_t kept = x;

	if (frames == 0)
		return integers(x);
	uint64_t below = deep(mix(x, frames), frames - 1);
	return mix(below, kept);
}

static NOINLINE void round_of_work(struct worker *w, long n)
{
	w->sum = mix(w->sum, integers(w->sum + n));
	w->sum = mix(w->sum, floats(w, w->sum));
	w->sum = mix(w->sum, memory(w, w->sum));
	w->sum = mix(w->sum, kernel(w));
	w->sum = mix(w->sum, deep(w->sum, 100));
}

static void *work(void *of)
{
	struct worker *w = of;

	for (long n = 0; n < w->rounds; n++)
		round_of_work(w, n);
	return NULL;
}

static int64_t nanoseconds(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

int main(int argc, char **argv)
{
	static struct worker w[2];
	pthread_t t;
	char byte;

	if (argc != 2)
		return 2;
	for (int i = 0; i < 2; i++) {
		w[i].sum = i;
		w[i].rounds = atol(argv[1]);
		if (pipe(w[i].pipe))
			return 2;
	}
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) != 1)
		return 1;
	int64_t cpu = nanoseconds(CLOCK_PROCESS_CPUTIME_ID), wall = nanoseconds(CLOCK_MONOTONIC);
	if (pthread_create(&t, NULL, work, &w[1]))
		return 2;
	work(&w[0]);
	pthread_join(t, NULL);
	printf("%016llx %lld %lld\n", (unsigned long long)mix(w[0].sum, w[1].sum),
	       (long long)(nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpu), (long long)(nanoseconds(CLOCK_MONOTONIC) - wall));
	return 0;
}

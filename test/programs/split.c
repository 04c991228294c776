//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// One thread that spends its time in three functions, 60 : 30 : 10.
//
// build: -O2
// expect: main;run;hot_a 60
// expect: main;run;hot_b 30
// expect: main;run;hot_c 10

#include <stdint.h>
#include <stdio.h>

#define NOINLINE __attribute__((noinline, noclone))

// One unit of work, some 30 µs: a chain in which each multiplication waits for
// the one before, so that it costs the same wherever the compiler puts it. The
// multipliers differ, or equal functions would be merged into one. The volatile
// variable makes the compiler give the function a frame, without which a walk by
// frame pointer would miss its caller.
#define WORK(name, multiplier)                       \
	static NOINLINE uint64_t name(uint64_t x)    \
	{                                            \
		volatile uint64_t first = x;         \
		x = first;                           \
		for (int i = 0; i < 20000; i++)      \
			x = x * (multiplier) + 1;    \
		return x;                            \
	}

WORK(hot_a, 6364136223846793005u)
WORK(hot_b, 2862933555777941757u)
WORK(hot_c, 3202034522624059733u)

// Ten units, in another order each round: the shares are exact, and sampling
// cannot run in step with them.
static NOINLINE uint64_t run(uint64_t x)
{
	static uint64_t (*units[10])(uint64_t) = {hot_a, hot_a, hot_a, hot_a, hot_a, hot_a, hot_b, hot_b, hot_b, hot_c};

	for (int i = 9; i > 0; i--) {
		int j = (x >> 33) % (i + 1);
		uint64_t (*u)(uint64_t) = units[i];
		units[i] = units[j];
		units[j] = u;
		x = x * 6364136223846793005u + 1442695040888963407u;
	}
	for (int i = 0; i < 10; i++)
		x = units[i](x);
	return x;
}

int main(void)
{
	puts("ready");
	fflush(stdout);
	for (volatile uint64_t x = 1;;)
		x = run(x);
}

//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Most of the time is spent in a shared library.
//
// build: -O2
// library: libhot.c
// expect: main;run;library_run;hidden_work 30
// expect: main;run;library_run;library_work 50
// expect: main;run;own_work 20

#include <stdint.h>
#include <stdio.h>

#define NOINLINE __attribute__((noinline, noclone))

uint64_t library_run(uint64_t x, int hidden);

// One unit of work: see split.c.
static NOINLINE uint64_t own_work(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 3202034522624059733u + 1;
	return x;
}

static NOINLINE uint64_t run(uint64_t x)
{
	static int units[10] = {0, 0, 0, 1, 1, 1, 1, 1, 2, 2};

	for (int i = 9; i > 0; i--) {
		int j = (x >> 33) % (i + 1), u = units[i];
		units[i] = units[j];
		units[j] = u;
		x = x * 6364136223846793005u + 1442695040888963407u;
	}
	for (int i = 0; i < 10; i++)
		x = units[i] == 2 ? own_work(x) : library_run(x, units[i] == 0);
	return x;
}

int main(void)
{
	puts("ready");
	fflush(stdout);
	for (volatile uint64_t x = 1;;)
		x = run(x);
}

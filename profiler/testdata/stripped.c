// SPDX-License-Identifier: Apache-2.0

// Runs for as many seconds of CPU time as its argument says, in a function that
// strip takes the name of, and one that is inlined into it.
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static volatile unsigned long sink;

static inline __attribute__((always_inline)) void innermost(unsigned long n)
{
	for (unsigned long i = 0; i < n; i++)
		sink += i * i;
}

static __attribute__((noinline)) void stripped_away(unsigned long n)
{
	innermost(n);
	sink++;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 1e9;
	puts("ready");
	fflush(stdout);
	while (clock() < seconds * CLOCKS_PER_SEC)
		stripped_away(1000000);
	return 0;
}

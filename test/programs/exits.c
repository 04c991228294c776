//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Works for as many milliseconds of CPU time as argument 1 says, from a byte on
// standard input on, then exits.
//
// build: -O2
// expect: main;hot_a 100

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

// One unit of work: see split.c.
static __attribute__((noinline, noclone)) uint64_t hot_a(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static int64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	int64_t lasts = argc > 1 ? atoi(argv[1]) : 500;
	char byte;

	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) != 1)
		return 1;
	int64_t until = milliseconds() + lasts;
	for (volatile uint64_t x = 1; milliseconds() < until;)
		for (int i = 0; i < 100; i++) /* this clock is a system call */
			x = hot_a(x);
	return 0;
}

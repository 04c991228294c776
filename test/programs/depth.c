//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Works below as many frames as argument 1 says, for the cost of a sample by
// the depth of its stack. With a second argument it begins when a byte comes on
// standard input.
//
// build: -O2
// expect: descend;hot_a 100
// stack: (start);main|descend{401};hot_a

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

// One unit of work: see split.c.
static NOINLINE uint64_t hot_a(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static NOINLINE uint64_t descend(int frames)
{
	if (frames > 0)
		return descend(frames - 1) ^ 1;
	volatile uint64_t x = 1;
	do
		x = hot_a(x);
	while (x != 0); // it never is, but the compiler warns if it can be sure
	return x;
}

int main(int argc, char **argv)
{
	char byte;

	puts("ready");
	fflush(stdout);
	if (argc > 2 && read(0, &byte, 1) < 0)
		return 1;
	return (int)descend(argc > 1 ? atoi(argv[1]) : 10);
}

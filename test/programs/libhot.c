//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// The library of shared.c.

#include <stdint.h>

#define NOINLINE __attribute__((noinline, noclone))

// One unit of work: see split.c. This one is found in .symtab only.
static NOINLINE uint64_t hidden_work(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

// And this one in .dynsym.
NOINLINE uint64_t library_work(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 2862933555777941757u + 1;
	return x;
}

NOINLINE uint64_t library_run(uint64_t x, int hidden)
{
	return (hidden ? hidden_work(x) : library_work(x)) ^ 1;
}

//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// A library for dlopens.c. The same, with other frames.
//
// build: -O2

#include <stdint.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile uint64_t sink;

static NOINLINE uint64_t spin(uint64_t x)
{
	for (int i = 0; i < 8000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static NOINLINE uint64_t wide(uint64_t x)
{
	volatile uint64_t values[40];

	values[x & 31] = x;
	sink = spin(x);
	return sink ^ values[x & 31];
}

static NOINLINE uint64_t large(uint64_t x)
{
	volatile uint64_t values[100];

	values[x & 63] = x;
	sink = wide(x);
	return sink + values[x & 63];
}

uint64_t plugin_second(uint64_t x)
{
	for (int i = 0; i < 3000; i++)
		x = large(x);
	return x;
}

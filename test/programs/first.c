//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// A library for dlopens.c. Its frames are small.
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

static NOINLINE uint64_t small(uint64_t x)
{
	sink = spin(x);
	return sink ^ 1;
}

uint64_t plugin_first(uint64_t x)
{
	for (int i = 0; i < 3000; i++)
		x = small(x);
	return x;
}

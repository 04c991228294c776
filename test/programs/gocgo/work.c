// SPDX-License-Identifier: Apache-2.0

// The C side of gocgo. cgo compiles it with -O2, so without frame pointers.

#include <pthread.h>
#include <stdint.h>

#include "_cgo_export.h"

#define NOINLINE __attribute__((noinline, noclone))

static volatile uint64_t sink;

NOINLINE uint64_t c_spin(uint64_t x)
{
	for (int i = 0; i < 8000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

NOINLINE uint64_t c_second(uint64_t x)
{
	sink = c_spin(x);
	return sink ^ 2;
}

uint64_t c_first(uint64_t x)
{
	for (int i = 0; i < 5; i++)
		x = c_second(x);
	return x ^ 1;
}

uint64_t c_back(uint64_t x)
{
	sink = goWork(x);
	return sink ^ 3;
}

static void *c_thread(void *x)
{
	for (;;)
		sink = goWork(sink);
	return x;
}

int c_start(void)
{
	pthread_t t;

	return pthread_create(&t, NULL, c_thread, NULL);
}

//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Threads that each do the split of split.c: half of them (argument 1, else
// 1000, is how many in all) from the beginning, the others when a byte comes
// on standard input. The main thread only waits.
//
// build: -O2 -pthread
// expect: worker;run;hot_a 60
// expect: worker;run;hot_b 30
// expect: worker;run;hot_c 10

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

// One unit of work: see split.c.
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

static NOINLINE uint64_t run(int units[10], uint64_t x)
{
	for (int i = 9; i > 0; i--) {
		int j = (x >> 33) % (i + 1), u = units[i];
		units[i] = units[j];
		units[j] = u;
		x = x * 6364136223846793005u + 1442695040888963407u;
	}
	for (int i = 0; i < 10; i++)
		x = units[i] == 0 ? hot_a(x) : units[i] == 1 ? hot_b(x) : hot_c(x);
	return x;
}

static NOINLINE void *worker(void *seed)
{
	int units[10] = {0, 0, 0, 0, 0, 0, 1, 1, 1, 2};

	for (volatile uint64_t x = (uintptr_t)seed;;)
		x = run(units, x);
	return NULL;
}

static void start(int from, int to)
{
	pthread_attr_t small;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	for (int i = from; i < to; i++) {
		pthread_t t;
		if (pthread_create(&t, &small, worker, (void *)(uintptr_t)(i + 1))) {
			perror("pthread_create");
			exit(1);
		}
	}
}

int main(int argc, char **argv)
{
	int all = argc > 1 ? atoi(argv[1]) : 1000;
	char byte;

	start(0, all / 2);
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) == 1)
		start(all / 2, all);
	for (;;)
		pause();
}

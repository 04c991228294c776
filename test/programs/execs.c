//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Works until a byte comes on standard input, then becomes another program:
// its arguments.
//
// build: -O2 -pthread
// expect: worker;before_exec 100

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

// One unit of work: see split.c.
static __attribute__((noinline, noclone)) uint64_t before_exec(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static __attribute__((noinline, noclone)) void *worker(void *unused)
{
	(void)unused;
	for (volatile uint64_t x = 1;;)
		x = before_exec(x);
	return NULL;
}

int main(int argc, char **argv)
{
	pthread_t t;
	char byte;

	if (argc < 2 || pthread_create(&t, NULL, worker, NULL))
		return 2;
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) != 1)
		return 1;
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 1;
}

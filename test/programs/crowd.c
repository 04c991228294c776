//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// 1,000 threads (or -DTHREADS=…), of which two run at a time: each works for a
// moment and wakes the next but one. It begins when a byte comes on standard
// input.
//
// build: -O2 -pthread
// stack: (clone);(thread);worker|turn;outer;inner;spin
// also: (clone);(thread);worker|turn;(wait){1,4}

#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

#ifndef THREADS
#define THREADS 1000
#endif

enum { AT_A_TIME = 2 };

static sem_t turns[THREADS];

static NOINLINE uint64_t spin(uint64_t x)
{
	for (int i = 0; i < 200000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static NOINLINE uint64_t inner(volatile uint64_t *x)
{
	*x = spin(*x);
	return *x ^ 2;
}

static NOINLINE uint64_t outer(volatile uint64_t *x)
{
	*x = inner(x);
	return *x ^ 1;
}

static NOINLINE void turn(int i, volatile uint64_t *x)
{
	while (sem_wait(&turns[i]))
		;
	for (int n = 0; n < 4; n++)
		*x = outer(x);
	sem_post(&turns[(i + AT_A_TIME) % THREADS]);
	*x ^= 1;
}

static void *worker(void *number)
{
	volatile uint64_t x = 1;

	for (;;)
		turn((int)(intptr_t)number, &x);
	return NULL;
}

int main(void)
{
	pthread_attr_t small;
	pthread_t t;
	char byte;

	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 64 << 10);
	for (intptr_t i = 0; i < THREADS; i++)
		if (sem_init(&turns[i], 0, 0) || pthread_create(&t, &small, worker, (void *)i))
			return 1;
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return 1;
	for (int i = 0; i < AT_A_TIME; i++)
		sem_post(&turns[i]);
	for (;;)
		pause();
}

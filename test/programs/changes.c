//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Works in one function, hot_a, hot_b or hot_c by argument 1. After as many
// milliseconds as argument 3 says, argument 2 happens:
//
//	stay     nothing: it works on
//	exit     it exits
//	exec     it becomes a program that works in the next function
//	fork     from the start it only waits for children, each of which works so long
//	threads  from the start two threads work, each of which lives so long
//
// build: -O2 -pthread
// expect: hot_a 100

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
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

static uint64_t (*hot)(uint64_t);
static int64_t lasts;

static int64_t milliseconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static NOINLINE void *work(void *forever)
{
	int64_t until = milliseconds() + lasts;

	for (volatile uint64_t x = 1; forever || milliseconds() < until;)
		x = hot(x);
	return NULL;
}

static void children(void)
{
	for (;;) {
		pid_t pid = fork();

		if (pid == 0) {
			work(NULL);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			exit(1);
	}
}

static void threads(void)
{
	pthread_t t[2];

	for (;;) {
		for (int i = 0; i < 2; i++)
			if (pthread_create(&t[i], NULL, work, NULL))
				exit(1);
		for (int i = 0; i < 2; i++)
			pthread_join(t[i], NULL);
	}
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	char which = argv[1][0];
	hot = which == 'a' ? hot_a : which == 'b' ? hot_b : hot_c;
	lasts = atoi(argv[3]);
	puts("ready");
	fflush(stdout);
	if (!strcmp(argv[2], "fork"))
		children();
	if (!strcmp(argv[2], "threads"))
		threads();
	work(strcmp(argv[2], "stay") ? NULL : argv);
	if (!strcmp(argv[2], "exec")) {
		char next[] = {which == 'c' ? 'a' : which + 1, 0};

		execl("/proc/self/exe", argv[0], next, "stay", "0", (char *)NULL);
		return 1;
	}
	return 0;
}

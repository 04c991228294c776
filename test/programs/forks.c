//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// A parent that sleeps while its children work, one after the other on each of
// two lanes: each child works for some 25 ms of CPU time, every other one
// through a child of its own, and exits. With an argument it begins when a byte
// comes on standard input. A child that exits has no stack any more while the
// kernel ends it.
//
// build: -O2
// expect: main;child;hot_a 60
// expect: main;child;hot_b 40
// stack: (start);main|child;hot_a
// stack: (start);main|child;hot_b
// also: (start);main|(fork){1,5}
// also: _exit|_exit

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
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

static NOINLINE void child(uint64_t seed)
{
	volatile uint64_t x = seed;

	for (int i = 0; i < 800; i++) {
		uint64_t y = x * 6364136223846793005u + seed;
		x = (y >> 33) % 10 < 6 ? hot_a(y) : hot_b(y);
	}
}

int main(int argc, char **argv)
{
	char byte;

	(void)argv;
	puts("ready");
	fflush(stdout);
	if (argc > 1 && read(0, &byte, 1) < 0)
		return 1;
	for (uint64_t n = 0;; n++) {
		pid_t pid = fork();
		if (pid < 0) {
			perror("fork");
			return 1;
		}
		if (pid == 0) {
			if (n % 2 && fork() > 0) {
				wait(NULL); // the grandchild works
				_exit(0);
			}
			child(n + 1);
			_exit(0);
		}
		if (n >= 1)
			wait(NULL);
	}
}

//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Starts itself again and again: each child executes this program with an
// argument, works for some milliseconds and exits. It begins when a byte comes
// on standard input, and is to be recorded with its children.
//
// build: -O2
// stack: (start);main|work;outer;inner;spin
// also: (start);main|parent;(fork){1,5}
// also: (loader)|(loader){1,30}
// also: _start;__libc_start_main*|...

#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile uint64_t sink;

static NOINLINE uint64_t spin(uint64_t x)
{
	for (int i = 0; i < 8000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static NOINLINE uint64_t inner(uint64_t x)
{
	sink = spin(x);
	return sink ^ 1;
}

static NOINLINE uint64_t outer(uint64_t x)
{
	sink = inner(x);
	return sink ^ 2;
}

static NOINLINE void work(void)
{
	for (int i = 0; i < 12000; i++) // some 100 ms
		sink = outer(sink);
}

static NOINLINE void parent(char *self)
{
	char *arguments[] = {self, "work", NULL};
	pid_t pid = fork();

	if (pid == 0) {
		execv(self, arguments);
		_exit(1);
	}
	if (pid > 0)
		wait(NULL);
	sink++;
}

int main(int argc, char **argv)
{
	char byte;

	if (argc > 1) {
		work();
		return 0;
	}
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return 1;
	for (;;)
		parent(argv[0]);
}

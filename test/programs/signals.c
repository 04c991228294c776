//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// A timer's signal interrupts a computation and a system call, the handler runs
// on an alternate stack (argument 1 is "alternate") or the same one; the
// interrupted stack goes on below the handler. It begins when a byte comes on
// standard input.
//
// build: -O2
// stack: (start);main|run;compute;spin;(restore);handler;handle;spin
// stack: (start);main|run;call;(sleep){1,3};(restore);handler;handle;spin
// stack: (start);main|run;raiser;(raise){1,4};(restore);handler;handle;spin

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile uint64_t sink;

// Some 10 µs: a chain in which each multiplication waits for the one before.
static NOINLINE uint64_t spin(uint64_t x)
{
	for (int i = 0; i < 8000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static NOINLINE void handle(int n)
{
	for (int i = 0; i < 60; i++)
		sink = spin((uint64_t)n + sink);
}

static void handler(int n)
{
	handle(n);
	sink ^= 1;
}

static NOINLINE uint64_t compute(uint64_t x)
{
	for (int i = 0; i < 60; i++) {
		sink = spin(x);
		x += sink;
	}
	return x;
}

// Waits in a system call, which the signal interrupts.
static NOINLINE uint64_t call(uint64_t x)
{
	struct timespec t = {0, 1000000};

	x += (uint64_t)nanosleep(&t, NULL);
	return x + sink;
}

// A signal that the thread sends itself.
static NOINLINE uint64_t raiser(uint64_t x)
{
	x += (uint64_t)raise(SIGUSR1);
	return x + sink;
}

static NOINLINE uint64_t run(uint64_t x)
{
	x = compute(x);
	x += call(x);
	return x + raiser(x);
}

int main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = handler};
	struct itimerval every = {{0, 1700}, {0, 1700}};
	char byte;

	if (argc > 1 && !strcmp(argv[1], "alternate")) {
		stack_t stack = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
		if (sigaltstack(&stack, NULL))
			return 1;
		act.sa_flags = SA_ONSTACK;
	}
	sigaddset(&act.sa_mask, SIGALRM);
	if (sigaction(SIGALRM, &act, NULL) || sigaction(SIGUSR1, &act, NULL))
		return 1;
	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0 || setitimer(ITIMER_REAL, &every, NULL))
		return 1;
	for (volatile uint64_t x = 1;;)
		x = run(x);
}

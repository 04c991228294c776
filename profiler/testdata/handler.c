// SPDX-License-Identifier: Apache-2.0

// Works, and half of the time in the handler of a timer's signal:
// main -> interrupted -> (signal) -> handler -> hot.

#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/time.h>

#define NOINLINE __attribute__((noinline, noclone))

static volatile uint64_t sink;

static NOINLINE uint64_t hot(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static void handler(int signal)
{
	for (int i = 0; i < 500; i++)
		sink = hot(sink + signal);
}

static NOINLINE void interrupted(void)
{
	for (int i = 0; i < 1000000; i++)
		sink += i;
	sink++;
}

int main(void)
{
	struct itimerval often = {{0, 20000}, {0, 20000}};

	signal(SIGALRM, handler);
	setitimer(ITIMER_REAL, &often, 0);
	puts("ready");
	fflush(stdout);
	for (;;)
		interrupted();
}

//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// Counts its units of work in a file (argument 1) that others can read, to tell
// how fast it runs. It works below some frames, as programs do.
//
// build: -O2
// expect: descend;hot_a 100

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define NOINLINE __attribute__((noinline, noclone))

// What readers find: the units done, the wall time when that was, and the CPU
// time of this thread, in ns.
struct meter {
	volatile uint64_t units, wall_ns, cpu_ns;
};

// One unit of work: see split.c.
static NOINLINE uint64_t hot_a(uint64_t x)
{
	volatile uint64_t first = x;

	x = first;
	for (int i = 0; i < 20000; i++)
		x = x * 6364136223846793005u + 1;
	return x;
}

static uint64_t now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static NOINLINE uint64_t descend(struct meter *m, int frames)
{
	if (frames > 0)
		return descend(m, frames - 1) ^ 1;
	volatile uint64_t x = 1;
	do {
		for (int i = 0; i < 20; i++)
			x = hot_a(x);
		m->wall_ns = now(CLOCK_MONOTONIC);
		m->cpu_ns = now(CLOCK_THREAD_CPUTIME_ID);
		m->units += 20;
	} while (x != 0);
	return x;
}

int main(int argc, char **argv)
{
	int fd = argc > 1 ? open(argv[1], O_RDWR | O_CREAT, 0600) : -1;

	if (fd < 0 || ftruncate(fd, sizeof(struct meter))) {
		perror("meter");
		return 1;
	}
	struct meter *m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (m == MAP_FAILED) {
		perror("meter");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	return (int)descend(m, 20);
}

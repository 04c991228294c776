//go:build ignore

// SPDX-License-Identifier: Apache-2.0

// The kinds of frames that C compilers make, in turn: plain ones, ones whose
// size is known at run time only (alloca, variable-length arrays), realigned
// ones, ones that use every register, recursion, callbacks out of a library and
// leaves in one, page faults and system calls; the latter four not if argument 1
// is "own". It begins when a byte comes on standard input.
//
// Nothing may be a tail call, be inlined or be taken for pure: each function
// works on what its call returned, by way of a volatile variable.
//
// build: -O2
// stack: (start);main|run;first;second;third;spin
// stack: (start);main|run;sized;spin
// stack: (start);main|run;array;spin
// stack: (start);main|run;aligned;spin
// stack: (start);main|run;crowded;spin
// stack: (start);main|run;down{24};spin
// also: (start);main|run;sort;(libc){1,20};compare;spin
// also: (start);main|run;copy;(libc){1,4}
// also: (start);main|run;touch;(libc){1,4}

#define _GNU_SOURCE
#include <alloca.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static NOINLINE uint64_t third(uint64_t x)
{
	sink = spin(x);
	return sink ^ 3;
}

static NOINLINE uint64_t second(uint64_t x)
{
	sink = third(x);
	return sink ^ 2;
}

static NOINLINE uint64_t first(uint64_t x)
{
	sink = second(x);
	return sink ^ 1;
}

// The stack grows by turns, and the frame with it.
static NOINLINE uint64_t sized(uint64_t x)
{
	for (int i = 1; i <= 3; i++) {
		volatile char *p = alloca((x & 255) + 16 * i);
		p[0] = (char)x;
		x = spin(x) + p[0];
	}
	return x;
}

static NOINLINE uint64_t array(uint64_t x)
{
	volatile uint64_t values[(x & 63) + 1];

	values[x & 63] = x;
	sink = spin(x);
	return values[x & 63] + sink;
}

// A variable that must lie on a 64-byte boundary, and one whose size is not
// known: the frame hangs on a register of its own.
static NOINLINE uint64_t aligned(uint64_t x)
{
	volatile uint64_t line[8] __attribute__((aligned(64)));
	volatile char more[(x & 127) + 1];

	line[0] = x;
	more[x & 127] = 1;
	sink = spin(x);
	return line[0] + more[x & 127] + sink;
}

// More values that live across the call than there are registers to keep them.
static NOINLINE uint64_t crowded(uint64_t x)
{
	uint64_t a = x + 1, b = x ^ 2, c = x * 3, d = x - 4, e = x << 5, f = x >> 6, g = ~x, h = -x;

	for (int i = 0; i < 2; i++) {
		x = spin(x + a);
		a += b ^ x, b += c ^ x, c += d ^ x, d += e ^ x, e += f ^ x, f += g ^ x, g += h ^ x, h += a ^ x;
	}
	return a ^ b ^ c ^ d ^ e ^ f ^ g ^ h;
}

static NOINLINE uint64_t down(int frames, uint64_t x)
{
	sink = frames > 1 ? down(frames - 1, x) : spin(x);
	return sink + 1;
}

static NOINLINE int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	sink = spin(x);
	return x < y ? -1 : x > y;
}

static NOINLINE uint64_t sort(uint64_t x)
{
	uint64_t values[6];

	for (int i = 0; i < 6; i++)
		values[i] = x = x * 6364136223846793005u + 1442695040888963407u;
	qsort(values, 6, sizeof values[0], compare);
	return values[x & 3];
}

static NOINLINE uint64_t copy(uint64_t x)
{
	static char from[1 << 16], to[1 << 16];
	size_t (*volatile length)(const char *) = strlen;

	memset(from, (int)(x & 127) + 1, sizeof from - 1);
	memcpy(to, from, sizeof to - (x & 63));
	return x + length(from) + (uint64_t)to[x & 1023];
}

// Each page is there only when it is written to.
static NOINLINE uint64_t touch(uint64_t x)
{
	enum { PAGES = 32, SIZE = 4096 };
	volatile char *p = mmap(NULL, PAGES * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return x;
	for (int i = 0; i < PAGES; i++)
		p[i * SIZE] = (char)x;
	x += (uint64_t)p[SIZE];
	munmap((void *)p, PAGES * SIZE);
	return x ^ 1;
}

static NOINLINE uint64_t run(uint64_t x, int own)
{
	x = first(x);
	x += sized(x);
	x += array(x);
	x += aligned(x);
	x += crowded(x);
	x += down(24, x);
	if (own)
		return x;
	x += sort(x);
	for (int i = 0; i < 10; i++)
		x += copy(x);
	x += touch(x);
	return x;
}

int main(int argc, char **argv)
{
	char byte;

	puts("ready");
	fflush(stdout);
	if (read(0, &byte, 1) < 0)
		return 1;
	for (volatile uint64_t x = 1;;)
		x = run(x, argc > 1 && !strcmp(argv[1], "own"));
}
